"""What a tool written in Python stands on: `functions` of its tool.py, called by name.

A function takes the arguments object and answers a JSON value; an exception it raises ends the
call in that exception's own words. Modules are imported while the component is built, for at run
time there are no files.
"""

import gc
import json
import re
import sys

import tool
from componentize_py_types import Err
from describe import DESCRIPTION

MAX_DEPTH = 100
BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
kept: list[object] = []
HALF_PAIRS = re.compile("[\ud800-\udfff]")


class WitWorld:
    """The exports of `tool.wit`."""

    def describe(self) -> str:
        return DESCRIPTION

    def call(self, text: str) -> str:
        import_no_more()
        try:
            return sound(answer(text))
        except Exception as error:
            raise Err(sound(str(error) or type(error).__name__)) from None


def import_no_more() -> None:
    """Lets a late import fail in words; looking for its file would end the whole call.

    The old values are kept: to free what they hold would touch a hundred pages of the snapshot.
    """
    kept.extend((sys.path, sys.path_hooks, sys.path_importer_cache))
    sys.path, sys.path_hooks, sys.path_importer_cache = [], [], {}


def answer(text: str) -> str:
    function, arguments = parse(text)
    value = tool.functions[function](arguments)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def parse(text: str) -> tuple:
    try:
        call = None if deep(text) else json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the call is not JSON, or nested too deep") from None
    if call is None:
        raise ValueError("the call is null, or nested too deep")
    if not isinstance(call, dict):
        raise ValueError("the call must be a JSON object")
    if not isinstance(call.get("function"), str):
        raise ValueError("the call names no function")
    if call["function"] not in tool.functions:
        raise ValueError(f"there is no function {call['function']}")
    if not isinstance(call.get("arguments"), dict):
        raise ValueError("the call has no arguments object")
    return call["function"], call["arguments"]


def deep(text: str) -> bool:
    """Whether JSON is nested deeper than its parser, which is recursive, may go."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = deepest = 0
    for part in BRACKETS.findall(text):
        depth += (part in "[{") - (part in "]}")
        deepest = max(deepest, depth)
    return deepest > MAX_DEPTH


def sound(text: str) -> str:
    """Half a surrogate pair is no Unicode text, and cannot cross the boundary."""
    return HALF_PAIRS.sub("\ufffd", text)


# The snapshot is taken after this line: what is in it need never be searched for garbage again.
gc.collect()
gc.freeze()
