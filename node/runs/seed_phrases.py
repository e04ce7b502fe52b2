"""Seed phrases in a text: 12 to 24 words of BIP-39's English list, with a checksum that holds.

Any spacing, numbering and quoting between the words is passed over, as a list of them has it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache

from mnemonic import Mnemonic

_ESCAPED_SPACE = re.compile(r"\\[nrt]|%20|\\u00[02][0-9A-Da-d]")
_WORD = re.compile(r"[A-Za-z]+")
_SEED_GAP = re.compile(r"[\s\d.,;:)(\"'\[\]|*_-]{1,24}")
_SEED_WORDS = (12, 15, 18, 21, 24)
_LEAST_WORDS = 8  # different ones; fewer are a column of a table or of `true` and `false`
_TRIED_WITH = {"abandon", "zoo"}  # phrases of nothing but these and a checksum are known to all
_WINDOW = (1 << 11 * 24) - 1


def seed_phrases(text: str) -> list[tuple[int, int]]:
    """The spans of BIP-39 phrases, those that touch joined; in order."""
    spans: list[tuple[int, int]] = []
    for run in _listed_runs(_ESCAPED_SPACE.sub(lambda match: " " * len(match[0]), text)):
        for first, last in _seeds(run):
            start = run[first].start()
            while spans and start <= spans[-1][1]:
                start = min(start, spans.pop()[0])
            spans.append((start, run[last].end()))
    return spans


def _seeds(run: list[re.Match[str]]) -> Iterator[tuple[int, int]]:
    """First and last word of every phrase in a run of listed words, by its last word.

    The places of the last 24 words are kept as one number of 11 bits each, so that each of the five
    lengths at a word costs one hash.
    """
    places, window = _places(), 0
    for last, word in enumerate(run):
        window = (window << 11 | places[word.group().lower()]) & _WINDOW
        for size in _SEED_WORDS:
            first = last - size + 1
            if first >= 0 and _is_seed(window & ((1 << 11 * size) - 1), size):
                said = {each.group().lower() for each in run[first : last + 1]}
                if len(said) >= _LEAST_WORDS or (len(said) > 1 and said & _TRIED_WITH):
                    yield first, last


def _listed_runs(text: str) -> Iterator[list[re.Match[str]]]:
    """Runs of at least twelve neighbouring words that are all on the list."""
    places, run = _places(), list[re.Match[str]]()
    for word in _WORD.finditer(text):
        near = bool(run) and bool(_SEED_GAP.fullmatch(text, run[-1].end(), word.start()))
        listed = len(word.group()) <= 8 and word.group().lower() in places
        if run and not (near and listed):
            if len(run) >= _SEED_WORDS[0]:
                yield run
            run = []
        if listed:
            run.append(word)
    if len(run) >= _SEED_WORDS[0]:
        yield run


def _is_seed(bits: int, size: int) -> bool:
    """Whether the checksum of `size` words holds (BIP-39: one bit for every 32 of entropy)."""
    check = size // 3
    entropy = (bits >> check).to_bytes((size * 11 - check) // 8, "big")
    return hashlib.sha256(entropy).digest()[0] >> (8 - check) == bits & ((1 << check) - 1)


def is_listed(text: str) -> bool:
    """Whether all words in a text are on the list of BIP-39, or it has none."""
    return all(word.lower() in _places() for word in _WORD.findall(text))


@cache
def _places() -> dict[str, int]:
    return {word: place for place, word in enumerate(Mnemonic("english").wordlist)}
