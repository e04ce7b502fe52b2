"""Tasks whose requests are put together from parts, a share of them out of ready-made patterns."""

from __future__ import annotations

import sums
import talk
from chains import Chains
from composing import Composer
from patterns import PATTERNS
from tasks import NO_TOOL, Task
from ways_chain import CHAINED
from ways_single import SINGLE
from ways_talk import HOPELESS, SMALL_TALK
from words import Words

WAYS = {**SINGLE, **CHAINED}
# signs and words that are rare in the shared table
_SUMS = [
    *sums.SPOKEN,
    ("<a> {÷|over} <b>", "<a> / <b>"),
    ("<a> {÷|over|divided by} <b>", "<a> / <b>"),
    ("<a> {×|x} <b>", "<a> * <b>"),
]
_READY = 0.3  # of the requests come from patterns.py


class Various(Chains):
    """What training asks. `spare`: only in parts of requests that are held back from training."""

    def __init__(self, words: Words, spare: bool = False) -> None:
        super().__init__(words, PATTERNS, (_SUMS, sums.STORIES, sums.CHANGES))
        self.composer = Composer(words, spare)
        self.ready = 0.0 if spare else _READY

    def ask(self, intent: str, **slots: str) -> str:
        """A request of an intent, its slots filled."""
        if self.rng.random() < self.ready:
            return super().ask(intent, **slots)
        return self.composer.request(WAYS[intent], slots)

    def small_talk(self) -> Task:
        """A word of courtesy and its answer."""
        if self.rng.random() < self.ready:
            return talk.small_talk(self.words)
        answer = self.rng.choice(list(SMALL_TALK))
        said = self.composer.request(SMALL_TALK[answer], talk.slots(self.words), noise=0.1)
        return Task("talk", said, (), answer)

    def hopeless(self) -> Task:
        """A request that none of the shipped functions can serve."""
        if self.rng.random() < self.ready:
            return talk.hopeless(self.words)
        said = self.composer.request(HOPELESS, talk.slots(self.words), noise=0.0)
        return Task("hopeless", said, (), NO_TOOL)
