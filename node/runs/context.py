"""A run's conversation, and how it is made to fit the model's context.

Order: instructions, what was asked (pinned), memory, a summary of earlier steps, then exchanges: a
reply with calls and the results of those calls. What does not fit is given up in this order: the
oldest exchanges are summarised, then the results of the last exchange are cut, visibly. What was
asked and the last results are never dropped. Tools are told of by the engine's own template.

Everything here is pure but `plan`, which counts tokens and runs within a step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from node.inference import FunctionSpec, Message
from node.runs.guards import cut_text
from node.types import JsonObject

Count = Callable[[tuple[Message, ...], tuple[FunctionSpec, ...]], Awaitable[int]]

SUMMARISE = "Summarise these notes in a few short sentences. Keep names, numbers and file names."
_SUMMARY_SHARE = 8
_MOST_SUMMARY_TOKENS = 256
_SPARE = 0.75


@dataclass(frozen=True)
class Exchange:
    """A reply that called functions, and what each call came to."""

    reply: Message
    results: tuple[Message, ...]

    def messages(self) -> tuple[Message, ...]:
        """Both, in order."""
        return (self.reply, *self.results)

    def cut(self, keep: int) -> Exchange:
        """With at most `keep` characters of each result."""
        return replace(
            self,
            results=tuple(
                replace(each, content=cut_text(each.content, keep)) for each in self.results
            ),
        )


@dataclass(frozen=True)
class Conversation:
    """What the model is told. `pending` are attempts to repair the newest reply."""

    instructions: str
    goal: str
    memory: tuple[Message, ...] = ()
    summary: str = ""
    exchanges: tuple[Exchange, ...] = ()
    pending: tuple[Message, ...] = ()

    def messages(self) -> tuple[Message, ...]:
        """As messages. The summary goes with the goal, since two user turns in a row are not
        something every chat template takes."""
        system = (Message("system", self.instructions),) if self.instructions else ()
        goal = self.goal
        if self.summary:
            goal = f"{goal}\n\nNotes on what was done so far: {self.summary}"
        past = tuple(part for each in self.exchanges for part in each.messages())
        return (*system, Message("user", goal), *self.memory, *past, *self.pending)

    def with_exchange(self, exchange: Exchange) -> Conversation:
        """After calls were made; repairs that led there are forgotten."""
        return replace(self.settled(), exchanges=(*self.exchanges, exchange))

    def with_repair(self, reply: str, complaint: str) -> Conversation:
        """After a reply that could not be used."""
        turns = (Message("assistant", reply), Message("user", complaint))
        return replace(self, pending=(*self.pending, *turns))

    def settled(self) -> Conversation:
        """Without the attempts to repair the newest reply."""
        return replace(self, pending=())

    def without(self, oldest: int) -> Conversation:
        """Without the oldest exchanges."""
        return replace(self, exchanges=self.exchanges[oldest:])

    def cut(self, keep: int) -> Conversation:
        """With the results of the last exchange cut to `keep` characters."""
        if not self.exchanges:
            return self
        return replace(self, exchanges=(*self.exchanges[:-1], self.exchanges[-1].cut(keep)))

    def notes(self, oldest: int, keep: int) -> tuple[Message, ...]:
        """A request to summarise the oldest exchanges, `keep` characters of each part."""
        lines = [f"Task: {cut_text(self.goal, keep)}"]
        if self.summary:
            lines.append(cut_text(self.summary, keep))
        for exchange in self.exchanges[:oldest]:
            lines += _lines(exchange, keep)
        return (Message("system", SUMMARISE), Message("user", "\n".join(lines)))

    def outline(self, oldest: int) -> str:
        """A summary that needs no model: what was called."""
        done = [call.name for each in self.exchanges[:oldest] for call in each.reply.tool_calls]
        return f"{self.summary} Then called: {', '.join(done)}.".strip()


def _lines(exchange: Exchange, keep: int) -> list[str]:
    calls = exchange.reply.tool_calls
    lines = [cut_text(exchange.reply.content, keep)] if exchange.reply.content else []
    for call, result in zip(calls, exchange.results, strict=True):
        given = ", ".join(f"{key}={value}" for key, value in call.arguments.items())
        lines.append(f"{call.name}({cut_text(given, keep)}): {cut_text(result.content, keep)}")
    return lines


@dataclass(frozen=True)
class Plan:
    """How a conversation is made to fit.

    `summarise` of the oldest exchanges become a summary of at most `summary_tokens`, made from
    `notes` characters of each of their parts; `keep` characters of each of the last results stay
    (None: all). `fits` is False where even that is too much; then `least_tokens` and `room` say by
    how much.
    """

    fits: bool
    summarise: int = 0
    notes: int = 0
    summary_tokens: int = 0
    keep: int | None = None
    least_tokens: int = 0
    room: int = 0

    def to_json(self) -> JsonObject:
        """As it is recorded."""
        return dict(self.__dict__)


async def plan(
    conversation: Conversation,
    *,
    tools: tuple[FunctionSpec, ...],
    room: int,
    count: Count,
) -> Plan:
    """The plan that gives up least.

    Args:
        room: tokens the prompt may have.
        count: prompt tokens of messages with tools.
    """
    summary = min(_MOST_SUMMARY_TOKENS, max(1, room // _SUMMARY_SHARE))

    async def tokens(of: Conversation) -> int:
        return await count(of.messages(), tools)

    last = max(0, len(conversation.exchanges) - 1)
    dropped = await _least_dropped(conversation, last, tokens, int(room * _SPARE) - summary)
    rest = conversation.without(dropped)
    allowed = room - summary if dropped else room
    keep = None if await tokens(rest) <= allowed else await _most_kept(rest, tokens, allowed)
    if keep is not None and keep < 0:
        return Plan(fits=False, least_tokens=await tokens(rest.cut(0)), room=allowed)
    notes = await _most_notes(conversation, dropped, count, room - summary) if dropped else 0
    return Plan(
        fits=True,
        summarise=dropped,
        notes=notes,
        summary_tokens=summary if dropped else 0,
        keep=keep,
        room=room,
    )


Tokens = Callable[[Conversation], Awaitable[int]]


async def _least_dropped(conversation: Conversation, last: int, tokens: Tokens, most: int) -> int:
    """The fewest oldest exchanges, up to `last`, without which the rest has `most` tokens."""
    low, high = min(1, last), last
    while low < high:
        middle = (low + high) // 2
        if await tokens(conversation.without(middle)) <= most:
            high = middle
        else:
            low = middle + 1
    return low


async def _most_kept(rest: Conversation, tokens: Tokens, most: int) -> int:
    """The most characters of each last result that fit; -1 if none do."""
    if not rest.exchanges:
        return -1
    longest = max(len(each.content) for each in rest.exchanges[-1].results)

    async def fits(keep: int) -> bool:
        return await tokens(rest.cut(keep)) <= most

    return await _greatest(longest, fits)


async def _most_notes(conversation: Conversation, oldest: int, count: Count, most: int) -> int:
    """The most characters of each part that a request to summarise can hold."""
    parts = [*conversation.notes(oldest, 10**9)]
    longest = max(len(message.content) for message in parts)

    async def fits(keep: int) -> bool:
        return await count(conversation.notes(oldest, keep), ()) <= most

    return max(0, await _greatest(longest, fits))


async def _greatest(most: int, fits: Callable[[int], Awaitable[bool]]) -> int:
    """The greatest number up to `most` that fits, by halving; -1 if not even 0 does."""
    low, high = -1, most
    while low < high:
        middle = (low + high + 1) // 2
        if await fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
