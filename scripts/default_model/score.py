"""Marks answers against cases and makes the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cases import Case

Said = tuple[str, list[tuple[str, dict[str, Any]]]]
Ask = Callable[[list[dict[str, Any]], list[dict[str, Any]]], Awaitable[Said]]
_HONEST = ("I have no", "I could not", "I do not know", "I cannot")


@dataclass(frozen=True)
class Target:
    """A figure and what it has to reach; `least` or else at most."""

    label: str
    bound: float
    least: bool = True

    def met(self, share: float) -> bool:
        """Whether the share is on the right side of the bound."""
        return share >= self.bound if self.least else share <= self.bound


TARGETS = {
    "tool": Target("right tool", 0.99),
    "exact words": Target("exact call, unseen words", 0.95),
    "exact phrasings": Target("exact call, unseen phrasings", 0.92),
    "refused": Target("no tool for it: refused honestly", 0.90),
    "false refusal": Target("false refusals", 0.01, least=False),
    "chain": Target("two-step tasks, every call exact", 0.90),
    "answer": Target("answer says what the result says", 0.98),
    "error": Target("error told honestly, as it was", 0.98),
    "talk": Target("small talk without a call", 0.99),
    "toolless": Target("no tools offered: no call", 1.0),
}


@dataclass
class Marks:
    """Hits and misses by figure, and the misses themselves."""

    hits: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    misses: list[str] = field(default_factory=list)

    def add(self, figure: str, hit: bool, note: str = "") -> None:
        """Counts one."""
        self.hits[figure].append(hit)
        if hit == (figure == "false refusal"):
            self.misses.append(f"{figure}: {note}")

    def table(self) -> str:
        """Every figure with its target beside it."""
        lines = [f"{'figure':36} {'n':>5} {'measured':>9}  target"]
        for key, target in TARGETS.items():
            hits = self.hits.get(key, [])
            share = sum(hits) / len(hits) if hits else float("nan")
            sign = ">=" if target.least else "<="
            met = "" if target.met(share) else "  MISSED"
            lines.append(
                f"{target.label:36} {len(hits):5d} {share:9.1%}  {sign} {target.bound:.0%}{met}"
            )
        return "\n".join(lines)


async def mark(cases: Iterable[Case], ask: Ask) -> Marks:
    """Asks every turn of every case."""
    marks = Marks()
    for case in cases:
        await _mark_case(case, ask, marks)
    return marks


async def _mark_case(case: Case, ask: Ask, marks: Marks) -> None:
    exact = True
    for at in case.turns():
        said = await ask(case.messages[:at], case.tools)
        wanted = case.messages[at]
        asked = f"[{case.task.intent}] {case.task.request!r}"
        note = f"{asked}\n   wanted {_shown(wanted)}\n   got    {said}"
        if wanted.get("tool_calls"):
            exact &= _mark_call(case, wanted, said, marks, note)
        else:
            _mark_text(case, wanted["content"], said, marks, note)
    if case.group == "chains":
        marks.add("chain", exact, "a call above")


def _shown(turn: dict[str, Any]) -> Any:
    return (
        [call["function"] for call in turn["tool_calls"]]
        if turn.get("tool_calls")
        else turn["content"]
    )


def _mark_call(case: Case, wanted: dict[str, Any], said: Said, marks: Marks, note: str) -> bool:
    function = wanted["tool_calls"][0]["function"]
    calls = said[1]
    right = bool(calls) and calls[0][0] == function["name"]
    exact = calls == [(function["name"], function["arguments"])]
    if case.group != "error":
        marks.add("tool", right, note)
        marks.add("false refusal", not calls, note)
    if case.group in ("words", "phrasings"):
        marks.add(f"exact {case.group}", exact, note)
    if case.group == "chains" and not exact:
        marks.misses.append(f"chains: {note}")
    return exact


def _mark_text(case: Case, wanted: str, said: Said, marks: Marks, note: str) -> None:
    text, calls = said
    if case.group == "refusal":
        marks.add("refused", not calls and text.startswith(_HONEST), note)
    elif case.group in ("talk", "toolless"):
        marks.add(case.group, not calls, note)
    elif case.group == "error":
        marks.add("error", not calls and text == wanted, note)
    else:
        marks.add("answer", not calls and text == wanted, note)
