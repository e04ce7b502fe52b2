"""Signs in training's texts of what has to be known at a place: they are no part of the text.

To choose a function by its description, its name has to know what was described before it; to find
a row by its key, the row has to know that its key was asked for. Nothing the assistant says depends
on either alone, so both come late by themselves. Training therefore asks for them directly, where
the name or the row's value begins: see `Encoder.marked`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import toolset
from other_tools import OTHERS
from toolset import Offered

MARKED = re.compile("([\ue000-\uefff])")
_FIRST, _LABELS = 0xE000, 300  # the first sign, and the token that is asked for at it


def label(sign: str) -> int:
    """The token that stands for what a sign says."""
    return ord(sign) - _FIRST + _LABELS


def _sign(number: int) -> str:
    return chr(_FIRST + number)


ASKED, NOT_ASKED = _sign(0), _sign(1)
_KINDS = {kind: _sign(2 + at) for at, kind in enumerate([*toolset.VARIED, *OTHERS])}
_ROW = re.compile(r"^(\S+?)( = |: |, | |,|=)(?=.)")


def name_marked(tool: Offered) -> Offered:
    """The function with the sign of its kind before its name."""
    return replace(tool, name=_KINDS[tool.kind] + tool.name)


def table_marked(table: str, key: str) -> str:
    """The rows with a sign before each value: whether the row's key is `key`."""
    return "\n".join(_row_marked(row, key) for row in table.split("\n"))


def _row_marked(row: str, key: str) -> str:
    match = _ROW.match(row)
    if match is None:
        return row
    sign = ASKED if match.group(1) == key else NOT_ASKED
    return match.group(0) + sign + row[match.end() :]


def rows_marked(messages: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The messages with the signs in what tools told, where a row's key was asked for."""
    return [_told_marked(turn, key) if turn["role"] == "tool" else turn for turn in messages]


def _told_marked(turn: dict[str, Any], key: str) -> dict[str, Any]:
    told = json.loads(turn["content"])
    if not key or not isinstance(told.get("content"), str):
        return turn
    told["content"] = table_marked(told["content"], key)
    return turn | {"content": json.dumps(told, ensure_ascii=False, separators=(",", ":"))}
