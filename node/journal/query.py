"""Questions about what a log says: why something happened, how two runs differ, what was spent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from node.errors import JournalError
from node.journal.types import Entry
from node.types import Json

_DENIED = frozenset({"deny", "denied", "expired"})
_MAX_CAUSES = 1000


@dataclass(frozen=True)
class Filter:
    """Which entries to show; everything given must fit."""

    run: str | None = None
    agent: str | None = None
    types: tuple[str, ...] = ()
    denied: bool = False
    since_ms: int | None = None

    def fits(self, entry: Entry) -> bool:
        """Whether an entry is one of them. A type fits also as a prefix: `step`."""
        draft = entry.draft
        return (
            (self.run is None or draft.run == self.run)
            and (self.agent is None or draft.agent == self.agent)
            and (not self.types or any(_is(draft.type, one) for one in self.types))
            and (self.since_ms is None or entry.ts >= self.since_ms)
            and (not self.denied or is_denied(entry))
        )


def _is(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(wanted + ".")


def is_denied(entry: Entry) -> bool:
    """Whether policy, a person or a guard refused something here."""
    policy, data = entry.draft.policy, entry.data
    if policy and policy.verdict in _DENIED:
        return True
    if entry.type == "approval.settled":
        return data.get("verdict") in _DENIED
    value = data.get("value")
    return (
        entry.type == "step.result" and isinstance(value, dict) and value.get("verdict") == "fail"
    )


def moment(text: str) -> int:
    """Wall time in ms of an ISO 8601 date or time; UTC where no zone is given.

    Raises:
        JournalError: it is not one.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        hint = "Write 2026-01-31 or 2026-01-31T12:00:00Z."
        raise JournalError(f"not a date or time: {text!r}", hint=hint) from error
    zoned = when if when.tzinfo else when.replace(tzinfo=UTC)
    return int(zoned.timestamp() * 1000)


# ── why ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Reason:
    """One entry in a chain of causes. `missing` is an index that cannot be read any more."""

    depth: int
    entry: Entry | None
    missing: int | None = None


def why(
    index: int, read: Callable[[int], Entry], run: Callable[[str], list[Entry]]
) -> list[Reason]:
    """Walks from an entry back to what led to it: prompt, policy, approval, principal.

    Args:
        index: the entry asked about.
        read: gives an entry by index; raises JournalError where it is gone.
        run: gives the entries of a run.

    Returns:
        The entry and its causes, depth first, each once, ending with the run's start.
    """
    seen: set[int] = set()
    found = list(_causes(index, read, seen))
    first = found[0].entry
    if first is None:
        raise JournalError(f"entry {index} was pruned away or is not there")
    return found + [
        Reason(1, entry)
        for entry in _context(first, run)
        if entry.index not in seen and entry.index < first.index
    ]


def _causes(index: int, read: Callable[[int], Entry], seen: set[int]) -> Iterator[Reason]:
    waiting = [(index, 0)]
    while waiting and len(seen) < _MAX_CAUSES:
        at, deep = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        try:
            entry = read(at)
        except JournalError:
            yield Reason(deep, None, at)
            continue
        yield Reason(deep, entry)
        waiting += [(cause, deep + 1) for cause in sorted(entry.draft.cause)]


def _context(entry: Entry, run: Callable[[str], list[Entry]]) -> Iterator[Entry]:
    """The entries of the same step, and of the run's start, that are not linked as causes."""
    draft = entry.draft
    if draft.run is None:
        return
    steps = {draft.path, (draft.path or "").partition(".")[0] or None}
    for other in run(draft.run):
        same = draft.path is not None and other.draft.path in steps
        decides = other.type in {"step.intent", "approval.asked", "approval.settled"}
        if other.type in {"run.started", "run.resumed"} or (same and decides):
            yield other


# ── diff ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Difference:
    """A step that two runs do not share. `left` or `right` is None where only one has it."""

    path: str
    what: str
    left: Json
    right: Json


Content = Callable[[Entry, str], bytes | None]
"""Gives an entry's blob of a role; None where there is none that can be read."""


def diff(
    left: Sequence[Entry], right: Sequence[Entry], content: Content | None = None
) -> list[Difference]:
    """Compares two runs step by step: kind, name, arguments, outcome; never times.

    Arguments and values kept as blobs are compared by content where it can be read. Where not,
    arguments are compared by digest, which for private content is of one run only.
    """
    one, two = (_steps(run, content) for run in (left, right))
    found = []
    for path in sorted(one.keys() | two.keys(), key=_path_key):
        first, second = one.get(path), two.get(path)
        if first is None or second is None:
            found.append(Difference(path, "step", _called(first), _called(second)))
            continue
        found += [
            Difference(path, what, first.get(what), second.get(what))
            for what in _compared(first, second)
            if first.get(what) != second.get(what)
        ]
    return found + _ends(left, right)


def _compared(first: dict[str, Json], second: dict[str, Json]) -> tuple[str, ...]:
    if first.get("kind") == "guard":  # what it judged is an argument or value of other steps
        return "kind", "name", *_OUTCOME
    by_content = "args" in first and "args" in second
    return "kind", "name", "args" if by_content else "digest", *_OUTCOME


_OUTCOME = ("ok", "value", "error", "verdict")
_OF_INTENT, _OF_RESULT = ("kind", "name", "digest", "args"), ("ok", "value", "error")


def _steps(entries: Iterable[Entry], content: Content | None) -> dict[str, dict[str, Json]]:
    steps: dict[str, dict[str, Json]] = {}
    for entry in entries:
        if entry.draft.path is None or not entry.type.startswith("step."):
            continue
        step = steps.setdefault(entry.draft.path, {})
        for name in _OF_INTENT if entry.type == "step.intent" else _OF_RESULT:
            if name in entry.data:
                step[name] = entry.data[name]
            elif content and (raw := content(entry, name)) is not None:
                step[name] = raw.decode("utf-8", "replace")
        if entry.draft.policy:
            step["verdict"] = entry.draft.policy.verdict
    return steps


def _called(step: dict[str, Json] | None) -> Json:
    return None if step is None else f"{step.get('kind')} {step.get('name')}"


def _ends(left: Sequence[Entry], right: Sequence[Entry]) -> list[Difference]:
    ends = [
        next((e.data.get("status") for e in reversed(run) if e.type == "run.finished"), None)
        for run in (left, right)
    ]
    return [] if ends[0] == ends[1] else [Difference("", "status", ends[0], ends[1])]


def _path_key(path: str) -> list[tuple[int, int, str]]:
    parts = path.split(".")
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


# ── spend ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class Spent:
    """What one agent, tool or peer used. Amounts of money are in millisatoshi."""

    name: str
    steps: int = 0
    failed: int = 0
    totals: dict[str, float] = field(default_factory=dict)


def spend(entries: Iterable[Entry], by: str, *, since_ms: int = 0) -> list[Spent]:
    """Adds up the usage of all step results; what a fork took over was used once, by another run.

    Args:
        entries: in order; an intent comes before its result, maybe days.
        since_ms: of results from then on.
        by: `agent`, `tool` (with the payments that were made for it) or `peer` (the destination
            of payments, delegations and messages).
    """
    names: dict[tuple[str, str], tuple[str, str]] = {}
    found: dict[str, Spent] = {}
    for entry in entries:
        draft, data = entry.draft, entry.data
        step = (draft.run or "", draft.path or "")
        if entry.type == "step.intent":
            within = names.get((draft.run or "", (draft.path or "").rsplit(".", 2)[0]))
            names[step] = (str(data.get("kind")), _name(entry, by, within))
        elif entry.type == "step.result":
            kind, name = names.pop(step, ("", ""))
            if "copied_from" in data or entry.ts < since_ms:
                continue
            if by == "agent":
                name = draft.agent or "node"
            if name and (by == "agent" or kind in _SPENDERS[by]):
                _add(found.setdefault(name, Spent(name)), entry)
    return sorted(found.values(), key=lambda one: (-one.totals.get("msat", 0), one.name))


_SPENDERS = {"tool": {"tool", "payment"}, "peer": {"payment", "delegation", "message"}}


def _name(entry: Entry, by: str, within: tuple[str, str] | None) -> str:
    """Under what a step is added up. `within` is the step, if any, that it was taken within."""
    if within and by == "tool" and entry.data.get("kind") == "payment":
        return within[1]
    needs = entry.data.get("needs")
    destinations = needs.get("destinations") if isinstance(needs, dict) else None
    if by == "peer" and isinstance(destinations, list) and destinations:
        return str(destinations[0])
    name = str(entry.data.get("name"))
    # a tool call has its function's name; older logs have TOOL.FUNCTION
    return name.rpartition(".")[2] if entry.data.get("kind") == "tool" else name


def _add(spent: Spent, entry: Entry) -> None:
    spent.steps += 1
    spent.failed += entry.data.get("ok") is not True
    usage = entry.data.get("usage")
    for name, amount in (usage if isinstance(usage, dict) else {}).items():
        if isinstance(amount, int | float) and name != "steps":
            spent.totals[name] = spent.totals.get(name, 0) + amount
