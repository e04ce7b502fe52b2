"""Every end of an operation of the wallet is on the log, and once.

The wallet's file and the log are two, and a process may die between them. So the wallet remembers
which ends nobody told, and forgets one only when its entry is durable. An entry that was written
just before the end of the process, and not noted in the wallet, is found again by the operation's
id: the log is read from where it was last read to, which is kept in the wallet's file, too.

A payment's own step is its entry: what a run will still say about it is left to the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from node.journal import Draft, Entry
from node.money import Keeper, translated
from node.runs.survey import RunLog
from node.types import JsonObject

if TYPE_CHECKING:
    from wallet.store import Operation, State
    from wallet.wallet import Wallet

SETTLED: Final = "wallet.settled"
_ENDS: Final = ("wallet.received", SETTLED, "wallet.reclaimed", "step.result")


class Telling:
    """Writes ends of operations on the log, each once."""

    def __init__(self, keeper: Keeper, log: RunLog) -> None:
        self._keeper = keeper
        self._log = log
        self._one = asyncio.Lock()
        self._place: int | None = None  # entries before it tell no end that the wallet has untold

    async def tell(
        self, *keys: str, kind: str = SETTLED, actor: str = "node", more: Iterable[Operation] = ()
    ) -> None:
        """Writes how these operations, and what they are made of, ended, where nobody has yet.

        Args:
            kind: the entry's type for those that are done.
            more: operations to write in any case, in the same commit.
        """
        async with self._one:
            wallet = await self._read()
            ended = [each for each in wallet.untold() if _is_of(each.key, keys)]
            drafts = [_draft(each, kind if each.key in keys else SETTLED, actor) for each in ended]
            drafts += [_draft(each, SETTLED, actor) for each in more]
            await self._write(wallet, ended, drafts)

    async def catch_up(self, *, over_s: float = 0) -> None:
        """Writes what nobody told: an earlier process, when the wallet was opened.

        Args:
            over_s: only what ended so many seconds ago; those who work at it may yet tell it.
        """
        async with self._one:
            wallet = await self._read()
            now = wallet.now()
            missing = [
                each
                for each in wallet.untold()
                if not now - over_s < each.updated <= now and not self._awaits_step(each)
            ]
            await self._write(wallet, missing, [_draft(each, SETTLED, "node") for each in missing])

    async def _read(self) -> Wallet:
        wallet, size = self._keeper.wallet(stale=True), self._log.size
        start = wallet.told_to() if self._place is None else self._place
        if start != size and wallet.untold():
            start = start if start < size else 0  # that was another log
            entries = self._log.entries(start, size, types=_ENDS)
            ends = await asyncio.to_thread(lambda: [end for each in entries for end in _ends(each)])
            with translated():
                await wallet.tell(ends, size)
        self._place = size
        return wallet

    async def _write(
        self, wallet: Wallet, ended: Sequence[Operation], drafts: Sequence[Draft]
    ) -> None:
        if drafts:
            await self._log.append(*drafts)
        if ended:
            with translated():
                await wallet.tell([(each.key, each.state) for each in ended], self._place or 0)

    def _awaits_step(self, operation: Operation) -> bool:
        """Whether a run that has not ended will say what became of it."""
        run, is_step, _ = (operation.parent or operation.key).partition(":")
        entries = self._log.run_entries(run) if is_step else []
        return bool(entries) and all(each.type != "run.finished" for each in entries)


def _ends(entry: Entry) -> list[tuple[str, State]]:
    """The operation whose end an entry tells, with the states that it may mean."""
    from wallet.store import State

    if entry.type != "step.result":
        told = entry.data.get("state")
        return [(str(entry.data.get("operation")), each) for each in State if each == told]
    if isinstance(entry.data.get("error"), dict):  # nobody knew yet, or it was refused
        return []
    key = f"{entry.draft.run}:{entry.draft.path}"
    return [(key, State.DONE), (key, State.FAILED)]


def _is_of(key: str, keys: Sequence[str]) -> bool:
    return any(key == each or key.startswith(f"{each}/") for each in keys)


def _draft(operation: Operation, kind: str, actor: str) -> Draft:
    done = operation.state.value == "done"
    data: JsonObject = {
        "operation": operation.key,
        "kind": operation.kind.value,
        "state": operation.state.value,
        "outbox": operation.outbox.value,
        "amount": operation.amount,
        "fee": operation.fee,
        "unit": operation.unit,
        "mint": operation.mint,
    }
    if operation.parent:
        data["of"] = operation.parent
    return Draft(kind if done else SETTLED, actor=actor, data=data)
