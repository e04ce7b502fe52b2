"""Finding out, later, what became of payments that nobody knew the end of.

A Lightning payment may hang for hours, a mint may be away for days, an invoice be paid tomorrow.
What is open is asked about again and again, with longer and longer pauses, which begin anew when
something new is open. What has ended goes on the log, and answers the question that a run waits
with: a person need not know what the wallet can find out.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from node.errors import FreeholdError, MoneyError, OutcomeUnknownError
from node.money import Keeper, Payment, Purse, translated
from node.runs.approvals import Approval
from node.runs.effect import StepKind
from node.runs.payment_effect import PaymentEffect
from node.runs.service import Runs
from node.runs.survey import RunLog
from node.runs.telling import Telling

if TYPE_CHECKING:
    from wallet.store import Operation

TICK_S = 5.0  # between two looks at whether anything is open, which asks nobody
UNTOLD_S = 60.0  # how long those who ended an operation may take to put it on the log
LONGEST_PAUSE = 180  # ticks between two rounds of questions
logger = logging.getLogger("freehold")


class Settling:
    """Asks the wallet about what is open, and tells the log and the runs that wait.

    Args:
        tick_s: the shortest pause between two rounds, in seconds.
    """

    def __init__(
        self, keeper: Keeper, purse: Purse, runs: Runs, log: RunLog, *, tick_s: float = TICK_S
    ) -> None:
        self._tick_s = tick_s
        self._keeper = keeper
        self._purse = purse
        self._runs = runs
        self._log = log
        self.telling = Telling(keeper, log)
        self._asking = asyncio.Lock()

    async def once(self) -> tuple[Operation, ...]:
        """Asks now; the operations that ended by it.

        Raises:
            MoneyError: the wallet is not open, or came out of an archive.
            RunStoppedError: an emergency stop is in force. A payment that its mint never got is
                made by asking: it waits for the end of the stop, as all else.
        """
        async with self._asking:
            self._runs.check_not_stopped()
            wallet = self._keeper.wallet()
            try:
                with translated():
                    ended = await wallet.recover()
                    delivered = await wallet.refresh_outbox()
            except (MoneyError, OutcomeUnknownError) as error:
                logger.info("the wallet could not ask about all that is open: %s", error.message)
                ended, delivered = (), ()
            await self.telling.tell(*(each.key for each in ended), more=delivered)
            await self._answer()
            return ended

    async def _answer(self) -> None:
        """Answers the questions of runs that the wallet knows the answer to by now; what a payee
        has not got yet is handed over again."""
        wallet = self._keeper.wallet(stale=True)
        for question in self._runs.approvals("outcome_unknown"):
            key, args = f"{question.run}:{question.path}", question.args
            if question.step != StepKind.PAYMENT or not isinstance(args, dict):
                continue
            operation = wallet.operation(key)
            if operation.pending if operation else self._is_forgotten(question):
                continue
            if self._runs.stopped:  # since this round began; what is handed over is paid
                return
            try:
                found = await self._purse.found(Payment.from_json(args), key=key)
            except (MoneyError, OutcomeUnknownError) as error:
                logger.info("%s: %s", key, error.message)
                continue
            state = "never begun" if found is None else found.state
            if state != "pending":
                said = f"the wallet found out: {state}"
                await self._runs.found_out(key, happened=state == "paid", reason=said)

    def _is_forgotten(self, question: Approval) -> bool:
        """Whether the wallet may have made a payment that it knows nothing of."""
        entries = self._log.run_entries(question.run)
        intents = (each for each in entries if each.type == "step.intent")
        began = max(each.index for each in intents if each.draft.path == question.path)
        return bool(PaymentEffect.forgot(self._log, began))

    async def forever(self) -> None:
        """Asks while anything is open. Ends when it is cancelled."""
        known: frozenset[str] = frozenset()
        pause, passed = 1, 0
        while True:
            await asyncio.sleep(self._tick_s)
            try:
                now = frozenset() if self._runs.stopped else self._open()
                if self._keeper.state == "open":
                    await self.telling.catch_up(over_s=UNTOLD_S)
                pause, passed = 1 if now - known else pause, passed + 1
                known = now
                if now and passed >= pause:
                    passed = 0
                    pause = 1 if await self.once() else min(pause * 2, LONGEST_PAUSE)
            except FreeholdError as error:
                logger.warning("payments that are open: %s", error.diagnostics())
            except Exception:  # else nobody would ask again before the next start
                logger.exception("payments that are open")

    def _open(self) -> frozenset[str]:
        """What is open: operations of the wallet, tokens that nobody was seen to redeem, and
        questions that it may answer."""
        if self._keeper.state != "open":
            return frozenset()
        wallet = self._keeper.wallet()
        keys = {each.key for each in (*wallet.pending(), *wallet.outbox())}
        asked = self._runs.approvals("outcome_unknown")
        payments = (each for each in asked if each.step == StepKind.PAYMENT)
        return frozenset(keys | {f"{each.run}:{each.path}" for each in payments})
