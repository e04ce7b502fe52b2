"""The door as a node has one: what every step of every run is held against."""

from __future__ import annotations

from dataclasses import dataclass

from node.clock import Clock
from node.errors import RunStoppedError
from node.runs.approvals import Approvals
from node.runs.budget import NodeLimits
from node.runs.checks import Guards
from node.runs.ledger import Ledger
from node.runs.policy import Policy
from node.runs.survey import RunLog


@dataclass
class Door:
    """Shut (`shut` says why), nothing passes: no run takes another step."""

    log: RunLog
    clock: Clock
    policy: Policy
    guards: Guards
    approvals: Approvals
    ledger: Ledger
    limits: NodeLimits
    shut: str = ""

    def check(self) -> None:
        """Raises RunStoppedError if the door is shut."""
        if self.shut:
            raise RunStoppedError(self.shut, hint="`freehold resume` lifts an emergency stop.")
