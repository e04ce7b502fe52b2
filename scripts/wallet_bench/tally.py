"""What came of a trial, as values and as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from wallet_bench.life import OFTEN

OUTCOMES = ("done", "undone", "never began")


@dataclass
class Tally:
    """What came of it.

    Attributes:
        killed: operations that were under way at a death, by name.
        outcomes: what became of each, by name and outcome.
        doubted: what became of those that the mint's death left in doubt, by outcome.
        moments: how the deaths were chosen.
        points: where those died that chose a point.
        differences: books less wallets, after each recovery, in sat.
        finished: operations that ended before, by name.
        again: operations whose key was asked for again, and gave the same answer.
        mint_kept: sat that the mint says it owes nobody, though they came in by Lightning. Nutshell
            0.21 that is killed in a payment marks it as paid later, and forgets its change; one
            that is asked for its state meanwhile may, too (see `Books.forgotten`).
        restored: sat that the seeds alone brought back, and how much it should be.
        problems: whatever must not be.
    """

    deaths: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    doubted: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    differences: list[int] = field(default_factory=list)
    again: int = 0
    mint_kills: int = 0
    mint_kept: int = 0
    restored: tuple[int, int] = (0, 0)
    problems: list[str] = field(default_factory=list)


@dataclass
class Begun:
    """An operation that a life began. `refused`: the wallet said no; nothing was to happen."""

    name: str
    who: str
    key: str
    given: dict[str, Any]
    ended: bool = False
    doubted: bool = False
    refused: bool = False


def tell(tally: Tally) -> None:
    """Prints the table."""
    print(f"{'under way at the death':<24}{'deaths':>8}" + "".join(f"{o:>14}" for o in OUTCOMES))
    for name in (*OFTEN, "recover"):
        row = "".join(f"{tally.outcomes[name, outcome]:>14}" for outcome in OUTCOMES)
        print(f"{name:<24}{tally.killed[name]:>8}{row}")
    print(f"{'nothing':<24}{tally.killed['nothing']:>8}\n")
    for moment, count in tally.moments.most_common():
        print(f"{count:>6}  died {moment}")
    for point, count in tally.points.most_common():
        print(f"{count:>12}  {point}")
    found, wanted = tally.restored
    lost = [each for each in tally.differences if each]
    print(f"\n{tally.deaths:>6}  deaths, and the mint {tally.mint_kills} times")
    print(f"{tally.finished.total():>6}  operations ended before")
    if tally.mint_kept:
        print(f"{tally.mint_kept:>6}  sat of change that the mint forgot, in its own books")
    if tally.mint_kills:
        doubted = ", ".join(f"{tally.doubted[outcome]} {outcome}" for outcome in OUTCOMES)
        print(f"{tally.doubted.total():>6}  operations in doubt by the mint's deaths: {doubted}")
    print(f"{tally.again:>6}  asked for again by their key: the same answer, nothing moved")
    print(f"{len(tally.differences):>6}  times counted; books less wallets: {lost or 0} sat")
    print(f"{found:>6}  sat restored from the seeds alone, of {wanted}")
    print(f"{len(tally.problems):>6}  problems")
    for problem in tally.problems:
        print(f"        {problem}")
