"""Words, names, numbers and file contents, split in two so that a bench can use unseen ones.

A word belongs to the training side or to the held-out side by its CRC-32, whoever makes it: a list
of common words and a syllable generator give both sides endless words that never meet.
"""

from __future__ import annotations

import random
import string
import zlib
from dataclasses import dataclass
from pathlib import Path

_COMMON = Path(__file__).with_name("words.txt").read_text().split()
_ONSETS = ("b c d f g h j k l m n p r s t v w z br cr dr fl gr pl pr sh sl st th tr ch").split()  # noqa: SIM905
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "oo", "ou", "ie"]
_CODAS = ["", "", "", "n", "r", "l", "s", "t", "m", "k", "d", "nd", "st", "rk", "ng", "x"]
_EXTENSIONS = [
    "txt",
    "txt",
    "txt",
    "txt",
    "md",
    "md",
    "json",
    "csv",
    "log",
    "cfg",
    "ini",
    "yaml",
    "toml",
    "html",
    "py",
    "js",
    "dat",
    "tsv",
    "conf",
    "xml",
]
_DOMAINS = ["com", "org", "net", "io", "dev", "info", "co.uk", "example", "eu", "edu", "app"]


def is_held_out(word: str) -> bool:
    """True where the word is kept for the bench and never trained on."""
    return zlib.crc32(word.lower().encode()) % 5 == 0


@dataclass
class Words:
    """A source of words of one side, drawn from `rng`.

    `odd` is the share of words that begin like one word and end like another, or are mere letters:
    a model that has only seen a few hundred words finishes one it begins to copy as it knows it.
    `pieces` are the vocabulary's tokens, which odd words are also put together from: a token that
    was only seen in descriptions, such as the `script` of JavaScript, cannot be copied.
    """

    rng: random.Random
    held_out: bool = False
    odd: float = 0.0
    pieces: tuple[str, ...] = ()

    def _ours(self, word: str) -> bool:
        return is_held_out(word) == self.held_out

    def made(self) -> str:
        """A word nobody has seen, of one to three syllables."""
        while True:
            parts = []
            for _ in range(self.rng.choice((1, 2, 2, 2, 3))):
                parts += [self.rng.choice(_ONSETS), self.rng.choice(_VOWELS)]
            word = "".join(parts) + self.rng.choice(_CODAS)
            if len(word) > 2 and self._ours(word):
                return word

    def common(self) -> str:
        """A word of English."""
        while True:
            word = self.rng.choice(_COMMON)
            if self._ours(word):
                return word

    def oddity(self) -> str:
        """A word put together from two or from tokens, or of letters alone."""
        while True:
            roll = self.rng.random()
            if self.pieces and roll < 0.45:
                word = "".join(self.rng.choices(self.pieces, k=self.rng.choice((1, 1, 2, 2, 3))))
            elif roll < 0.6:
                word = "".join(self.rng.choices(string.ascii_lowercase, k=self.rng.randint(2, 8)))
            else:
                first, last = self.common(), self.common()
                word = first[: self.rng.randint(1, len(first))] + last[self.rng.randint(0, 3) :]
            if self._ours(word):
                return word

    def word(self) -> str:
        """A common word, a made one about one time in four, or an odd one."""
        if self.odd and self.rng.random() < self.odd:
            return self.oddity()
        return self.made() if self.rng.random() < 0.25 else self.common()

    def name(self) -> str:
        """A word with a capital."""
        word = self.made() if self.rng.random() < 0.6 else self.common()
        return word.capitalize()

    def phrase(self, low: int = 1, high: int = 5) -> str:
        """Some words, now and then with a capital, a number or a comma."""
        words = [self.word() for _ in range(self.rng.randint(low, high))]
        if self.rng.random() < 0.12:
            words.insert(self.rng.randint(0, len(words)), str(self.rng.randint(1, 999)))
        text = " ".join(words)
        if len(words) > 3 and self.rng.random() < 0.1:
            text = text.replace(" ", ", ", 1)
        return text[0].upper() + text[1:] if self.rng.random() < 0.2 else text

    def sentence(self) -> str:
        """A phrase with a capital and a full stop."""
        text = self.phrase(3, 9)
        return text[0].upper() + text[1:] + self.rng.choice("....!")

    def integer(self) -> str:
        """Digits; short ones more often."""
        digits = self.rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6, 8, 12))
        return str(self.rng.randint(10 ** (digits - 1), 10**digits - 1))

    def number(self) -> str:
        """An integer, or a decimal about one time in four."""
        if self.rng.random() < 0.25:
            places = self.rng.choice((1, 1, 2, 2, 3))
            return f"{self.rng.randint(0, 999)}.{self.rng.randint(1, 10**places - 1):0{places}d}"
        return self.integer()

    def stem(self) -> str:
        """A file's name without its extension."""
        roll = self.rng.random()
        if roll < 0.7:
            return self.word()
        if roll < 0.85:
            return self.word() + self.rng.choice("-_") + self.word()
        if roll < 0.95:
            return self.word() + self.rng.choice(("", "-", "_")) + str(self.rng.randint(1, 2030))
        return self.name()

    def folder(self) -> str:
        """A folder's path, one or two deep."""
        parts = [self.word() for _ in range(1 if self.rng.random() < 0.8 else 2)]
        return "/".join(parts)

    def path(self, extension: str | None = None) -> str:
        """A file's path, in a folder about one time in four."""
        ending = extension or self.rng.choice(_EXTENSIONS)
        if extension is None and self.rng.random() < 0.05:
            ending = self.made()[:4]
        file = f"{self.stem()}.{ending}"
        return f"{self.folder()}/{file}" if self.rng.random() < 0.28 else file

    def url(self) -> str:
        """A web address, usually with a path."""
        scheme = "https" if self.rng.random() < 0.85 else "http"
        host = self.word() + "." + self.rng.choice(_DOMAINS)
        if self.rng.random() < 0.3:
            host = self.rng.choice(("www", "api", "docs", self.word())) + "." + host
        path = "".join("/" + self.stem() for _ in range(self.rng.choice((0, 1, 1, 2))))
        tail = self.rng.choice(("", "", "", ".html", "/", f"?id={self.integer()}"))
        return f"{scheme}://{host}{path}{tail if path or tail == '/' else ''}"

    def pairs(self) -> list[tuple[str, str]]:
        """Names with numbers, as a price list has them; names differ."""
        found: dict[str, str] = {}
        for _ in range(self.rng.randint(2, 6)):
            found[self.word()] = self.number() if self.rng.random() < 0.5 else self.integer()[:3]
        return list(found.items())

    def content(self) -> str:
        """The text of a small file."""
        roll = self.rng.random()
        if roll < 0.12:
            return self.number()
        if roll < 0.4:
            gap = self.rng.choice((" ", " ", ": ", " = ", ",", "="))
            return "\n".join(f"{key}{gap}{value}" for key, value in self.pairs())
        if roll < 0.65:
            return " ".join(self.sentence() for _ in range(self.rng.choice((1, 1, 2, 3))))
        if roll < 0.85:
            dash = self.rng.choice(("", "", "- ", "* "))
            lines = self.rng.choice((1, 2, 3, 3, 4, 5, 6))
            return "\n".join(dash + self.phrase(1, 4) for _ in range(lines))
        return self.phrase(1, 8)
