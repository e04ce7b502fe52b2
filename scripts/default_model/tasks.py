"""What is asked of the shipped functions, what they answer, and the sentence that follows.

A task is a request, the calls it takes in order with a result each, and the last sentence. The
sentence has one fixed form an intent, so that it can be checked against the result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

NO_TOOL = "I have no tool for that."


@dataclass(frozen=True)
class Call:
    """One call by kind, with the shipped argument names, and what came back."""

    kind: str
    arguments: dict[str, Any]
    result: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A request with its calls and answer.

    `intent` names where it came from, `about` the key of the row it asks for.
    """

    intent: str
    request: str
    calls: tuple[Call, ...] = ()
    answer: str = ""
    needs: tuple[str, ...] = field(default=())
    about: str = field(default="", repr=False)

    def kinds(self) -> set[str]:
        """The functions without which it cannot be done."""
        return {call.kind for call in self.calls} | set(self.needs)


def finished(text: str) -> str:
    """The text ending in exactly one full stop, or in the mark it already has."""
    return text if text.endswith((".", "!", "?")) else text + "."


def spoken(content: str, lines: int = 6) -> str:
    """File text in one line: lines joined by commas, the first ones where there are many."""
    rows = [row for row in content.split("\n") if row]
    return finished(", ".join(rows[:lines]))


def compact(value: Any) -> str:
    """JSON as a tool answers it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
