"""Functions that do not ship, with requests for them: for variety, and for refusals without them."""

# ruff: noqa: E501 - tables of phrases, one a line
from __future__ import annotations

import random
from typing import Any

from other_tools import OTHERS, Other
from phrasing import request
from tasks import Call, Task
from toolset import Offered
from words import Words

_UNITS = [
    "km",
    "miles",
    "meters",
    "feet",
    "inches",
    "cm",
    "kg",
    "pounds",
    "grams",
    "liters",
    "gallons",
    "hours",
    "days",
]
_LANGS = [
    "French",
    "German",
    "Spanish",
    "Italian",
    "Latin",
    "Polish",
    "Dutch",
    "Swedish",
    "Japanese",
    "Greek",
    "Czech",
]
_MONEY = ["euros", "pounds", "yen", "francs", "pesos", "crowns"]
_PLACES = [
    "Rome",
    "Paris",
    "Berlin",
    "London",
    "Madrid",
    "Oslo",
    "Vienna",
    "Prague",
    "Lisbon",
    "Athens",
    "Dublin",
    "Cairo",
    "Delhi",
    "Tokyo",
    "Lima",
    "Boston",
    "Chicago",
    "Sydney",
]
_DAYS = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "tomorrow",
    "today",
    "May 3",
    "June 12",
    "2026-03-14",
    "next week",
]


def _slot(kind: str, words: Words) -> Any:
    rng = words.rng
    makers = {
        "place": lambda: rng.choice(_PLACES) if rng.random() < 0.5 else words.name(),
        "person": words.name,
        "text": lambda: words.phrase(2, 6),
        "phrase": lambda: words.phrase(1, 3),
        "word": words.word,
        "int": lambda: rng.randint(1, 99),
        "number": lambda: rng.randint(1, 500),
        "unit": lambda: rng.choice(_UNITS),
        "lang": lambda: rng.choice(_LANGS),
        "money": lambda: rng.choice(_MONEY),
        "date": lambda: rng.choice(_DAYS),
        "path": words.path,
        "time": lambda: f"{rng.randint(1, 23)}:{rng.choice(('00', '15', '30', '45'))}",
        "onoff": lambda: rng.choice(("on", "off")),
        "bool": lambda: True,
        "num": words.number,
        "symbol": lambda: words.made().upper()[:4],
        "words": lambda: [words.phrase(1, 3) for _ in range(rng.randint(1, 3))],
    }
    return makers[kind]()


def _schema(kind: str) -> dict[str, Any]:
    types = {
        "int": {"type": "integer"},
        "number": {"type": "integer"},
        "bool": {"type": "boolean"},
        "onoff": {"type": "string", "enum": ["on", "off"]},
    }
    return types.get(kind, {"type": "string"})


def _parameters(other: Other) -> list[tuple[str, bool, str]]:
    found = []
    for part in filter(None, other.parameters.split(",")):
        name, _, slot = part.partition(":")
        found.append((name.rstrip("?"), not name.endswith("?"), slot))
    return found


def offered(kind: str, rng: random.Random, words: Words) -> Offered:
    """One of these functions as a conversation sees it."""
    other = OTHERS[kind]
    name = rng.choice(other.names.split("|"))
    if rng.random() < 0.25:
        name = words.made()
    parameters = _parameters(other)
    schema = {
        "type": "object",
        "properties": {key: _schema(slot) for key, _, slot in parameters},
        "required": [key for key, required, _ in parameters if required],
    }
    same = {key: key for key, _, _ in parameters}
    return Offered(kind, name, rng.choice(other.descriptions.split("|")), schema, same)


def _result(answers: str, words: Words) -> tuple[dict[str, Any], str]:
    if answers == "ok":
        return words.rng.choice(({"ok": True}, {"status": "ok"}, {"done": True})), "Done."
    found = {}
    for part in answers.split(","):
        key, _, slot = part.partition(":")
        found[key] = _slot(slot, words)
    return found, told(found)


def told(result: dict[str, Any]) -> str:
    """The sentence after a result of some named values."""
    parts = []
    for key, value in result.items():
        verb, shown = "is", value
        if isinstance(value, list):
            verb, shown = "are", ", ".join(map(str, value))
        parts.append(f"{key} {verb} {shown}")
    return "The " + ", the ".join(parts) + "."


def make(kind: str, words: Words) -> Task:
    """A task for one of these functions."""
    other, rng = OTHERS[kind], words.rng
    values = {key: _slot(slot, words) for key, _, slot in _parameters(other)}
    pattern = rng.choice(other.requests)
    if kind == "lock":
        values["locked"] = pattern.startswith("lock")
    arguments = {
        key: value for key, value in values.items() if f"<{key}>" in pattern or key == "locked"
    }
    shown = {key: str(value) for key, value in values.items()}
    quotes = {
        key: f"'{value}'" if rng.random() < 0.3 and slot == "text" else str(value)
        for (key, _, slot), value in zip(_parameters(other), values.values(), strict=True)
    }
    result, answer = _result(other.answers, words)
    return Task(
        kind, request(pattern, rng, shown | quotes), (Call(kind, arguments, result),), answer
    )
