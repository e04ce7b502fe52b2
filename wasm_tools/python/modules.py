"""What a program may import, and the functions of it that need what is not here.

Chosen: calculation, text, data structures and formats. Left out: files, processes, sockets,
threads, and what reaches into the interpreter. All are imported now, while the component is
built; importing anything later would ask for files, and asking ends the whole call.
"""

import builtins as real_builtins
import importlib
import sys
import warnings

sys.modules["_datetime"] = None  # the one written in Python asks `time`, which is changed below

# Also left out by decision: secrets and timeit, for there is no chance and no clock.
CHOSEN = """
abc array ast base64 binascii bisect calendar cmath collections collections.abc colorsys
contextlib copy csv dataclasses datetime decimal difflib enum fnmatch fractions functools graphlib
hashlib heapq hmac html html.parser io ipaddress itertools json keyword math numbers operator
pprint random re statistics string struct sys textwrap time tomllib types typing unicodedata
urllib.parse uuid xml.etree.ElementTree zlib __future__
"""
MODULES = CHOSEN.split()
for _name in MODULES:
    importlib.import_module(_name)

TOP = {name.partition(".")[0] for name in MODULES}


def refuse(what):
    """A function that says what is not here instead of asking the host for it."""

    def refused(*_args, **_kwargs):
        raise OSError(f"there is no {what} here")

    return refused


def guarded_import(name, scope=None, local=None, fromlist=(), level=0):
    if level or name.partition(".")[0] not in TOP:
        raise ImportError(f"{name} is not among the modules here: {', '.join(MODULES)}")
    return real_builtins.__import__(name, scope, local, fromlist, level)


def builtins():
    """The program's own builtins."""
    scope = dict(vars(real_builtins))
    scope["__import__"] = guarded_import
    scope["open"] = refuse("file")
    scope["input"] = refuse("input")
    scope["breakpoint"] = refuse("debugger")
    return scope


def without_clock():
    import time

    def given(function):
        def converted(seconds=None, *rest):
            return refuse("clock")() if seconds is None else function(seconds, *rest)

        return converted

    for name in (
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "sleep",
        "perf_counter_ns",
        "process_time",
        "process_time_ns",
        "thread_time",
        "thread_time_ns",
        "clock_gettime",
        "clock_gettime_ns",
        "clock_getres",
    ):
        if hasattr(time, name):
            setattr(time, name, refuse("clock"))
    for name in ("gmtime", "localtime", "ctime"):
        setattr(time, name, given(getattr(time, name)))
    strftime, asctime = time.strftime, time.asctime
    time.strftime = lambda form, *at: strftime(form, *at) if at else refuse("clock")()
    time.asctime = lambda *at: asctime(*at) if at else refuse("clock")()


def without_chance():
    """`random` from a fixed beginning; a generator made without a seed has one by its number."""
    import os
    import random

    os.urandom = refuse("source of chance")
    seeds = iter(range(1, sys.maxsize))

    class Random(random.Random):
        def __new__(cls, *_args, **_kwargs):
            return super().__new__(cls, 0)

        def seed(self, a=None, version=2):
            super().seed(next(seeds) if a is None else a, version)

    random.Random = Random
    shared = Random(0)
    for name in random.__all__:
        method = getattr(shared, name, None)
        if callable(method) and name not in ("Random", "SystemRandom"):
            setattr(random, name, method)
    random.SystemRandom = refuse("source of chance")


def no_files(event, _details):
    """An audit hook: the parser and others open files on their own, to quote a line in an error."""
    if event == "open" or event.startswith(("os.", "socket.", "subprocess.", "ctypes.")):
        raise OSError("there is no file here")


without_clock()
without_chance()
BUILTINS = builtins()
warnings.simplefilter("ignore")  # showing one looks for the program's file
