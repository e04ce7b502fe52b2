"""A run's conversation with its model: opening it, asking, repairing, making it fit.

Each question is a step, and everything decided here follows from what steps recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

from node.inference import Engine, Generation, Priority, Sampling
from node.runs.content import text_bytes
from node.runs.context import Conversation
from node.runs.effect import Effect, Outcome
from node.runs.fit_effect import Fit, plan_of
from node.runs.guards import cut_text
from node.runs.guards_secrets import redact
from node.runs.live import Live
from node.runs.model_effect import Generate, Opening, messages_json, reply_room
from node.runs.offer import Offer, specs
from node.runs.program import Answer, ProgramRun
from node.runs.reply import Fault, Reply, judge
from node.runs.toolset import Toolset

_MESSAGE_TOKENS = 16
_LONGEST_BAD_REPLY = 800
_TIMES_ASKED = 3  # for one reply, until it can be used
_TIMES_FITTED = 3  # one conversation
_MOST_CALLS = 8  # in one reply


class Asking:
    """One run's conversation. `talk` is what the model is told; the loop adds to it.

    Args:
        step: performs an effect through the run's door.
        held: whether live words wait until the answer was judged.
        secrets: what live tokens must not hold, as `SecretsGuard.forms`.
    """

    def __init__(
        self,
        run: ProgramRun,
        *,
        engine: Engine,
        step: Callable[[Effect], Awaitable[Outcome]],
        held: Callable[[], bool] = bool,
        secrets: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self.live = Live(run.emit, held)
        self.talk = Conversation(run.agent.instructions, run.prompt)
        self._run = run
        self._agent = run.agent
        self._engine = engine
        self._step = step
        self._secrets = secrets
        self._offers: Mapping[str, Offer] = {}
        self._sampling = Sampling(
            temperature=run.agent.temperature, max_tokens=run.agent.max_tokens
        )
        self._context_tokens = 0
        self._told: tuple[int, int] = (0, 0)
        self._text_only = False

    async def open(self, toolset: Toolset) -> Answer | None:
        """Finds out what the model is and what fits it; an answer if the prompt does not."""
        offers = partial(toolset.offers, self._agent)
        opening = Opening(self._engine, self._request(), offers)
        value = cast("Any", (await self._step(opening)).value)
        self._offers = {each["name"]: Offer.from_json(each) for each in value["functions"]}
        self._context_tokens = value["context_tokens"]
        self._sampling = replace(self._sampling, seed=value["seed"])
        self._told = (value["prompt_tokens"], len(self.talk.messages()))
        reply = reply_room(self._agent.max_tokens, self._context_tokens)
        if value["prompt_tokens"] + reply <= self._context_tokens:
            return None
        return Answer("failed", reason=self._too_long(value["prompt_tokens"], reply))

    async def reply(self) -> Reply | Answer:
        """The next reply that can be used; an answer if there is none."""
        self._text_only = False
        why = ""
        for _ in range(_TIMES_ASKED):
            value = await self._generate()
            if isinstance(value, Answer):
                return value
            reply = self._judge(value)
            if isinstance(reply, Reply):
                return reply
            why, self._text_only = reply.why, reply.text
            self.live.take_back(redact(why, self._secrets())[0])
            self.complain(str(value.get("raw") or value["text"]), f"That cannot be used: {why}.")
        return Answer(
            "failed",
            reason=f"The model's output could not be used, {_TIMES_ASKED} times in a row; the last "
            f"time: {why}.",
        )

    def complain(self, reply: str, complaint: str) -> None:
        """Sends a reply back; forgotten when the next one can be used."""
        self.talk = self.talk.with_repair(cut_text(reply, _LONGEST_BAD_REPLY), complaint)

    # ── one generation ──────────────────────────────────────────────────────────────────────

    async def _generate(self) -> dict[str, Any] | Answer:
        for _ in range(_TIMES_FITTED):
            outcome = await self._step(self._generation(self._request(), emit=True))
            value = cast("dict[str, Any]", outcome.value)
            if "settled_by" in value:
                return Answer("failed", reason="The model's answer was lost when the node stopped.")
            if "overflow" not in value:
                used = outcome.usage
                told = used.prompt_tokens + used.completion_tokens
                self._told = (told, len(self.talk.settled().messages()))
                return value
            refused = await self._make_fit()
            if refused:
                return refused
        return Answer("failed", reason="The conversation could not be made to fit the model.")

    def _judge(self, value: dict[str, Any]) -> Reply | Fault:
        seen = "\n".join(message.content for message in self.talk.settled().messages())
        return judge(value, self._offers, most_calls=_MOST_CALLS, seen=seen)

    def _request(self) -> Generation:
        """The next question. An answer that was at fault is asked for again without calls: what a
        complaint says must not become a call's argument."""
        return Generation(
            model=self._agent.model,
            messages=self.talk.messages(),
            tools=specs(tuple(self._offers.values())),
            tool_choice="none" if self._text_only else "auto",
            sampling=self._sampling,
            priority=self._priority(),
        )

    def _priority(self) -> Priority:
        """Who waits for an answer goes first in a busy model's queue."""
        return "person" if self._run.watched else "background"

    def _generation(self, request: Generation, *, emit: bool = False) -> Generate:
        """The effect, with the most prompt tokens it may have: a token has at least one byte."""
        tokens, known = self._told if emit else (0, 0)
        new = request.messages[known:]
        return Generate(
            self._engine,
            request,
            estimate=min(
                self._context_tokens,
                tokens + text_bytes(messages_json(new)) + _MESSAGE_TOKENS * len(new),
            ),
            name="generate" if emit else "summarise",
            emit=self.live.show if emit else None,
            secrets=self._secrets() if emit else (),
        )

    # ── making it fit ───────────────────────────────────────────────────────────────────────

    async def _make_fit(self) -> Answer | None:
        plan = plan_of(await self._step(Fit(self._engine, self._request(), self.talk)))
        if not plan.fits and self.talk.pending:
            self.talk = self.talk.settled()
            return None
        if not plan.fits:
            sizes = f"{plan.least_tokens} tokens of {plan.room}"
            return Answer("failed", reason=f"What is needed at least does not fit: {sizes}.")
        if plan.keep is not None:
            self.talk = self.talk.cut(plan.keep)
        if plan.summarise:
            summary = await self._summarise(plan.summarise, plan.notes, plan.summary_tokens)
            self.talk = replace(self.talk.without(plan.summarise), summary=summary)
        self._told = (self._context_tokens, 0)
        return None

    async def _summarise(self, oldest: int, notes: int, most: int) -> str:
        """What the model makes of the oldest exchanges; an outline of them if it makes nothing."""
        request = Generation(
            model=self._agent.model,
            messages=self.talk.notes(oldest, notes),
            sampling=replace(self._sampling, max_tokens=most),
            priority=self._priority(),
        )
        value = cast("dict[str, Any]", (await self._step(self._generation(request))).value)
        return str(value.get("text", "")).strip() or self.talk.outline(oldest)

    def _too_long(self, prompt: int, reply: int) -> str:
        return (
            f"The prompt does not fit: with instructions and tools it has {prompt} tokens, and "
            f"model {self._agent.model} has room for {self._context_tokens}, of which {reply} are "
            "kept for the answer. Shorten the prompt or the instructions, or grant fewer tools."
        )
