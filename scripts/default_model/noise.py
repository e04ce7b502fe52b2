"""Slips and unknown words in a request, so that it is read by what is left of it."""

from __future__ import annotations

import random
import string

from phrasing import choose
from words import Words
from wrappers import FILLERS

FREE = ("<text>", "<query>", "<key>", "<pattern>", "<code>")  # values that may stand unquoted
TOLD = ("<path>", "<other>", "<url>", "<key>")  # values told by their form, or by what a file says
STRAYS = (1, 1, 2, 3)
# words that decide what is wanted
_KEPT = """
count words word characters letters lines copy clone duplicate back backup total sum add
first differ difference differences compare diff changed match matches regex pattern json
python javascript js find search look grep save write put store written file files folder
directory fetch page times plus minus divided multiply double half twice percent of from
number how many much cost price by to into in and then it delete remove rename send
"""


class Noise:
    """Slips and unknown words, never in a value nor in a word that decides what is wanted."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.rng: random.Random = words.rng

    def over(self, form: str) -> str:
        """The form with one or two changes."""
        for _ in range(self.rng.choice((1, 1, 2))):
            form = self._change(form)
        return form

    def strayed(self, form: str) -> str:
        """The form with unknown words right before a value that can be told without them."""
        words = form.split(" ")
        found = [at for at, word in enumerate(words) if word.startswith(TOLD)]
        found = [at for at in found if at and not words[at - 1].endswith((*FREE, *TOLD))]
        if not found:
            return form
        at = self.rng.choice(found)
        words[at:at] = [self.words.word() for _ in range(self.rng.choice(STRAYS))]
        return " ".join(words)

    def _change(self, form: str) -> str:
        rng, words = self.rng, form.split(" ")
        loose = [at for at in range(len(words)) if not self._is_beside_free(words, at)]
        free = [at for at in loose if self._is_common(words[at])]
        roll = rng.random()
        if roll < 0.25 and loose:
            words.insert(rng.choice(loose), self._filler())
        elif roll < 0.4:
            return form.lower()
        elif not free:
            return form
        elif roll < 0.6 and len(words) > 3:
            del words[rng.choice(free)]
        elif roll < 0.8:
            words[rng.choice(free)] = self.words.word()
        else:
            at = rng.choice(free)
            words[at] = self._typo(words[at])
        return " ".join(words) or form

    def _is_beside_free(self, words: list[str], at: int) -> bool:
        return any(slot in word for word in words[max(0, at - 1) : at + 2] for slot in FREE)

    def _is_common(self, word: str) -> bool:
        return word.isalpha() and word.lower() not in _KEPT.split()

    def _filler(self) -> str:
        if self.rng.random() < 0.7:
            return choose(FILLERS, self.rng)
        return self.words.word()

    def _typo(self, word: str) -> str:
        at = self.rng.randrange(len(word))
        other = self.rng.choice(string.ascii_lowercase)
        made = (
            word[:at] + word[at + 1 :],
            word[:at] + other + word[at + 1 :],
            word[: at + 1] + word[at:],
            word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :],
        )
        return self.rng.choice(made) or word
