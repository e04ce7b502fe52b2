"""Budgets: reserve before, reconcile after, in every pocket at once.

A pocket is a run, a branch's share of one, an agent's day or the node's day. A step reserves the
most it may use in all pockets it is paid from, or in none; nothing is awaited in between, so
concurrent branches can never jointly overspend. A branch's share is itself a hold on its parent, so
what a branch may spend does not depend on how fast its siblings are.

The dimensions are those of `Usage`, with prompt and completion tokens counted together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from node.errors import BudgetExceededError
from node.runs.agent import AgentManifest
from node.runs.effect import Usage

Amounts = Mapping[str, float]


@dataclass(frozen=True)
class NodeLimits:
    """What the whole node may use, and what a manifest that says nothing gets.

    Per run: `tool_calls`, `egress_bytes`. `step_seconds` is held for a step that does not say how
    long it may take. Per UTC day: what ends in `_per_day`; `agent_tokens_per_day` for each agent
    that sets none. `runs_at_once` counts unfinished runs. `approval_seconds`: how long a question
    to a person stays open before it counts as a no.
    """

    tool_calls: int = 100
    egress_bytes: int = 10_000_000
    step_seconds: float = 60.0
    steps_per_day: int = 1_000_000
    tokens_per_day: int = 100_000_000
    agent_tokens_per_day: int = 10_000_000
    egress_bytes_per_day: int = 1_000_000_000
    sats_per_day: int = 10_000
    runs_at_once: int = 256
    approval_seconds: float = 86_400.0


def amounts(usage: Usage) -> dict[str, float]:
    """The usage as one number a dimension."""
    return {
        "steps": usage.steps,
        "tool_calls": usage.tool_calls,
        "tokens": usage.prompt_tokens + usage.completion_tokens,
        "seconds": usage.seconds,
        "egress_bytes": usage.egress_bytes,
        "msat": usage.msat,
    }


def part(usage: Usage, share: float) -> Usage:
    """A share (0 to 1) of every dimension, counts rounded down."""
    return Usage(
        steps=int(usage.steps * share),
        tool_calls=int(usage.tool_calls * share),
        prompt_tokens=int(usage.prompt_tokens * share),
        completion_tokens=int(usage.completion_tokens * share),
        seconds=usage.seconds * share,
        egress_bytes=int(usage.egress_bytes * share),
        msat=int(usage.msat * share),
    )


def run_limits(agent: AgentManifest, node: NodeLimits) -> dict[str, float]:
    """The limits of one run of an agent; every dimension has one."""
    budget = agent.budget
    return {
        "steps": budget.steps,
        "tool_calls": node.tool_calls if budget.tool_calls is None else budget.tool_calls,
        "tokens": budget.tokens,
        "seconds": budget.seconds,
        "egress_bytes": node.egress_bytes if budget.egress_bytes is None else budget.egress_bytes,
        "msat": budget.sats * 1000,
    }


@dataclass(eq=False)
class Pocket:
    """One budget: its limits, what was used, and what is held for steps under way.

    A dimension that `limits` does not name is not limited here. `key` says where a person sets one,
    with {} for its name.
    """

    owner: str
    limits: Amounts
    used: Usage = field(default_factory=Usage)
    holds: dict[object, Usage] = field(default_factory=dict)
    key: str = "{} of the budget it is a part of"

    def held(self) -> Usage:
        """The sum of all holds."""
        return sum(self.holds.values(), Usage())

    def left(self) -> dict[str, float]:
        """What may still be held, by limited dimension; never below zero."""
        taken = amounts(self.used + self.held() if self.holds else self.used)
        return {name: max(0, limit - taken[name]) for name, limit in self.limits.items()}


class Hold:
    """An amount held in several pockets. Leaving its `with` block gives back what was not
    reconciled, unless it is `kept`."""

    def __init__(self, pockets: tuple[Pocket, ...], usage: Usage) -> None:
        self.usage = usage
        self.kept = False
        self._pockets = pockets
        for pocket in pockets:
            pocket.holds[self] = usage

    def reconcile(self, actual: Usage) -> None:
        """Turns the hold into what was really used, which may be more or less."""
        for pocket in self._pockets:
            if pocket.holds.pop(self, None) is not None:
                pocket.used += actual

    def release(self) -> None:
        """Gives the hold back."""
        for pocket in self._pockets:
            pocket.holds.pop(self, None)

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.kept:
            self.release()


def reserve(pockets: Iterable[Pocket], wanted: Usage, *, bounded: bool = False) -> Hold:
    """Holds `wanted` in all the pockets, less of it where less can be enforced (see `clamp`).

    Raises:
        BudgetExceededError: a pocket lacks it; nothing is held anywhere.
    """
    chain = tuple(pockets)
    lefts = [pocket.left() for pocket in chain]
    held = _clamped(lefts, wanted, bounded=bounded)
    asked = amounts(held)
    if wanted.seconds and not held.seconds:
        asked["seconds"] = 1e-9
    if wanted.egress_bytes and not held.egress_bytes:
        asked["egress_bytes"] = 1
    for pocket, left in zip(chain, lefts, strict=True):
        for dimension, room in left.items():
            if asked[dimension] > room:
                raise exceeded(pocket, dimension, wanted)
    return Hold(chain, held)


def clamp(pockets: Iterable[Pocket], wanted: Usage, *, bounded: bool) -> Usage:
    """`wanted`, with no more than is left of what can be enforced while the step runs.

    The door enforces seconds; an effect that is `bounded` keeps to the egress bytes it is given.
    Every other dimension must fit whole.
    """
    return _clamped([pocket.left() for pocket in pockets], wanted, bounded=bounded)


def _clamped(lefts: Sequence[Amounts], wanted: Usage, *, bounded: bool) -> Usage:
    seconds = min([wanted.seconds, *(left["seconds"] for left in lefts if "seconds" in left)])
    egress = wanted.egress_bytes
    if bounded and egress:
        egress = int(min([egress, *(left.get("egress_bytes", egress) for left in lefts)]))
    if (seconds, egress) == (wanted.seconds, wanted.egress_bytes):
        return wanted
    return replace(wanted, seconds=seconds, egress_bytes=egress)


def exceeded(pocket: Pocket, dimension: str, wanted: Usage) -> BudgetExceededError:
    """The error that says which dimension of whose budget, and what had been done."""
    limit, used = pocket.limits[dimension], amounts(pocket.used)[dimension]
    held = amounts(pocket.held())[dimension]
    name, most = _named(dimension, limit)
    _, spent = _named(dimension, used)
    _, needed = _named(dimension, amounts(wanted)[dimension])
    under_way = f", {_named(dimension, held)[1]} held for steps under way" if held else ""
    return BudgetExceededError(
        f"the budget of {pocket.owner} is spent: {name} limit {most}, used {spent}{under_way}, "
        f"the next step needs {needed}; done so far: {describe(pocket.used)}",
        hint=f"Raise {pocket.key.format(name)}, or ask for less.",
        dimension=dimension,
        owner=pocket.owner,
        limit=limit,
        used=used,
    )


def describe(usage: Usage) -> str:
    """The usage in words, leaving out what is zero."""
    parts = (_named(name, value) for name, value in amounts(usage).items() if value)
    return ", ".join(f"{value} {name}" for name, value in parts) or "nothing"


def _named(dimension: str, value: float) -> tuple[str, str]:
    """A dimension and an amount of it as manifests and the config have them: sats, not msat."""
    if dimension == "msat":
        return "sats", _number(value / 1000)
    return dimension, _number(value)


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
