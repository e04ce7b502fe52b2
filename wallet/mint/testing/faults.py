"""Ways in which a mint, or the way to it, goes wrong: switches for tests.

Each fault is set for requests whose path matches a pattern, for so many of them. What a test needs
beyond these it does in the mint's `hook`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from wallet.protocol import curve


class Fault(StrEnum):
    """What goes wrong. Those under `ACTS` do so after the mint has acted on the request."""

    UNREACHABLE = "nothing is sent"
    LOST_REQUEST = "the request is lost, and it shows as a time-out"
    LOST_REPLY = "the mint acts, its reply is lost"
    NO_ANSWER = "the mint acts and never answers"
    ERROR_500 = "the mint answers 500 and has done nothing"
    ACTED_500 = "the mint acts and answers 500"
    GARBAGE = "the mint acts and answers what is no JSON"
    CUT_OFF = "the mint acts and half of its reply arrives"
    NOT_A_MINT = "something in front of the mint answers 404 with a page"
    WRONG_SIGNATURES = "points that are on the curve and no signatures"
    WRONG_DLEQ = "signatures that are right with proofs that are not"
    NO_DLEQ = "signatures without proofs"
    WRONG_AMOUNTS = "twice the amounts"
    FEWER = "one item less in each list"
    NEGATIVE = "negative amounts"
    FLOATS = "amounts that are no whole numbers"


ACTS = frozenset(Fault) - {
    Fault.UNREACHABLE,
    Fault.LOST_REQUEST,
    Fault.ERROR_500,
    Fault.NOT_A_MINT,
}


@dataclass
class _Switch:
    fault: Fault
    path: str
    left: int


class Faults:
    """The switches that are set."""

    def __init__(self) -> None:
        self._switches: list[_Switch] = []

    def add(self, fault: Fault, path: str = "*", *, times: int = 1) -> None:
        """The next `times` requests to a path go wrong; `*` in it stands for anything."""
        self._switches.append(_Switch(fault, path, times))

    def clear(self) -> None:
        """All goes well again."""
        self._switches.clear()

    def take(self, path: str) -> Fault | None:
        """What goes wrong with this request."""
        for switch in self._switches:
            if switch.left > 0 and fnmatchcase(path, switch.path):
                switch.left -= 1
                return switch.fault
        return None


def spoil(fault: Fault, value: Any) -> Any:
    """A reply as the fault leaves it."""
    change = _CHANGES.get(fault)
    return value if change is None else _walk(value, change)


def _walk(value: Any, change: Callable[[dict[str, Any]], None]) -> Any:
    if isinstance(value, list):
        return [_walk(each, change) for each in value]
    if isinstance(value, dict):
        changed = {name: _walk(each, change) for name, each in value.items()}
        change(changed)
        return changed
    return value


def _wrong_signatures(fields: dict[str, Any]) -> None:
    if "C_" in fields:
        fields["C_"] = curve.hash_to_curve(bytes.fromhex(fields["C_"])).hex()


def _wrong_dleq(fields: dict[str, Any]) -> None:
    if "dleq" in fields:
        fields["dleq"] = {"e": fields["dleq"]["s"], "s": fields["dleq"]["e"]}


def _no_dleq(fields: dict[str, Any]) -> None:
    fields.pop("dleq", None)


def _amounts(number: Callable[[int], object]) -> Callable[[dict[str, Any]], None]:
    def change(fields: dict[str, Any]) -> None:
        if isinstance(fields.get("amount"), int):
            fields["amount"] = number(fields["amount"])

    return change


def _fewer(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = value[:-1]


_CHANGES: dict[Fault, Callable[[dict[str, Any]], None]] = {
    Fault.WRONG_SIGNATURES: _wrong_signatures,
    Fault.WRONG_DLEQ: _wrong_dleq,
    Fault.NO_DLEQ: _no_dleq,
    Fault.WRONG_AMOUNTS: _amounts(lambda amount: amount * 2),
    Fault.NEGATIVE: _amounts(lambda amount: -amount - 1),
    Fault.FLOATS: _amounts(lambda amount: amount + 0.5),
    Fault.FEWER: _fewer,
}
