"""The guard against invented figures: a number in an answer must have been seen.

Where a run used tools, each number of two or more digits in its answer must stand in the prompt
or in a recorded result, exactly or rounded as the answer writes it. The guard does not know what
a number means; it catches the figure that no tool ever returned, which is the common and harmful
case. Runs without a result are not judged: there is nothing to match against.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal

from node.runs.content import scalars
from node.runs.effect import PASS, GuardContext, GuardStage, GuardVerdict
from node.types import Json

_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])(?:\d{1,3}(?:,\d{3})++(?![\d,])|\d++)(?:\.\d++)?(?:[eE][+-]?\d{1,3}+)?"
)
_MOST_NUMBERS = 100_000
_LONGEST_ROUNDED = 60
_CONTEXT = Context(prec=200)
_SHOWN = 5


class CitationsGuard:
    """Fails an answer with a figure that neither the prompt nor any result holds."""

    name = "citations"

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        if stage is not GuardStage.ANSWER or not context.results:
            return PASS
        claims = {claim for claim in numbers([content]) if sum(map(str.isdigit, claim)) > 1}
        if not claims:
            return PASS
        seen = set(numbers([context.prompt, *context.results]))
        missing = sorted(claims - seen)
        rounded = _rounded(seen, {_places(claim) for claim in missing})
        missing = [claim for claim in missing if claim not in rounded]
        if not missing:
            return PASS
        shown = ", ".join(claim[:40] for claim in missing[:_SHOWN])
        return GuardVerdict("fail", f"no tool result holds {shown}")


def numbers(values: Iterable[Json]) -> list[str]:
    """The numbers in the values' text, in one form: no separators, no sign, no spare zeros."""
    found: list[str] = []
    for value in values:
        for item in scalars(value):
            text = item if isinstance(item, str) else _figure(item)
            found.extend(_normal(match.group()) for match in _NUMBER.finditer(text))
            if len(found) > _MOST_NUMBERS:
                return found
    return found


def _figure(value: int | float) -> str:
    # Integers too long for int-to-str conversion cannot come out of parsed JSON text either.
    return repr(value) if isinstance(value, float) or value.bit_length() < 10_000 else ""


def _normal(text: str) -> str:
    text = text.replace(",", "")
    if "e" in text.lower():
        text = f"{_CONTEXT.create_decimal(text):f}" if len(text) < _LONGEST_ROUNDED else text
    whole, _, part = text.partition(".")
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    return f"{whole}.{part}" if part else whole


def _places(number: str) -> int:
    return len(number.partition(".")[2])


def _rounded(seen: set[str], places: set[int]) -> set[str]:
    """The seen numbers rounded to each of the numbers of decimal places."""
    made = set()
    for count in places:
        step = Decimal(1).scaleb(-count)
        for text in seen:
            if len(text) > _LONGEST_ROUNDED or _places(text) <= count:
                continue
            value = Decimal(text)
            for way in (ROUND_HALF_EVEN, ROUND_HALF_UP):
                made.add(_normal(f"{value.quantize(step, rounding=way, context=_CONTEXT):f}"))
    return made
