"""Conversations to train on: a set of functions, one to several tasks, rendered and tokenised.

Every conversation is made fresh from a seed; nothing is read twice. `Maker` yields the messages,
`Encoder` turns them into ids by the very template that ships in the model.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import Any

import marks
import others
import talk
import toolset
from drills import Drills
from failures import could_not, fail
from tasks import NO_TOOL, Call, Task
from toolset import Offered
from various import Various
from words import Words

INTENTS = {
    "calc": 16,
    "list": 4,
    "list_in": 4,
    "read": 10,
    "lookup": 6,
    "write": 12,
    "search": 7,
    "fetch": 6,
    "match": 5,
    "query": 5,
    "diff": 4,
    "count": 6,
    "count_all": 1.5,
    "js": 3,
    "python": 3,
    "read_calc": 8,
    "pair_calc": 6,
    "total": 5,
    "read_write": 6,
    "read_count": 4,
    "calc_write": 7,
    "search_read": 5,
    "list_read": 6,
    "fetch_write": 5,
    "read_query": 3,
}
CHAINS = (
    "read_calc",
    "pair_calc",
    "total",
    "read_write",
    "read_count",
    "calc_write",
    "search_read",
    "list_read",
    "fetch_write",
    "read_query",
)
# what training has more of than the bench
TRAINED = INTENTS | {
    "list": 6,
    "list_in": 7,
    "read": 13,
    "lookup": 12,
    "write": 20,
    "search": 9,
    "match": 7,
    "diff": 9,
    "count": 8,
    "pair_calc": 9,
    "total": 9,
    "read_write": 9,
    "search_read": 9,
    "list_read": 7,
}
SINGLE = tuple(intent for intent in INTENTS if intent not in CHAINS)
_GROUPS = (
    ("calc",),
    ("files_list", "files_read", "files_write", "files_search"),
    ("web_fetch",),
    ("text_match", "text_query", "text_diff", "text_count"),
    ("js_run",),
    ("python_run",),
)
TALK, REFUSALS = 0.07, 0.17  # of the turns; the rest can be done with what is offered
_RUNNERS = {"js_run", "python_run"}
_BY_CODE = {"calc", "text_count"}


@dataclass(frozen=True)
class Mix:
    """How far the conversations are from what people will say.

    Attributes:
        drills: the share that are exercises, which are short.
        odd: the share of odd words.
        names: how often functions are called what they usually are.
    """

    drills: float
    odd: float
    names: toolset.Names


ONLY_DRILLS = Mix(1.0, 0.4, toolset.HARD)
HARD = Mix(0.4, 0.4, toolset.HARD)
USUAL = Mix(0.3, 0.15, toolset.USUAL)


@dataclass(frozen=True)
class Conversation:
    """Messages and tools in the OpenAI form, and the tasks they were made of."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    tasks: list[Task]

    @property
    def begins_alike(self) -> bool:
        """Whether it begins with the system's message, as its group does."""
        return bool(self.tools) or self.messages[0]["role"] == "system"


class Maker:
    """Makes conversations. One generator of random numbers decides everything."""

    def __init__(
        self,
        seed: int,
        pieces: tuple[str, ...] = (),
        mix: Mix = USUAL,
        spare: bool = False,
        marked: bool = False,
    ) -> None:
        self.mix, self.marked = mix, marked
        self.rng = random.Random(seed)
        self.words = Words(self.rng, odd=mix.odd, pieces=pieces)
        self.tasks = Various(self.words, spare)
        self._needed: dict[str, set[str]] = {}

    def task(self) -> Task:
        """Something the shipped functions can do, or now and then the others."""
        if self.rng.random() < 0.09:
            return others.make(self.rng.choice(list(others.OTHERS)), self.words)
        return self._of(TRAINED)

    def offer(self, needed: set[str], without: set[str], size: int) -> list[Offered]:
        """About `size` functions, `needed` among them, none of `without`."""
        if self.rng.random() < self.mix.names.shipped:
            return self._shipped_groups(needed, without)
        kinds = set(needed)
        pool = [*toolset.VARIED, *toolset.VARIED, *others.OTHERS]
        while len(kinds) < size:
            kinds.add(self.rng.choice(pool))
        kinds -= without
        ordered = sorted(kinds)
        self.rng.shuffle(ordered)
        plain = self.rng.random() < self.mix.names.plain
        return self._distinct([self._one(kind, plain) for kind in ordered])

    def _one(self, kind: str, plain: bool) -> Offered:
        if kind in others.OTHERS:
            return others.offered(kind, self.rng, self.words)
        if plain:
            return toolset.real(kind)
        return toolset.varied(kind, self.rng, self.words, self.mix.names)

    def _distinct(self, found: list[Offered]) -> list[Offered]:
        names: dict[str, Offered] = {}
        for tool in found:
            names.setdefault(tool.name, tool)
        if len(names) < len(found):
            found = [t if names[t.name] is t else replace(t, name=self.words.made()) for t in found]
        return found

    def _shipped_groups(self, needed: set[str], without: set[str]) -> list[Offered]:
        groups = [g for g in _GROUPS if needed & set(g) or self.rng.random() < 0.4]
        if self.rng.random() < 0.5:
            self.rng.shuffle(groups)
        kinds = [kind for group in groups for kind in group if kind not in without]
        extra = [kind for kind in sorted(needed) if kind in others.OTHERS]
        return [toolset.real(kind) for kind in kinds] + [self._one(kind, False) for kind in extra]

    def conversation(self) -> Conversation:
        """One conversation by itself."""
        return self.group(1)[0]

    def group(self, size: int) -> list[Conversation]:
        """`size` conversations with the same functions and the same system's message."""
        rng = self.rng
        if rng.random() < self.mix.drills:
            made = Drills(self.words, self.marked).group(size)
            return [Conversation(one.messages, one.tools, []) for one in made]
        wanted = [self.task() for _ in range(rng.choices((1, 2, 3), (50, 35, 15))[0])]
        tools: list[Offered] = []
        if rng.random() > 0.04:
            count = rng.choices((1, 2, 3, 4, 5, 6, 8, 12), (8, 12, 16, 18, 16, 14, 12, 4))[0]
            tools = self.offer(set().union(*(task.kinds() for task in wanted)), set(), count)
        system = talk.system(self.words) if rng.random() < 0.95 else None
        return [self._over(tools, system) for _ in range(size)]

    def _over(self, tools: list[Offered], system: str | None) -> Conversation:
        turns = self.rng.choices((1, 2, 3, 5), (68, 20, 10, 2))[0]
        kinds = {tool.kind for tool in tools}
        return self.assemble([self._turn(kinds) for _ in range(turns)], tools, system)

    def _turn(self, kinds: set[str]) -> Task:
        """A task for who has `kinds`: mostly one that can be done."""
        roll = self.rng.random()
        if roll < TALK:
            return self.tasks.small_talk()
        can, cannot = self._intents_with(kinds)
        foreign = sorted(kinds & set(others.OTHERS))
        if (can or foreign) and roll > TALK + REFUSALS:
            if foreign and (not can or self.rng.random() < 0.15):
                return others.make(self.rng.choice(foreign), self.words)
            return self._of(can)
        if not foreign and (not cannot or self.rng.random() < 0.4):
            return self.tasks.hopeless()
        if not cannot or self.rng.random() < 0.1:
            return others.make(self.rng.choice(sorted(set(others.OTHERS) - kinds)), self.words)
        return self._of(cannot)

    def _of(self, intents: dict[str, float]) -> Task:
        return self.tasks.make(self.rng.choices(list(intents), list(intents.values()))[0])

    def _intents_with(self, kinds: set[str]) -> tuple[dict[str, float], dict[str, float]]:
        """The intents that can be done with `kinds`, and those that plainly cannot, weighted.

        Who can run code can do sums, in a way: such are among neither.
        """
        if not self._needed:
            self._needed = {
                intent: set().union(*(self.tasks.make(intent).kinds() for _ in range(40)))
                for intent in INTENTS
            }
        can, cannot = {}, {}
        for intent, needed in self._needed.items():
            if needed <= kinds:
                can[intent] = TRAINED[intent]
            elif not (kinds & _RUNNERS and needed & _BY_CODE - kinds):
                cannot[intent] = TRAINED[intent] * (1 if intent in SINGLE else 0.2)
        return can, cannot

    def assemble(
        self,
        tasks: list[Task],
        tools: list[Offered],
        system: str | None,
        errors: float = 0.08,
    ) -> Conversation:
        """The messages of `tasks` in a row; a task that lacks a function becomes a refusal."""
        messages: list[dict[str, Any]] = []
        if system is not None:
            messages.append({"role": "system", "content": system})
        by_kind = {tool.kind: tool for tool in tools}
        done = []
        for task in tasks:
            done.append(self._possible(task, set(by_kind), errors))
            said = turns(done[-1], by_kind, spaced=self.rng.random() < 0.15)
            messages += marks.rows_marked(said, done[-1].about) if self.marked else said
        if self.marked:
            tools = [marks.name_marked(tool) for tool in tools]
        return Conversation(messages, [tool.spec() for tool in tools], done)

    def _possible(self, task: Task, kinds: set[str], errors: float) -> Task:
        if not task.kinds() <= kinds:
            return replace(task, intent="refuse", calls=(), answer=NO_TOOL)
        for at, call in enumerate(task.calls):
            if "error" in call.result:
                last, answer = call, could_not(call)
            elif self.rng.random() < errors:
                last, answer = fail(call, self.words)
            else:
                continue
            return replace(task, calls=(*task.calls[:at], last), answer=answer)
        return task


def turns(task: Task, by_kind: dict[str, Offered], spaced: bool = False) -> list[dict[str, Any]]:
    """The messages of one task."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": task.request}]
    for call in task.calls:
        messages += called(call, by_kind[call.kind], spaced)
    messages.append({"role": "assistant", "content": task.answer})
    return messages


def called(call: Call, tool: Offered, spaced: bool = False) -> list[dict[str, Any]]:
    """The assistant's call and the tool's answer."""
    function = {"name": tool.name, "arguments": tool.arguments(call.arguments)}
    separators = None if spaced else (",", ":")
    content = json.dumps(call.result, ensure_ascii=False, separators=separators)
    return [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": function}],
        },
        {"role": "tool", "name": tool.name, "content": content},
    ]
