"""What the log already says about a run: its steps by path, and what people were asked.

Recovery and replay look a step up here before anything else is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from node.errors import DivergenceError, FreeholdError, JournalError, JournalReadError
from node.journal import Entry, Log
from node.runs.coding import Scribe, error_of, needs_in, outcome_of, places_of, usage_from
from node.runs.effect import Effect, GuardStage, Needs, Outcome, StepKind, Usage
from node.types import Json, JsonObject


@dataclass
class StepRecord:
    """One step: its intent, and its results. There are two if the first one's blob was lost."""

    path: str
    intent: Entry
    results: list[Entry] = field(default_factory=list)

    def outcome(self, log: Log) -> Outcome | FreeholdError | None:
        """What the step came to; None if that is not, or no longer, known."""
        for entry in reversed(self.results):
            error = error_of(entry)
            if error is not None:
                return error
            try:
                return outcome_of(log, entry)
            except JournalReadError:  # it may be there: the step must not be taken again
                raise
            except JournalError:
                continue
        return None

    def usage(self) -> Usage:
        """What the step used, as recorded."""
        return usage_from(self.results[-1].data.get("usage")) if self.results else Usage()

    @property
    def needs(self) -> Usage:
        """The most the step was let through to use."""
        return needs_in(self.intent)

    def lets(self, needs: Needs) -> bool:
        """Whether the step was let through to send where it would now."""
        then = self.intent.data.get("needs")
        places = then.get("destinations") if isinstance(then, dict) else None
        return not isinstance(places, list) or {*places_of(needs)} <= {*map(str, places)}

    @property
    def held(self) -> bool:
        """Whether a person must let the result into the run."""
        return bool(self.results and self.results[-1].data.get("held"))

    @property
    def is_verdict(self) -> bool:
        """Whether it is what a guard said of another step."""
        return self.intent.data.get("kind") == StepKind.GUARD

    @property
    def copied(self) -> bool:
        """Whether a fork took the step over from the run it came from."""
        return "copied_from" in self.intent.data


@dataclass
class Question:
    """Something a person was asked, and the answer if there is one."""

    asked: Entry
    settled: Entry | None = None


class Record:
    """The steps and questions of one run, from its entries in order."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.steps: dict[str, StepRecord] = {}
        self.questions: dict[int, Question] = {}
        self.verdicts: dict[tuple[str, str], dict[str, StepRecord]] = {}
        self._within: dict[str, list[StepRecord]] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Takes in the next entry."""
        path = entry.draft.path or ""
        if entry.type == "step.intent":
            self._add_step(path, entry)
        elif entry.type == "step.result" and path in self.steps:
            self.steps[path].results.append(entry)
        elif entry.type == "step.again":
            self._forget(path, "outcome_unknown")
        elif entry.type == "approval.asked":
            self.questions[entry.index] = Question(entry)
        elif entry.type == "approval.settled":
            self._settle(entry)

    def question(
        self, path: str, kind: str, is_about: Callable[[JsonObject], bool]
    ) -> Question | None:
        """The last question asked at a step, if its entry says that it was about this very one."""
        for question in reversed(self.questions.values()):
            data = question.asked.data
            if (question.asked.draft.path, data.get("kind")) == (path, kind):
                return question if is_about(data) else None
        return None

    def within(self, path: str) -> list[StepRecord]:
        """The steps that were taken within the step at a path, verdicts of guards left out."""
        return self._within.get(path, [])

    def judged(self, path: str) -> bool:
        """Whether the program had content of its own judged here, instead of taking a step."""
        stages = GuardStage.INPUT, GuardStage.ANSWER
        return any((path, stage) in self.verdicts for stage in stages)

    def _add_step(self, path: str, entry: Entry) -> None:
        new = path not in self.steps
        step = self.steps.setdefault(path, StepRecord(path, entry))
        under, *more = path.rsplit(".", 2)
        if step.is_verdict:
            stage, guard = more
            self.verdicts.setdefault((under, stage), {})[guard] = step
        elif new and more and under in self.steps:
            self._within.setdefault(under, []).append(step)

    def _forget(self, path: str, kind: str) -> None:
        """What was said of an attempt says nothing of the next."""
        for index, question in list(self.questions.items()):
            asked = question.asked
            if (asked.draft.path, asked.data.get("kind")) == (path, kind):
                del self.questions[index]

    def _settle(self, entry: Entry) -> None:
        for index in entry.draft.cause:
            if index in self.questions:
                self.questions[index].settled = entry


def compare(scribe: Scribe, recorded: StepRecord, effect: Effect) -> None:
    """Holds a step against its record: path, kind, name and the digest of the arguments.

    A step that a fork copied is compared without its arguments: an edit changes those.

    Raises:
        DivergenceError: the program took another step than the one recorded.
    """
    data = recorded.intent.data
    kind, name = data.get("kind"), data.get("name")
    if kind != str(effect.kind) or not _is_named(name, effect):
        raise diverged(recorded.path, f"{kind} {name}", f"{effect.kind} {effect.name}")
    if not recorded.copied and not scribe.matches(str(data.get("digest")), effect.args):
        raise diverged(recorded.path, f"{effect.name} with other arguments", effect.name)


def _is_named(recorded: Json, effect: Effect) -> bool:
    """Whether a step has the effect's name; older logs have `TOOL.FUNCTION` for a tool call."""
    return recorded in (effect.name, f"{effect.needs.tool}.{effect.name}")


def diverged(path: str, recorded: str, taken: str) -> DivergenceError:
    """The error for a step that is not the one on record; names both, never the arguments."""
    return DivergenceError(
        f"step {path} diverged: the record has {recorded}, the program took {taken}",
        hint="The program, a manifest or a model changed since. `freehold replay RUN --from STEP` "
        "goes on live from a step instead.",
        path=path,
        recorded=recorded,
        taken=taken,
    )
