"""A byte-level BPE of the `gpt2` type whose merges cross neither a space nor a digit.

A word is therefore cut the same in a request and inside JSON, which is what makes copying easy to
learn. The JSON escapes `\\"` and `\\\\` are merges of their own. The escape of a newline is a token
that no text is cut into, since the pre-tokeniser takes the n for a part of the next word: the model
only writes it, and the chat template shows newlines as they are. llama.cpp must cut alike (see
verify.py).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import regex

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
DEFINED = ("<tool_call>", "</tool_call>")
NEWLINE = "\\n"
FIRST_MERGES = [("\\", '"'), ("\\", "\\")]
PIECES = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)

_ESCAPED = regex.compile(r"(?<!\\)(\\n)")


@lru_cache(1)
def byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in kept}
    for place, byte in enumerate(byte for byte in range(256) if byte not in table):
        table[byte] = chr(256 + place)
    return table


def _letters(piece: str) -> list[str]:
    table = byte_letters()
    return [table[byte] for byte in piece.encode()]


def _may_merge(left: str, right: str) -> bool:
    joined = left + right
    if joined.isascii() and joined.isalpha():
        return True
    return left[0] == '"' and all(mark in '"}]{[:,' for mark in joined)


def train(texts: Iterable[str], merges: int) -> list[tuple[str, str]]:
    """The most frequent allowed merges, in order."""
    counts = Counter(piece for text in texts for piece in PIECES.findall(text))
    pieces = {piece: _letters(piece) for piece in counts}
    found = list(FIRST_MERGES)
    for pair in FIRST_MERGES:
        pieces = {piece: _merged(parts, pair) for piece, parts in pieces.items()}
    while len(found) < merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for piece, parts in pieces.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[piece]
        best = max(((n, p) for p, n in pairs.items() if _may_merge(*p)), default=None)
        if best is None:
            break
        found.append(best[1])
        for piece, parts in pieces.items():
            if best[1][0] in parts:
                pieces[piece] = _merged(parts, best[1])
    return found


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


class Tokenizer:
    """Text to ids and back. Special tokens in the text are always taken as such."""

    def __init__(self, merges: list[tuple[str, str]]) -> None:
        self.merges = [tuple(pair) for pair in merges]
        letters = list(byte_letters().values())
        self.tokens = [*SPECIAL, *DEFINED, NEWLINE, *letters, *("".join(pair) for pair in merges)]
        self.ids = {token: at for at, token in enumerate(self.tokens)}
        self._rank = {tuple(pair): at for at, pair in enumerate(merges)}
        marks = "|".join(regex.escape(mark) for mark in (*SPECIAL, *DEFINED))
        self._marks = regex.compile(f"({marks})")
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Reads the merges that `save` wrote."""
        return cls([tuple(pair) for pair in json.loads(path.read_text())])

    def save(self, path: Path) -> None:
        """Writes the merges, of which everything else follows."""
        path.write_text(json.dumps(self.merges, ensure_ascii=False))

    def words(self) -> tuple[str, ...]:
        """The tokens of two letters or more."""
        return tuple(t for t in self.tokens if len(t) > 1 and t.isascii() and t.isalpha())

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        ids: list[int] = []
        for part in self._marks.split(text):
            if part in self.ids and (part in SPECIAL or part in DEFINED):
                ids.append(self.ids[part])
                continue
            for piece in PIECES.findall(part):
                ids += self._piece(piece)
        return ids

    def encode_json(self, text: str) -> list[int]:
        """Ids of JSON as the model writes it: newlines' escapes are one token each."""
        ids: list[int] = []
        for part in _ESCAPED.split(text):
            ids += [self.ids[NEWLINE]] if part == NEWLINE else self.encode(part)
        return ids

    def _piece(self, piece: str) -> list[int]:
        found = self._cache.get(piece)
        if found is None:
            found = [self.ids[part] for part in self._cut(_letters(piece))]
            if len(self._cache) < 200_000:
                self._cache[piece] = found
        return found

    def _cut(self, parts: list[str]) -> list[str]:
        while True:
            ranks = [(self._rank[p], p) for p in pairwise(parts) if p in self._rank]
            if not ranks:
                return parts
            parts = _merged(parts, min(ranks)[1])
        return parts

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids."""
        back = {letter: byte for byte, letter in byte_letters().items()}
        out = bytearray()
        for at in ids:
            token = self.tokens[at]
            marked = at <= len(SPECIAL) + len(DEFINED)
            out += token.encode() if marked else bytes(back[letter] for letter in token)
        return out.decode(errors="replace")
