"""The agent's loop: ask the model, perform what it calls, until it answers.

It is a pure function of the outcomes the door gives it, so a run that is resumed or replayed takes
the same steps. It adds no words of its own to what the model is told but complaints about output
that could not be used and the notes of a summary: a small model follows few instructions, and those
are the manifest's.

How a run ends: `completed` with the model's answer; `could_not` where the guards refused the answer
twice; `failed` where the prompt does not fit, the output stayed malformed or the model broke;
`stopped` where a budget ran out, a call was repeated, or several steps brought nothing new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from node.errors import BudgetExceededError, InferenceError, PolicyDeniedError, WorkspaceError
from node.inference import Engine, Generation, Message, Sampling, ToolCall
from node.runs.content import clean, compact, text_bytes
from node.runs.context import Conversation, Exchange
from node.runs.effect import Effect, GuardStage, Outcome
from node.runs.guards import cut_text
from node.runs.model_effect import (
    Fit,
    Generate,
    Opening,
    messages_json,
    plan_of,
    reply_room,
)
from node.runs.program import Answer, ProgramRun
from node.runs.progress import Progress
from node.runs.schemas import checker
from node.runs.tool_effect import Offer, specs
from node.runs.toolset import Toolset
from node.runs.workspace import Workspaces
from node.types import Json, JsonObject

_MESSAGE_TOKENS = 16
_LONGEST_COMPLAINT = 400
_LONGEST_BAD_REPLY = 800


@dataclass(frozen=True)
class LoopLimits:
    """When the loop gives up: attempts to repair one reply, attempts to repair an answer that
    guards refused, steps in a row without anything new, calls in one reply, attempts to make a
    conversation fit."""

    repairs: int = 2
    answer_repairs: int = 1
    idle_steps: int = 4
    calls_per_reply: int = 8
    fits: int = 3


class AgentLoop:
    """The program of every agent. Holds nothing of a run; call it with one.

    Args:
        engine: where tokens come from.
        toolset: the functions an agent may call.
        workspaces: keeps what a run changed as a commit; None where there is no version control.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        toolset: Toolset,
        workspaces: Workspaces | None = None,
        limits: LoopLimits | None = None,
    ) -> None:
        self.engine = engine
        self.toolset = toolset
        self.workspaces = workspaces
        self.limits = limits or LoopLimits()

    async def __call__(self, run: ProgramRun) -> Answer:
        """Runs the agent.

        Raises:
            FreeholdError: what the loop cannot answer for: the run was stopped at the door, its
                record has another step, an outcome is unknown.
        """
        session = Session(self, run)
        try:
            answer = await session.work()
        except BudgetExceededError as error:
            answer = Answer("stopped", reason=error.message)
        except InferenceError as error:
            answer = Answer("failed", reason=error.diagnostics())
        return await session.close(answer)


@dataclass(frozen=True)
class Reply:
    """A model's reply that can be used: a text, or calls of functions that were offered."""

    text: str
    calls: tuple[tuple[Offer, ToolCall], ...]
    message: Message


class Session:
    """One run of the loop."""

    def __init__(self, loop: AgentLoop, run: ProgramRun) -> None:
        self._loop = loop
        self._run = run
        self._agent = run.agent
        self._limits = loop.limits
        self._offers: Mapping[str, Offer] = {}
        self._talk = Conversation(run.agent.instructions, run.prompt)
        self._progress = Progress(loop.limits.idle_steps)
        self._sampling = Sampling(
            temperature=run.agent.temperature, max_tokens=run.agent.max_tokens
        )
        self._context_tokens = 0
        self._told: tuple[int, int] = (0, 0)
        self._steps = 0
        self._citations: list[str] = []
        self._answer_repairs = 0
        self._wrote = False

    async def work(self) -> Answer:
        """From the prompt to the answer."""
        refused = await self._check_prompt() or await self._open()
        if refused:
            return refused
        while True:
            reply = await self._reply()
            if isinstance(reply, Answer):
                return reply
            ending = await (self._perform(reply) if reply.calls else self._check_answer(reply))
            if ending:
                return ending

    async def close(self, answer: Answer) -> Answer:
        """Keeps what the run changed in its workspace, however it ended."""
        workspaces = self._loop.workspaces
        if not (self._wrote and workspaces):
            return answer
        try:
            await self._step(workspaces.commit(self._agent.name, self._run.id, answer.status))
        except WorkspaceError as error:
            why = f"{answer.reason} The files were not committed: {error.message}".strip()
            return replace(answer, reason=why)
        return answer

    # ── before any work ─────────────────────────────────────────────────────────────────────

    async def _check_prompt(self) -> Answer | None:
        self._steps += 1
        verdict = await self._run.guard(GuardStage.INPUT, self._run.prompt)
        if verdict.verdict == "fail":
            return Answer("failed", reason=f"The prompt was refused: {verdict.reason}.")
        if verdict.verdict == "rewrite":
            self._talk = replace(self._talk, goal=str(verdict.value))
        return None

    async def _open(self) -> Answer | None:
        offers = partial(self._loop.toolset.offers, self._agent)
        opening = Opening(self._loop.engine, self._request(), offers)
        value = cast("Any", (await self._step(opening)).value)
        self._offers = {each["name"]: Offer.from_json(each) for each in value["functions"]}
        self._context_tokens = value["context_tokens"]
        self._sampling = replace(self._sampling, seed=value["seed"])
        self._told = (value["prompt_tokens"], len(self._talk.messages()))
        reply = reply_room(self._agent.max_tokens, self._context_tokens)
        if value["prompt_tokens"] + reply <= self._context_tokens:
            return None
        return Answer("failed", reason=self._too_long(value["prompt_tokens"], reply))

    def _too_long(self, prompt: int, reply: int) -> str:
        return (
            f"The prompt does not fit: with instructions and tools it has {prompt} tokens, and "
            f"model {self._agent.model} has room for {self._context_tokens}, of which {reply} are "
            "kept for the answer. Shorten the prompt or the instructions, or grant fewer tools."
        )

    # ── asking the model ────────────────────────────────────────────────────────────────────

    async def _reply(self) -> Reply | Answer:
        """The next reply that can be used."""
        wrong = ""
        for _ in range(self._limits.repairs + 1):
            value = await self._generate()
            if isinstance(value, Answer):
                return value
            wrong = self._wrong(value)
            if not wrong:
                return self._usable(value)
            self._complain(
                str(value.get("raw") or value["text"]), f"That could not be used: {wrong}."
            )
        return Answer(
            "failed",
            reason=f"The model's output could not be used, {self._limits.repairs + 1} times in a "
            f"row; the last time: {wrong}.",
        )

    async def _generate(self) -> dict[str, Any] | Answer:
        for _ in range(self._limits.fits):
            outcome = await self._step(self._generation(self._request(), emit=True))
            value = cast("dict[str, Any]", outcome.value)
            if "overflow" not in value:
                used = outcome.usage
                told = used.prompt_tokens + used.completion_tokens
                self._told = (told, len(self._talk.settled().messages()))
                return value
            refused = await self._make_fit()
            if refused:
                return refused
        return Answer("failed", reason="The conversation could not be made to fit the model.")

    def _generation(self, request: Generation, *, emit: bool = False) -> Generate:
        """The effect, with the most prompt tokens it may have: a token has at least one byte."""
        tokens, known = self._told
        new = request.messages[known:] if request.tools else request.messages
        most = (tokens if request.tools else 0) + text_bytes(messages_json(new))
        return Generate(
            self._loop.engine,
            request,
            estimate=min(self._context_tokens, most + _MESSAGE_TOKENS * len(new)),
            name="generate" if emit else "summarise",
            emit=self._run.emit if emit else None,
        )

    def _request(self) -> Generation:
        return Generation(
            model=self._agent.model,
            messages=self._talk.messages(),
            tools=specs(tuple(self._offers.values())),
            sampling=self._sampling,
        )

    async def _make_fit(self) -> Answer | None:
        fit = Fit(self._loop.engine, self._request(), self._talk)
        plan = plan_of(await self._step(fit))
        if not plan.fits and self._talk.pending:
            self._talk = self._talk.settled()
            return None
        if not plan.fits:
            sizes = f"{plan.least_tokens} tokens of {plan.room}"
            return Answer("failed", reason=f"What is needed at least does not fit: {sizes}.")
        if plan.keep is not None:
            self._talk = self._talk.cut(plan.keep)
        if plan.summarise:
            summary = await self._summarise(plan.summarise, plan.notes, plan.summary_tokens)
            self._talk = replace(self._talk.without(plan.summarise), summary=summary)
        self._told = (self._context_tokens, 0)
        return None

    async def _summarise(self, oldest: int, notes: int, most: int) -> str:
        """What the model makes of the oldest exchanges; an outline of them if it makes nothing."""
        request = Generation(
            model=self._agent.model,
            messages=self._talk.notes(oldest, notes),
            sampling=replace(self._sampling, max_tokens=most),
        )
        value = cast("dict[str, Any]", (await self._step(self._generation(request))).value)
        return str(value.get("text", "")).strip() or self._talk.outline(oldest)

    # ── judging a reply ─────────────────────────────────────────────────────────────────────

    def _wrong(self, value: dict[str, Any]) -> str:
        """Why a reply cannot be used, in words for the model; empty if it can."""
        calls = value.get("tool_calls", [])
        if value.get("malformed"):
            return str(value["malformed"])[:_LONGEST_COMPLAINT]
        if len(calls) > self._limits.calls_per_reply:
            return f"call at most {self._limits.calls_per_reply} functions at once"
        for call in calls:
            wrong = self._wrong_call(call["name"], call["arguments"])
            if wrong:
                return wrong[:_LONGEST_COMPLAINT]
        if calls:
            return ""
        if value["finish"] == "length":
            return "the answer was cut off for its length; answer in fewer words"
        return "" if value["text"].strip() else "the answer was empty"

    def _wrong_call(self, name: str, arguments: JsonObject) -> str:
        offer = self._offers.get(name)
        if offer is None:
            return f"there is no function {name}; there are: {', '.join(self._offers) or 'none'}"
        wrong = checker(offer.parameters).wrong(arguments)
        return f"the arguments of {name} are wrong: {wrong}" if wrong else ""

    def _usable(self, value: dict[str, Any]) -> Reply:
        calls = tuple(
            ToolCall(call["name"], call["arguments"]) for call in value.get("tool_calls", [])
        )
        return Reply(
            text=value["text"],
            calls=tuple((self._offers[call.name], call) for call in calls),
            message=Message("assistant", value["text"], tool_calls=calls),
        )

    def _complain(self, reply: str, complaint: str) -> None:
        self._talk = self._talk.with_repair(cut_text(reply, _LONGEST_BAD_REPLY), complaint)

    # ── performing calls ────────────────────────────────────────────────────────────────────

    async def _perform(self, reply: Reply) -> Answer | None:
        results: list[Message] = []
        for offer, call in reply.calls:
            if self._progress.repeated(offer, call.arguments):
                return self._stopped(f"it repeated the same call of {call.name}")
            results.append(await self._call(offer, call))
        self._talk = self._talk.with_exchange(Exchange(reply.message, tuple(results)))
        if self._progress.stuck():
            return self._stopped(f"{self._limits.idle_steps} steps in a row brought nothing new")
        return None

    async def _call(self, offer: Offer, call: ToolCall) -> Message:
        """One call through the door; a refusal is something the model is told, too."""
        arguments = cast("JsonObject", clean(call.arguments))
        toolset, labels = self._loop.toolset, self._run.labels
        effect = toolset.effect(self._agent, offer, arguments, labels=labels)
        self._wrote = self._wrote or ("workspace" in offer.capabilities and not offer.read_only)
        ok, value = False, cast("Json", None)
        try:
            outcome = await self._step(effect)
            ok, value = outcome.ok, outcome.value
        except PolicyDeniedError as error:
            value = {"error": f"not allowed: {error.message}"}
        if ok:
            self._citations.append(str(self._steps))
        self._progress.note(offer, call.arguments, ok=ok, value=value)
        return Message("tool", compact(value), name=call.name)

    def _stopped(self, why: str) -> Answer:
        return Answer(
            "stopped", citations=tuple(self._citations), reason=f"The run was stopped: {why}."
        )

    # ── the answer ──────────────────────────────────────────────────────────────────────────

    async def _check_answer(self, reply: Reply) -> Answer | None:
        text = reply.text.strip()
        self._steps += 1
        verdict = await self._run.guard(GuardStage.ANSWER, text)
        if verdict.verdict == "rewrite":
            text = str(verdict.value)
        if verdict.verdict != "fail":
            return Answer("completed", text, citations=tuple(self._citations))
        if self._answer_repairs >= self._limits.answer_repairs:
            return Answer(
                "could_not",
                "I could not give an answer that holds up to my checks.",
                citations=tuple(self._citations),
                reason=f"The answer was refused: {verdict.reason}.",
            )
        self._answer_repairs += 1
        self._complain(text, f"That answer was refused: {verdict.reason}. Answer again.")
        return None

    async def _step(self, effect: Effect) -> Outcome:
        """Through the door, counting: a path is the number of what the run did so far."""
        self._steps += 1
        return await self._run.step(effect)
