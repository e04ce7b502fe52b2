"""The bench's questions: held-out words or held-out phrasings, and what each should come to.

A case is a conversation that ran the way it should, cut at the assistant's turns. Each turn is
asked with the right turns before it, so that one mistake is counted once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import heldout
import talk
from chains import Chains
from data import CHAINS, INTENTS, SINGLE, Maker
from failures import fail
from patterns import PATTERNS
from tasks import NO_TOOL, Task
from words import Words

Message = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One conversation. `turns` are the places in `messages` where the assistant speaks."""

    group: str
    task: Task
    messages: list[Message]
    tools: list[Message]

    def turns(self) -> list[int]:
        """Where the assistant speaks."""
        return [at for at, turn in enumerate(self.messages) if turn["role"] == "assistant"]


class Cases:
    """Makes cases from a seed. `words` and `tasks` may be either side's."""

    def __init__(self, seed: int, *, unseen_words: bool, unseen_phrasings: bool) -> None:
        self.maker = Maker(seed)
        self.rng: random.Random = self.maker.rng
        self.words = Words(self.rng, held_out=unseen_words)
        self.maker.words = self.words
        patterns = heldout.PATTERNS if unseen_phrasings else PATTERNS
        self.tasks = Chains(self.words, patterns)
        self.unseen_phrasings = unseen_phrasings

    def _case(self, group: str, task: Task, tools: list[Any]) -> Case:
        system = talk.system(self.words) if self.rng.random() < 0.95 else None
        if system is not None and self.rng.random() < 0.5:
            system = heldout.SYSTEM
        made = self.maker.assemble([task], tools, system, errors=0.0)
        return Case(group, made.tasks[0], made.messages, made.tools)

    def _offer(self, needed: set[str], without: set[str]) -> list[Any]:
        return self.maker.offer(needed, without, self.rng.randint(max(1, len(needed)), 8))

    def doable(self, group: str, intents: tuple[str, ...]) -> Case:
        """A task with its functions at hand."""
        weights = [INTENTS[intent] for intent in intents]
        task = self.tasks.make(self.rng.choices(intents, weights)[0])
        return self._case(group, task, self._offer(task.kinds(), set()))

    def failing(self) -> Case:
        """A task whose first call comes back as an error."""
        task = self.tasks.make(self.rng.choice((*SINGLE, "read_calc", "read_write")))
        call, answer = fail(task.calls[0], self.words)
        tools = self._offer(task.kinds(), set())
        return self._case("error", replace(task, calls=(call,), answer=answer), tools)

    def undoable(self) -> Case:
        """A request without a function for it."""
        if self.rng.random() < 0.5:
            patterns = heldout.HOPELESS if self.unseen_phrasings else talk.HOPELESS
            task = talk.hopeless(self.words, patterns)
            return self._case("refusal", task, self._foreign(task, set()))
        task = self.tasks.make(self.rng.choice(SINGLE))
        without = task.kinds() | {"js_run", "python_run"}
        return self._case("refusal", task, self._foreign(task, without))

    def _foreign(self, task: Task, without: set[str]) -> list[Any]:
        from other_tools import OTHERS

        return self._offer(set(), without | set(OTHERS))

    def courtesy(self) -> Case:
        """Small talk while functions are offered."""
        table = [("", heldout.SMALL_TALK)] if self.unseen_phrasings else talk.SMALL_TALK
        task = talk.small_talk(self.words, table)
        return self._case("talk", task, self._offer(set(), set()))

    def toolless(self) -> Case:
        """Anything, with no function offered at all."""
        task = self.tasks.make(self.rng.choice(SINGLE))
        return self._case("toolless", replace(task, calls=(), answer=NO_TOOL, needs=("none",)), [])


def suite(seed: int, scale: float) -> Iterator[Case]:
    """All cases; `scale` 1.0 makes about 1,400 of them."""
    unseen_words = Cases(seed, unseen_words=True, unseen_phrasings=False)
    phrasings = Cases(seed + 1, unseen_words=False, unseen_phrasings=True)
    plan: list[tuple[int, Callable[[], Case]]] = [
        (300, lambda: unseen_words.doable("words", SINGLE)),
        (300, lambda: phrasings.doable("phrasings", SINGLE)),
        (125, lambda: unseen_words.doable("chains", CHAINS)),
        (125, lambda: phrasings.doable("chains", CHAINS)),
        (100, unseen_words.undoable),
        (150, phrasings.undoable),
        (50, unseen_words.courtesy),
        (50, phrasings.courtesy),
        (50, unseen_words.toolless),
        (50, phrasings.toolless),
        (60, unseen_words.failing),
        (40, phrasings.failing),
    ]
    for count, make in plan:
        for _ in range(max(1, round(count * scale))):
            yield make()
