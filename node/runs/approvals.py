"""Questions to a person: journalled before they are shown, answered once, open across restarts.

A question is about one step with one digest of arguments; an answer to it allows nothing else. What
nobody answers in time counts as a no. What only a person can know (did this payment go out before
the power cut?) stays open until a person says.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal, get_args

from node.clock import Clock
from node.errors import ApprovalError, JournalError
from node.journal import Draft, Entry, Log
from node.runs.coding import Scribe, content
from node.runs.effect import StepKind
from node.runs.record import Question
from node.types import Json, JsonObject, canonical

QuestionKind = Literal["policy", "guard", "result", "outcome_unknown"]
_TOO_LATE = "nobody answered in time"
_CHANGED = "what was asked about has changed since"
_REASON_CHARS = 500
ANSWERS: dict[str, tuple[str, ...]] = {
    "policy": ("approved", "denied"),
    "guard": ("approved", "denied"),
    "result": ("approved", "denied"),
    "outcome_unknown": ("happened", "did_not_happen"),
}


@dataclass(frozen=True)
class Approval:
    """An open question. `id` is the index of its entry; `expires` is in seconds since 1970.

    `args` are what the step would do, or did; None if they cannot be read any more.
    """

    id: str
    run: str
    path: str
    agent: str
    kind: QuestionKind
    step: str
    name: str
    digest: str
    rule: str
    reason: str
    asked: float
    expires: float | None
    args: Json


@dataclass(frozen=True)
class Ask:
    """A question as the door puts it. Its answer is good for these arguments; `cause` is the entry
    that led to the step.
    """

    path: str
    step: StepKind
    name: str
    args: Json
    kind: QuestionKind
    rule: str
    reason: str
    cause: int

    def is_what(self, scribe: Scribe, asked: JsonObject) -> bool:
        """Whether an earlier question was this one: about these arguments, and whom or where they
        go to, and at what cost, as a person was told. A model, or a rule, may have moved since."""
        told = self.kind != "policy" or asked.get("reason") == self.reason[:_REASON_CHARS]
        return told and scribe.matches(str(asked.get("digest")), self.args)


@dataclass(frozen=True)
class Answered:
    """How a question was settled, by whom, and the entry that says so."""

    verdict: str
    actor: str
    reason: str
    index: int

    @property
    def yes(self) -> bool:
        return self.verdict in ("approved", "happened")


@dataclass
class _Question:
    """`settling` from the first answer on; `told` once that is on the log."""

    asked: Entry
    settling: bool = False
    answer: Answered | None = None
    told: asyncio.Event = field(default_factory=asyncio.Event)


class Approvals:
    """All open questions of the node.

    Args:
        timeout_s: how long a question stays open; 0 or less means that nobody is there to ask.
    """

    def __init__(self, *, log: Log, clock: Clock, timeout_s: float) -> None:
        self._log = log
        self._clock = clock
        self._timeout_s = timeout_s
        self._questions: dict[int, _Question] = {}

    def restore(self, asked: Entry) -> None:
        """Takes up a question that an earlier process left open."""
        self._questions.setdefault(asked.index, _Question(asked))

    def drop(self, run: str) -> None:
        """Forgets the questions of a run that is over."""
        for index in [i for i, item in self._questions.items() if item.asked.draft.run == run]:
            del self._questions[index]

    def open(self) -> list[Entry]:
        """The entries of the open questions, oldest first."""
        items = (self._questions[index] for index in sorted(self._questions))
        return [item.asked for item in items if not item.settling]

    def list(self, kind: QuestionKind | None = None) -> list[Approval]:
        """The open questions, of one kind or of all, oldest first; reads what they are about."""
        return [self._shown(asked) for asked in self.open() if kind in (None, _kind_of(asked))]

    async def ask(self, scribe: Scribe, ask: Ask, *, earlier: Question | None) -> Answered:
        """Asks, or goes on waiting where an earlier process asked; returns the answer."""
        if earlier is not None and earlier.settled is not None:
            return answer_in(earlier.settled)
        if earlier is None:
            await self.withdraw(scribe.run, ask.path)
        asked = earlier.asked if earlier else await self._put(scribe, ask)
        return await self._wait(asked)

    async def reply(self, question: str, *, yes: bool, actor: str, reason: str = "") -> None:
        """Answers an open question with its own word for yes or no; durable before this returns.

        Raises:
            ApprovalError: there is no such question, or no answer to it.
        """
        item = self._find(question)
        kind = str(item.asked.data.get("kind"))
        if kind not in ANSWERS:
            raise ApprovalError(
                f"approval {question} is of a kind that this version does not know: {kind}",
                hint="Answer it under the version of Freehold that asked.",
            )
        left_s = self._left_s(item.asked)
        if left_s is not None and left_s <= 0:
            await self._expire(item, _TOO_LATE)
            raise ApprovalError(f"approval {question} has expired", hint="The run was told no.")
        await self._settle(item, ANSWERS[kind][0 if yes else 1], actor, reason)

    async def _expire(self, item: _Question, why: str) -> Answered:
        return await self._settle(item, "expired", "node", why)

    async def _settle(self, item: _Question, verdict: str, actor: str, reason: str) -> Answered:
        """Answers a question that nobody is answering; durable before this returns."""
        item.settling = True
        try:
            item.answer = await self._record(item.asked, verdict, actor, reason)
        except BaseException:
            item.settling = False
            raise
        item.told.set()
        return item.answer

    async def withdraw(self, run: str, path: str) -> None:
        """Closes what was asked about a step before that is another one now, or needs no answer."""
        for item in [*self._questions.values()]:
            about = item.asked.draft.run, item.asked.draft.path
            if about == (run, path) and not item.settling:  # else somebody answers it just now
                await self._expire(item, _CHANGED)

    async def _put(self, scribe: Scribe, ask: Ask) -> Entry:
        lasting, raw = ask.kind == "outcome_unknown", canonical(ask.args)
        expires = None if lasting else self._clock.wall() + self._timeout_s
        data: JsonObject = {
            "kind": ask.kind,
            "step": str(ask.step),
            "name": ask.name,
            "digest": scribe.digest(ask.step, raw, private=True),
            "rule": ask.rule,
            "reason": ask.reason[:_REASON_CHARS],
            "expires": expires,
        }
        blob = self._log.put_blob(raw, "args")
        draft = scribe.draft("approval.asked", ask.path, data, blobs=(blob,), cause=(ask.cause,))
        (index,) = await self._log.append(draft)
        asked = Entry(index, int(self._clock.wall() * 1000), "", 0, draft)
        self._questions[index] = _Question(asked)
        return asked

    async def _wait(self, asked: Entry) -> Answered:
        item = self._questions.setdefault(asked.index, _Question(asked))
        try:
            async with asyncio.timeout(self._left_s(asked)):
                await item.told.wait()
        except TimeoutError:
            if not item.settling:
                return await self._expire(item, _TOO_LATE)
            await item.told.wait()
        return item.answer or Answered("expired", "node", "", asked.index)

    def _left_s(self, asked: Entry) -> float | None:
        expires = asked.data.get("expires")
        return expires - self._clock.wall() if isinstance(expires, int | float) else None

    async def _record(self, asked: Entry, verdict: str, actor: str, reason: str) -> Answered:
        draft = Draft(
            type="approval.settled",
            run=asked.draft.run,
            path=asked.draft.path,
            cause=(asked.index,),
            agent=asked.draft.agent,
            actor=actor,
            data={"id": str(asked.index), "verdict": verdict, "reason": reason[:_REASON_CHARS]},
        )
        (index,) = await self._log.append(draft)
        return Answered(verdict, actor, reason, index)

    def _find(self, question: str) -> _Question:
        item = self._questions.get(int(question)) if question.isdecimal() else None
        if item is None or item.settling:
            raise ApprovalError(
                f"there is no open approval {question}",
                hint="`freehold approvals list` shows what is open.",
            )
        return item

    def _shown(self, asked: Entry) -> Approval:
        data, draft = asked.data, asked.draft
        expires = data.get("expires")
        return Approval(
            id=str(asked.index),
            run=draft.run or "",
            path=draft.path or "",
            agent=draft.agent or "",
            kind=_kind_of(asked),
            step=str(data.get("step")),
            name=str(data.get("name")),
            digest=str(data.get("digest")),
            rule=str(data.get("rule")),
            reason=str(data.get("reason")),
            asked=asked.ts / 1000,
            expires=float(expires) if isinstance(expires, int | float) else None,
            args=self._args(asked),
        )

    def _args(self, asked: Entry) -> Json:
        try:
            return content(self._log, asked, "args")
        except JournalError:
            return None


def _kind_of(asked: Entry) -> QuestionKind:
    value = asked.data.get("kind")
    return next((kind for kind in get_args(QuestionKind) if kind == value), "policy")


def answer_in(settled: Entry) -> Answered:
    """The answer an `approval.settled` holds."""
    data = settled.data
    return Answered(
        str(data.get("verdict")), settled.draft.actor, str(data.get("reason")), settled.index
    )
