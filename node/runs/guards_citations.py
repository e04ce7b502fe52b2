"""The guard against invented figures: a number in an answer must have been seen.

Where a run used tools, each number of two or more digits in its answer must stand in the prompt
or in a recorded result, exactly or rounded as the answer writes it. The guard does not know what
a number means; it catches the figure that no tool ever returned, which is the common and harmful
case. Runs without a result are not judged: there is nothing to match against.

Numbers are compared by value (`figures.py` reads them), so separators and trailing zeros make no
difference. A sign does: -42 is not 42, unless the answer says in words that it is less. `20%` and
0.2 are one figure. A number that the answer marks as approximate may be rounded to fewer digits
before the point as well.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal

from node.runs.content import scalars
from node.runs.effect import PASS, GuardContext, GuardStage, GuardVerdict
from node.runs.figures import Figure, figures
from node.types import Json

_MOST_NUMBERS = 100_000
_LONGEST_ROUNDED = 60
_CONTEXT = Context(prec=2000, Emax=10_000, Emin=-10_000)
_SHOWN = 5
_LESS = re.compile(
    r"\b(?:below|under|less|fewer|lower|loss|lost|debt|deficit|down|drop|fell|fall"
    r"|decreas|declin|reduc|short|owe|spen|paid|pay|cost|debit|withdr|before|ago)",
    re.IGNORECASE,
)


class CitationsGuard:
    """Fails an answer with a figure that neither the prompt nor any result holds."""

    name = "citations"

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        if stage is not GuardStage.ANSWER or not context.results:
            return PASS
        claims = [claim for claim in _figures([content]) if claim.digits > 1]
        if not claims:
            return PASS
        seen = _values([context.prompt, *context.results])
        if any(_LESS.search(text) for text in scalars(content) if isinstance(text, str)):
            seen |= {value.copy_negate() for value in seen}
        missing = _missing(claims, seen)
        if not missing:
            return PASS
        shown = ", ".join(claim[:40] for claim in missing[:_SHOWN])
        return GuardVerdict("fail", f"no tool result holds {shown}")


def _missing(claims: Iterable[Figure], seen: set[Decimal]) -> list[str]:
    """The claims, as written, that are no seen value, exactly or rounded."""
    percents = seen | {_scaled(value, 2) for value in seen}
    left = [c for c in claims if c.value not in (percents if c.percent else seen)]
    sought = {
        percent: sorted(percents if percent else seen) for percent in {c.percent for c in left}
    }
    missing = {claim.text for claim in left if not is_rounded(claim, sought[claim.percent])}
    return sorted(missing)


def _values(contents: Iterable[Json]) -> set[Decimal]:
    """The figures of a prompt and of results; a percentage also as the fraction it is."""
    values: set[Decimal] = set()
    for figure in _figures(contents):
        values.add(figure.value)
        values.update(figure.parts)
        if figure.percent:
            values.add(_scaled(figure.value, -2))
    return values


def _figures(contents: Iterable[Json]) -> list[Figure]:
    found: list[Figure] = []
    for content in contents:
        for item in scalars(content):
            found.extend(figures(item if isinstance(item, str) else _text(item)))
            if len(found) > _MOST_NUMBERS:
                return found
    return found


def _text(value: int | float) -> str:
    # Integers too long for int-to-str conversion cannot come out of parsed JSON text either.
    return repr(value) if isinstance(value, float) or value.bit_length() < 10_000 else ""


def _scaled(value: Decimal, places: int) -> Decimal:
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    return Decimal((sign, digits, exponent + places))


def is_rounded(claim: Figure, seen: Sequence[Decimal]) -> bool:
    """Whether the claim is a value, in order of size, rounded to the claim's last digit.

    Such a value is at most half of that digit away, so that few need a look: an answer may hold
    as many figures as the results, and each a last digit of its own.
    """
    if len(claim.value.as_tuple().digits) > _LONGEST_ROUNDED:
        return False
    half = Decimal((0, (5,), claim.exponent - 1))
    low, high = _CONTEXT.subtract(claim.value, half), _CONTEXT.add(claim.value, half)
    first, last = bisect_left(seen, low), bisect_right(seen, high)
    if bisect_left(seen, high) > bisect_right(seen, low):  # one nearer than half
        return True
    at_half = {seen[place] for place in (first, last - 1) if first <= place < last}
    return any(_rounds_to(value, claim) for value in at_half)


def _rounds_to(value: Decimal, claim: Figure) -> bool:
    step = Decimal((0, (1,), claim.exponent))
    ways = (ROUND_HALF_EVEN, ROUND_HALF_UP)
    return any(value.quantize(step, rounding=way, context=_CONTEXT) == claim.value for way in ways)
