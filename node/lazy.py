"""Rooms whose names are imported when they are first used (PEP 562).

A room may hold the code of a process that runs one model or compiles one component, and such a
process must not pay for the rest of the room. What a room names is told twice, to the type checker
and here: only this can be done without importing it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from sys import modules


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """The `__getattr__` of a package. `homes`: by module of it, its names with spaces between.

    Raises:
        AttributeError: by what is returned, for any other name.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{home_of[name]}"), name)
        setattr(modules[package], name, value)
        return value

    return get
