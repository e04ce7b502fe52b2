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

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import cast

from node.errors import BudgetExceededError, InferenceError, PolicyDeniedError, WorkspaceError
from node.inference import Engine, Message, ToolCall
from node.runs.asking import Asking
from node.runs.content import clean, compact
from node.runs.context import Exchange
from node.runs.effect import Effect, GuardStage, Outcome
from node.runs.guards_secrets import SecretsGuard, redact
from node.runs.offer import Offer
from node.runs.program import Answer, ProgramRun
from node.runs.progress import Progress
from node.runs.reply import Reply
from node.runs.toolset import Toolset
from node.runs.workspace import Workspaces
from node.types import Json, JsonObject

_TIMES_ANSWERED = 2  # until guards let an answer pass
_IDLE_STEPS = 4  # in a row that bring nothing new


class AgentLoop:
    """The program of every agent. Holds nothing of a run; call it with one.

    Args:
        engine: where tokens come from.
        toolset: the functions an agent may call.
        workspaces: keeps what a run changed as a commit; None where there is no version control.
        secrets: the node's own, asked at every step, to keep them out of live tokens.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        toolset: Toolset,
        workspaces: Workspaces | None = None,
        secrets: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.engine = engine
        self.toolset = toolset
        self.workspaces = workspaces
        self.secrets = SecretsGuard(secrets)

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
            answer = Answer("stopped", reason=error.diagnostics())
        except InferenceError as error:
            answer = Answer("failed", reason=error.diagnostics())
        answer = await session.close(answer)
        said, _ = redact(answer.reason, self.secrets.forms())  # it may quote what the model said
        return replace(answer, reason=said)


class Session:
    """One run of the loop."""

    def __init__(self, loop: AgentLoop, run: ProgramRun) -> None:
        self._loop = loop
        self._run = run
        self._agent = run.agent
        self._asking = Asking(
            run,
            engine=loop.engine,
            step=self._step,
            held=self._is_judged,
            secrets=loop.secrets.forms,
        )
        self._progress = Progress(_IDLE_STEPS)
        self._steps = 0
        self._citations: list[str] = []
        self._refusals = 0
        self._wrote = False
        self._noted = True  # whether the workspaces were told of all that the run wrote
        self._resumed = False  # whether an earlier process began it

    async def work(self) -> Answer:
        """From the prompt to the answer."""
        refused = await self._check_prompt() or await self._asking.open(self._loop.toolset)
        if refused:
            return refused
        while True:
            reply = await self._asking.reply()
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
            agent, run = self._agent.name, self._run.id
            await self._step(workspaces.commit(agent, run, answer.status, noted=self._noted))
        except WorkspaceError as error:
            why = f"{answer.reason} The files were not committed: {error.message}".strip()
            return replace(answer, reason=why)
        return answer

    async def _check_prompt(self) -> Answer | None:
        self._steps += 1
        verdict = await self._run.guard(GuardStage.INPUT, self._run.prompt)
        if verdict.verdict == "fail":
            return Answer("failed", reason=f"The prompt was refused: {verdict.reason}.")
        if verdict.verdict == "rewrite":
            self._asking.talk = replace(self._asking.talk, goal=str(verdict.value))
        return None

    # ── performing calls ────────────────────────────────────────────────────────────────────

    async def _perform(self, reply: Reply) -> Answer | None:
        self._asking.live.take_back("it calls a tool first")
        results: list[Message] = []
        for offer, call in reply.calls:
            if self._progress.repeated(offer, call.arguments):
                return self._stopped(f"it repeated the same call of {call.name}")
            results.append(await self._call(offer, call))
        exchange = Exchange(reply.message, tuple(results))
        self._asking.talk = self._asking.talk.with_exchange(exchange)
        if self._progress.end_step():
            return self._stopped(f"{_IDLE_STEPS} steps in a row brought nothing new")
        return None

    async def _call(self, offer: Offer, call: ToolCall) -> Message:
        """One call through the door; a refusal is something the model is told, too."""
        arguments = cast("JsonObject", clean(call.arguments))
        toolset, labels = self._loop.toolset, self._run.labels
        effect = toolset.effect(
            self._agent, offer, arguments, labels=labels, wrote=self._note, run=self._run
        )
        writes = "workspace" in offer.capabilities and not offer.read_only
        self._wrote = self._wrote or writes
        ok, value = False, cast("Json", None)
        try:
            outcome = await self._step(effect)
            ok, value = outcome.ok, outcome.value
            self._noted = self._noted and not (writes and outcome.replayed)
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
            self._asking.live.settle(text, changed=verdict.verdict == "rewrite")
            return Answer("completed", text, citations=tuple(self._citations))
        self._asking.live.take_back(verdict.reason)
        self._refusals += 1
        if self._refusals == _TIMES_ANSWERED:
            return Answer(
                "could_not",
                "I could not give an answer that holds up to my checks.",
                citations=tuple(self._citations),
                reason=f"The answer was refused: {verdict.reason}.",
            )
        self._asking.complain(text, f"That answer was refused: {verdict.reason}. Answer again.")
        return None

    def _note(self, path: str) -> None:
        """Tells the workspace that this run writes a file; on a thread of the sandbox."""
        if self._loop.workspaces:
            agent, run = self._agent.name, self._run.id
            self._loop.workspaces.wrote(agent, run, path, resumed=self._resumed)

    def _is_judged(self) -> bool:
        """Whether guards that the manifest selects have something to hold the answer against."""
        return bool(self._agent.guards.answer and self._citations)

    async def _step(self, effect: Effect) -> Outcome:
        """Through the door, counting: a path is the number of what the run did so far."""
        self._steps += 1
        outcome = await self._run.step(effect)
        self._resumed = self._resumed or outcome.replayed
        return outcome
