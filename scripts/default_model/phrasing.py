"""Requests out of patterns: `{a|b|}` is a choice and `<slot>` a value put in as it stands."""

from __future__ import annotations

import random
import re

_CHOICE = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"<(\w+)>")
_OPENINGS = (
    "please ",
    "can you ",
    "could you ",
    "I want you to ",
    "I need you to ",
    "hey, ",
    "would you ",
    "hi, ",
    "now ",
    "can you please ",
    "I would like you to ",
    "go and ",
    "quickly ",
    "ok, ",
    "let us ",
    "help me: ",
    "next, ",
    "you should ",
)
_CLOSINGS = (" please", " for me", ", please", ", thanks", " for me please", " now", " thank you")


def choose(pattern: str, rng: random.Random) -> str:
    """The pattern with every choice made and its slots open."""
    while (match := _CHOICE.search(pattern)) is not None:
        chosen = rng.choice(match.group(1).split("|"))
        pattern = pattern[: match.start()] + chosen + pattern[match.end() :]
    return pattern


def fill(text: str, slots: dict[str, str]) -> str:
    """The text with every slot filled."""
    return _SLOT.sub(lambda match: slots[match.group(1)], text)


def expand(pattern: str, rng: random.Random, slots: dict[str, str]) -> str:
    """The pattern with every choice made and every slot filled."""
    return fill(choose(pattern, rng), slots)


def request(pattern: str, rng: random.Random, slots: dict[str, str]) -> str:
    """A whole request. A pattern in lower case is a command that may get a polite opening."""
    question = pattern.endswith("?")
    if not question and pattern[0].islower() and not pattern.endswith(">>"):
        if rng.random() < 0.35:
            pattern = rng.choice(_OPENINGS) + pattern
        if rng.random() < 0.15:
            pattern += rng.choice(_CLOSINGS)
    text = expand(pattern.removesuffix(">>"), rng, slots)
    if rng.random() < 0.85 and not pattern.startswith("<"):  # a value stays as it is
        text = text[0].upper() + text[1:]
    if question:
        return text if rng.random() < 0.85 else text[:-1]
    asks = text.lower().startswith(("can ", "could ", "would "))
    return text + (rng.choice("??.") if asks else rng.choice((".", ".", "", "", "!")))
