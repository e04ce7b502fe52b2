"""What a run came to, as its program says it and as its caller gets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from node.runs.effect import Usage

Status = Literal["completed", "failed", "stopped", "could_not"]


@dataclass(frozen=True)
class Answer:
    """The end of a run.

    `could_not` is the honest "I could not"; `stopped` is a run ended from outside its own logic (a
    person, a budget, no progress), with the `reason` in words. `citations` are the paths of the
    steps whose results the text rests on.
    """

    status: Status
    text: str = ""
    citations: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class RunResult(Answer):
    """An answer with the run it belongs to and what it used, all branches together."""

    run_id: str = ""
    usage: Usage = field(default_factory=Usage)
