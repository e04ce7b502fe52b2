"""GBNF for integers between two bounds, so that a model cannot write one outside them.

A range of numbers with equally many digits is a prefix both ends share, then a first digit strictly
between (followed by anything) or equal to one end (followed by a smaller range of the same kind).
"""

from __future__ import annotations

from typing import Final

MAX_DIGITS: Final = 40


def integer_rule(low: int | None, high: int | None) -> str:
    """The body of a rule for integers from `low` to `high`, inclusive; None is no bound.

    A side without a bound, or with one of more than 40 digits, goes to 40 digits.
    """
    limit = 10**MAX_DIGITS - 1
    low = -limit if low is None else max(min(low, limit), -limit)
    high = limit if high is None else min(max(high, -limit), limit)
    options = []
    if low < 0:
        negatives = _naturals(max(1, -min(high, -1)), -low)
        options.append(f'"-" ({negatives})')
    if high >= 0:
        options.append(_naturals(max(low, 0), high))
    return " | ".join(options)


def _naturals(low: int, high: int) -> str:
    """Numbers from `low` to `high`, both >= 0, without leading zeros."""
    options = ['"0"'] if low == 0 else []
    low = max(low, 1)
    free_from = None  # lengths whose every number is in the range are joined
    for digits in range(len(str(low)), len(str(high)) + 1):
        first, last = max(low, 10 ** (digits - 1)), min(high, 10**digits - 1)
        if first > last:
            continue
        if (first, last) == (10 ** (digits - 1), 10**digits - 1):
            free_from = digits if free_from is None else free_from
            continue
        if free_from is not None:
            options.append(_lengths(free_from, digits - 1))
            free_from = None
        options.append(_same_length(str(first), str(last)))
    if free_from is not None:
        options.append(_lengths(free_from, len(str(high))))
    return " | ".join(options)


def _lengths(fewest: int, most: int) -> str:
    return f"[1-9] [0-9]{{{fewest - 1},{most - 1}}}" if most > 1 else "[1-9]"


def _same_length(low: str, high: str) -> str:
    if not low:
        return '""'
    if low[0] == high[0]:
        rest = _same_length(low[1:], high[1:])
        return f'"{low[0]}"' if rest == '""' else f'"{low[0]}" ({rest})'
    tail = len(low) - 1
    if not tail:
        return f"[{low}-{high}]"
    options = []
    start, end = int(low[0]), int(high[0])
    if low[1:] != "0" * tail:
        options.append(f'"{start}" ({_same_length(low[1:], "9" * tail)})')
        start += 1
    top = None
    if high[1:] != "9" * tail:
        top = f'"{end}" ({_same_length("0" * tail, high[1:])})'
        end -= 1
    if start <= end:
        options.append(f"[{start}-{end}] [0-9]{{{tail}}}")
    return " | ".join([*options, top] if top else options)
