"""The version of the code that runs. It is read as the process starts, since an upgrade may
install another one under it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

VERSION: Final = version("freehold")
ANEW: Final = "Start the node anew: `freehold down`, then `freehold up`."


def replaced() -> str:
    """What to say where another version was installed under this process, and a process that is
    started now would be of that one; empty where none was."""
    try:
        now = version("freehold")
    except (PackageNotFoundError, OSError):  # just now it cannot be told
        return ""
    if now == VERSION:
        return ""
    return f"Freehold {now} was installed while this node, of {VERSION}, runs"
