"""Numbers as people and tools write them in text, read by value.

Known: thousands separators (`1,234,567.5`, `1'234'567`, `1_234_567`, `1.234.567`, and the narrow
and no-break spaces of ISO 80000-1), a decimal point (`.5`, too), exponents (`1.5e3`, `1.5 × 10^3`,
`1.5×10³`), signs (`-42`, `−42`, `-$42`, `minus 42`), `%` and `percent`, and marks of
approximation (`≈`, `~`, `about`). A hyphen after a letter or a digit is no sign: dates, ranges and
names have those. Digits behind a letter are a name's, and so are those of `.7z`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

_SPACES = "\u00a0\u2009\u202f"
_NUMBER = re.compile(
    rf"""(?<![A-Za-z0-9_.])
    (?P<digits>
        \d{{1,3}}(?:[,'’_{_SPACES}]\d{{3}})++(?![\d]|,\d)
      | \d{{1,3}}(?:\.\d{{3}}){{2,}}+(?![\d.])
      | \d++
      | (?=\.\d++(?:[eE][+-]?\d|(?![A-Za-z])))
    )
    (?P<part>\.\d++)?
    (?:[eE](?P<exponent>[+-]?\d{{1,3}}+)
      |\s?[×·]\s?10(?:\^(?P<power>[+-]?\d{{1,3}}+)|(?P<raised>[⁺⁻]?[⁰¹²³⁴-⁹]{{1,3}}+)))?
    (?P<percent>\s?%|\s(?:percent|per\ cent)\b)?
    """,
    re.VERBOSE,
)
_SEPARATOR = re.compile(rf"[,'’_{_SPACES}]")
_MINUS = re.compile(r"(?:(?<![\w.)\]])[-−]|\b(?:minus|negative)\s)[$€£¥]?\Z", re.IGNORECASE)
_ABOUT = re.compile(
    r"(?:[≈~≃]|\b(?:about|around|roughly|approximately|nearly|almost|circa))\s?[-−]?[$€£¥]?\Z",
    re.IGNORECASE,
)
_RAISED = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_BEFORE = 16  # characters before a number that can say something about it


@dataclass(frozen=True)
class Figure:
    """A number in a text.

    `exponent` is the power of ten of its last digit that counts: of its last digit as written, or,
    where the text says that it is approximate, of its last one before trailing zeros. `parts` are
    the numbers it would be if its separators were those of a list. `digits` are those written, but
    for zeros that make no difference.
    """

    text: str
    value: Decimal
    exponent: int
    digits: int
    percent: bool = False
    parts: tuple[Decimal, ...] = ()


def figures(text: str) -> Iterator[Figure]:
    """The numbers in a text, in order."""
    for match in _NUMBER.finditer(text):
        yield _figure(match, text[max(0, match.start() - _BEFORE) : match.start()])


def _figure(match: re.Match[str], before: str) -> Figure:
    digits, part = match["digits"], match["part"] or ""
    groups = _SEPARATOR.split(digits) if not digits.isdigit() else [digits]
    if "." in digits:
        groups = digits.split(".")
    sign = "-" if _MINUS.search(before) else ""
    plain = "".join(groups) + part
    power = match["exponent"] or match["power"] or (match["raised"] or "0").translate(_RAISED)
    value = Decimal(f"{sign}{plain}e{power}")
    return Figure(
        text=match.group().strip(),
        value=value,
        exponent=_last(value, about=not part and bool(_ABOUT.search(before))),
        digits=len("".join(groups).lstrip("0") or "0") + len(part.rstrip("0").lstrip(".")),
        percent=match["percent"] is not None,
        parts=tuple(Decimal(group) for group in groups) if len(groups) > 1 else (),
    )


def _last(value: Decimal, *, about: bool) -> int:
    """The power of ten of the last digit that counts."""
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if about:
        spare = len(digits) - len("".join(map(str, digits)).rstrip("0"))
        return exponent + min(spare, len(digits) - 1)
    return exponent
