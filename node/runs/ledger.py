"""What each agent and the node used today (UTC), rebuilt from the log on start.

The log is the only store. A step counts on the day its hold was taken, even if it ends, or a person
lets it happen, on the next: its result says which day that was. A run that ended says in its last
entry what it spent on which day, so that a restart need not read all its steps. An intent without a
result counts as held until the run that left it is resumed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from node.clock import Clock
from node.journal import Entry
from node.runs.agent import NODE_AGENT, AgentManifest
from node.runs.budget import Hold, NodeLimits, Pocket
from node.runs.coding import usage_from
from node.runs.effect import Usage
from node.types import JsonObject

DAY_S = 86_400


def day_of(result: Entry) -> str:
    """The UTC day a `step.result` is booked on, as in 2026-11-21."""
    day = result.data.get("day")
    return day if isinstance(day, str) else _named(result.ts // (DAY_S * 1000))


@lru_cache(maxsize=8)
def _named(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat()


class Ledger:
    """The day's pockets."""

    def __init__(self, *, limits: NodeLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._day = self._today()
        self._node = self._node_pocket()
        self._agents: dict[str, Pocket] = {}
        self._left_open: dict[tuple[str, str], Hold] = {}

    @property
    def day_start_ms(self) -> int:
        """The first millisecond of today, as entries are stamped."""
        return self._today() * DAY_S * 1000

    def pockets(self, agent: AgentManifest) -> tuple[Pocket, ...]:
        """Today's pockets of the agent and of the node; what the owner does is limited by nothing
        here, and takes nothing from the agents."""
        self._turn_over()
        pocket, *node = self._pockets_of(agent.name)
        if not node:
            return (pocket,)
        tokens = agent.budget.tokens_per_day
        pocket.limits = {
            "tokens": self._limits.agent_tokens_per_day if tokens is None else tokens,
            "msat": agent.budget.sats_per_day * 1000,
        }
        return pocket, *node

    @property
    def day(self) -> str:
        """The day of the pockets that were last given."""
        return _named(self._day)

    def count_finished(self, entry: Entry) -> bool:
        """Counts what a finished run spent today; False if its last entry does not say."""
        spent = entry.data.get("spent")
        if not isinstance(spent, dict):
            return False
        self._turn_over()
        for pocket in self._pockets_of(entry.draft.agent or ""):
            pocket.used += usage_from(spent.get(self.day))
        return True

    def count(self, entry: Entry) -> None:
        """Counts one entry of a run; its entries must come in order, those before today too."""
        draft, data = entry.draft, entry.data
        if entry.ts < self.day_start_ms or draft.run is None or "copied_from" in data:
            return
        self._turn_over()
        step = (draft.run, draft.path or "")
        pockets = self._pockets_of(draft.agent or "")
        if entry.type == "step.intent" and _was_let_through(entry):
            self._left_open[step] = Hold(pockets, usage_from(_needs(data)))
        elif entry.type == "step.result":
            hold = self._left_open.pop(step, None) or Hold(pockets, Usage())
            hold.reconcile(usage_from(data.get("usage") if day_of(entry) == self.day else None))

    def take_over(self, run: str, path: str) -> None:
        """Gives back what an interrupted step held; whoever resumes it reserves anew."""
        hold = self._left_open.pop((run, path), None)
        if hold is not None:
            hold.release()

    def _pockets_of(self, agent: str) -> tuple[Pocket, ...]:
        own = self._agents.setdefault(agent, Pocket(f"agent {agent} today", {}))
        return (own,) if agent == NODE_AGENT else (own, self._node)

    def _node_pocket(self) -> Pocket:
        limits = self._limits
        return Pocket(
            "this node today",
            {
                "steps": limits.steps_per_day,
                "tokens": limits.tokens_per_day,
                "egress_bytes": limits.egress_bytes_per_day,
                "msat": limits.sats_per_day * 1000,
            },
        )

    def _turn_over(self) -> None:
        if self._today() != self._day:
            self._day, self._node, self._agents = self._today(), self._node_pocket(), {}

    def _today(self) -> int:
        return int(self._clock.wall() // DAY_S)


def _was_let_through(entry: Entry) -> bool:
    policy = entry.draft.policy
    return policy is None or policy.verdict not in ("deny", "expired")


def _needs(data: JsonObject) -> object:
    needs = data.get("needs")
    return needs.get("usage") if isinstance(needs, dict) else None
