"""What a model said, judged: a reply that can be used, or what is wrong with it.

The words of a fault are told to the model, so they say what to do; they are short, because a small
model takes up whatever it is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.inference import Message, ToolCall
from node.runs.offer import Offer
from node.schemas import checker
from node.types import JsonObject

_LONGEST = 400
_REPEATS = 16
_LEAST_LOOP = 64
_LOOP = re.compile(rf"(.{{1,24}}?)\1{{{_REPEATS - 1},}}", re.DOTALL)


@dataclass(frozen=True)
class Reply:
    """A reply that can be used: a text, or calls of functions that were offered."""

    text: str
    calls: tuple[tuple[Offer, ToolCall], ...]
    message: Message


@dataclass(frozen=True)
class Fault:
    """Why a reply cannot be used. `text`: it was meant as an answer, not as a call."""

    why: str
    text: bool = False


def judge(
    value: Mapping[str, Any], offers: Mapping[str, Offer], *, most_calls: int, seen: str
) -> Reply | Fault:
    """A reply out of what a generation recorded.

    Args:
        offers: the functions by name.
        most_calls: in one reply.
        seen: what the model was told, where repetition that is no fault may come from.
    """
    calls = tuple(ToolCall(each["name"], each["arguments"]) for each in value.get("tool_calls", ()))
    if value.get("malformed"):
        return Fault(str(value["malformed"])[:_LONGEST])
    if len(calls) > most_calls:
        return Fault(f"call at most {most_calls} functions at once")
    for call in calls:
        wrong = _wrong_call(call.name, call.arguments, offers)
        if wrong:
            return Fault(wrong[:_LONGEST])
    text = value["text"]
    if not calls and (why := _wrong_text(text, value["finish"], seen)):
        return Fault(why, text=True)
    message = Message("assistant", text, tool_calls=calls)
    return Reply(text, tuple((offers[call.name], call) for call in calls), message)


def _wrong_call(name: str, arguments: JsonObject, offers: Mapping[str, Offer]) -> str:
    offer = offers.get(name)
    if offer is None:
        return f"there is no function {name}; there are: {', '.join(offers) or 'none'}"
    wrong = checker(offer.parameters).wrong(arguments)
    return f"the arguments of {name} are wrong: {wrong}" if wrong else ""


def _wrong_text(text: str, finish: str, seen: str) -> str:
    if any(_is_stuck(loop, seen) for loop in _LOOP.finditer(text)):
        return "the answer repeats itself"
    if finish == "length":
        return "the answer was cut off; it is too long"
    return "" if text.strip() else "the answer was empty"


def _is_stuck(loop: re.Match[str], seen: str) -> bool:
    """Whether words go round and round, which is not a ruler, a long number or a quotation."""
    unit, length = loop[1], loop.end() - loop.start()
    worded = any(map(str.isalpha, unit)) and length >= _LEAST_LOOP
    return worded and unit * (_REPEATS // 2) not in seen
