"""What each agent and the node used today (UTC), rebuilt from the log on start.

The log is the only store. A step counts on the day its hold was taken, even if it ends, or a person
lets it happen, on the next: its result says which day that was. A run that ended says in its last
entry what it spent on which day, so that a restart need not read all its steps. An intent without a
result counts as held until the run that left it is resumed. Days that passed are kept: a clock may
be set back, and the day that it is then must not be spent a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from node.clock import Clock
from node.journal import Entry
from node.runs.agent import NODE_AGENT, AgentManifest
from node.runs.budget import Hold, NodeLimits, Pocket
from node.runs.coding import needs_in, usage_from
from node.runs.effect import Usage

DAY_S = 86_400


def day_of(result: Entry) -> str:
    """The UTC day a `step.result` is booked on, as in 2026-11-21."""
    day = result.data.get("day")
    return day if isinstance(day, str) else _named(result.ts // (DAY_S * 1000))


@lru_cache(maxsize=8)
def _named(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat()


@dataclass
class _Day:
    """The pockets of one UTC day."""

    node: Pocket
    agents: dict[str, Pocket] = field(default_factory=dict)


class Ledger:
    """The days' pockets."""

    def __init__(self, *, limits: NodeLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._day = self._today()
        self._days: dict[str, _Day] = {}
        self._left_open: dict[tuple[str, str], Hold] = {}

    def pockets(self, agent: AgentManifest) -> tuple[Pocket, ...]:
        """Today's pockets of the agent and of the node; what the owner does is limited by nothing
        here, and takes nothing from the agents."""
        self._day = self._today()
        pocket, *node = self._pockets_of(agent.name, self._day)
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
        return self._day

    def is_of_today(self, finished: Entry) -> bool:
        """Whether a finished run spent something today, or ended today."""
        spent, today = finished.data.get("spent"), self._today()
        return _named(finished.ts // (DAY_S * 1000)) == today or (
            isinstance(spent, dict) and today in spent
        )

    def count_finished(self, entry: Entry) -> bool:
        """Counts what a finished run spent, by day; False if its last entry does not say."""
        spent = entry.data.get("spent")
        if not isinstance(spent, dict):
            return False
        for day, usage in spent.items():
            for pocket in self._pockets_of(entry.draft.agent or "", day):
                pocket.used += usage_from(usage)
        return True

    def count(self, entry: Entry) -> None:
        """Counts one entry of a run; its entries must come in order."""
        draft, data = entry.draft, entry.data
        if draft.run is None or "copied_from" in data:
            return
        step, agent = (draft.run, draft.path or ""), draft.agent or ""
        if entry.type == "step.intent":  # one that was refused has its result in the same commit
            held = self._pockets_of(agent, self._today())
            self.keep(*step, Hold(held, needs_in(entry) + Usage(steps=1)))
        elif entry.type == "step.result":
            self.take_over(*step)
            Hold(self._pockets_of(agent, day_of(entry)), Usage()).reconcile(
                usage_from(data.get("usage"))
            )

    def keep(self, run: str, path: str, hold: Hold) -> None:
        """Has a step that is under way hold this until it is taken over, wherever it is left."""
        hold.kept = True
        self._left_open[run, path] = hold

    def take_over(self, run: str, path: str) -> None:
        """Gives back what a step held; whoever resumes an interrupted one reserves anew."""
        hold = self._left_open.pop((run, path), None)
        if hold is not None:
            hold.release()

    def _pockets_of(self, agent: str, day: str) -> tuple[Pocket, ...]:
        known = self._days.get(day) or self._days.setdefault(day, _Day(self._node_pocket()))
        key = f"{{}}_per_day in [budget] of agent {agent}"
        own = known.agents.setdefault(agent, Pocket(f"agent {agent} today", {}, key=key))
        return (own,) if agent == NODE_AGENT else (own, known.node)

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
            key="limits.{}_per_day in config.toml",
        )

    def _today(self) -> str:
        return _named(int(self._clock.wall() // DAY_S))
