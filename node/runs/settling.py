"""Finding out, later, what became of payments that nobody knew the end of.

A Lightning payment may hang for hours, a mint may be away for days. What is open is asked about
again and again, with longer and longer pauses; what has ended goes on the log, and answers the
question that a run waits with. A person need not know what the wallet can find out.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from node.errors import FreeholdError, MoneyError, OutcomeUnknownError
from node.journal import Draft, Log
from node.money import Keeper, as_found, translated
from node.runs.service import Runs
from node.types import JsonObject

if TYPE_CHECKING:
    from wallet.store import Operation

FIRST_PAUSE_S, LONGEST_PAUSE_S = 15.0, 900.0
logger = logging.getLogger("freehold")


class Settling:
    """Asks the wallet about what is open, and tells the log and the runs that wait."""

    def __init__(self, keeper: Keeper, runs: Runs, log: Log) -> None:
        self._keeper = keeper
        self._runs = runs
        self._log = log
        self._asking = asyncio.Lock()

    async def once(self) -> tuple[Operation, ...]:
        """Asks now; the operations that ended by it.

        Raises:
            MoneyError: the wallet is not open, or came out of an archive.
        """
        async with self._asking:
            wallet = self._keeper.wallet()
            try:
                with translated():
                    ended = await wallet.recover()
                    delivered = await wallet.refresh_outbox()
            except (MoneyError, OutcomeUnknownError) as error:
                logger.info("the wallet could not ask about all that is open: %s", error.message)
                ended, delivered = (), ()
            drafts = [Draft("wallet.settled", data=_told(each)) for each in (*ended, *delivered)]
            if drafts:
                await self._log.append(*drafts)
            await self._answer()
            return ended

    async def _answer(self) -> None:
        """Answers the questions of runs that the wallet knows the answer to by now."""
        wallet = self._keeper.wallet(stale=True)
        for question in self._runs.approvals():
            key = f"{question.run}:{question.path}"
            operation = wallet.operation(key) if question.kind == "outcome_unknown" else None
            delivered = operation is not None and operation.outbox.value != "open"
            if operation is not None and operation.state.final and delivered:
                found = as_found(operation)
                said = f"the wallet found out: {found.state}"
                await self._runs.found_out(key, happened=found.state == "paid", reason=said)

    async def forever(self) -> None:
        """Asks while anything is open. Ends when it is cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause_s)
            try:
                if not self._is_anything_open():
                    pause_s = FIRST_PAUSE_S
                    continue
                pause_s = FIRST_PAUSE_S if await self.once() else min(pause_s * 2, LONGEST_PAUSE_S)
            except FreeholdError as error:
                logger.warning("payments that are open: %s", error.diagnostics())
                pause_s = LONGEST_PAUSE_S

    def _is_anything_open(self) -> bool:
        if self._keeper.state != "open":
            return False
        asked = any(each.kind == "outcome_unknown" for each in self._runs.approvals())
        return asked or bool(self._keeper.wallet(stale=True).pending())


def _told(operation: Operation) -> JsonObject:
    """What the log keeps of an operation that ended by itself."""
    return {
        "operation": operation.key,
        "kind": operation.kind.value,
        "state": operation.state.value,
        "outbox": operation.outbox.value,
        "amount": operation.amount,
        "fee": operation.fee,
        "unit": operation.unit,
        "mint": operation.mint,
    }
