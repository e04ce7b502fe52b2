"""A node with one scripted run that pays, to be killed by test_runs_crash.py.

The purse is the double's, kept in a file: a payment is a line, written and synced the moment it
happens, so that whoever counts the lines knows what was really paid, whatever the node believes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from crash_lives import first_run, keep_answer, serve

from node.clock import SystemClock
from node.errors import FreeholdError, PaymentError, PaymentPendingError
from node.journal import Journal, Storage
from node.money import Bill, Found, Payment
from node.money.testing import FEE_SAT, MINT, MemoryPurse
from node.runs import Answer, NoGuards, Places, Program, ProgramRun, Runs, Toolset
from node.runs.agent import BudgetLimits, PaymentGrant, ToolGrant
from node.runs.payment_effect import PaymentEffect
from node.runs.policy import ManifestPolicy
from node.runs.testing import MemoryAgents, agent
from node.sandbox import Grant, ToolManifest
from node.sandbox.testing import FunctionTool, MemorySandbox
from node.types import Json, JsonObject, canonical

ANNA, LATE, SHOP = "anna@example.org", "late@example.org", "https://shop.example"
CLERK = agent(
    "clerk",
    budget=BudgetLimits(sats=500, sats_per_day=500),
    payments=PaymentGrant((ANNA, LATE)),
    tools=(ToolGrant("web", http=(f"{SHOP}/*",), pay=(f"{SHOP}/*",)),),
)


class FilePurse(MemoryPurse):
    """What happened is in a file: `made` for each payment, `took` for each that came back."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        for line in file.read_text().splitlines() if file.exists() else ():
            told = json.loads(line)
            if told["what"] == "made":
                amount = told["amount"]
                self.kept[told["key"]] = Found(told["key"], "paid", amount, FEE_SAT, MINT)

    async def pay(self, payment: Payment, bill: Bill, *, key: str) -> Found:
        if key not in self.kept:
            self.write("made", key, bill.amount_sat)
        found = await super().pay(payment, bill, key=key)
        if bill.destination == LATE:  # it happened, and its answer is lost
            raise PaymentPendingError("the answer was lost")
        return found

    async def take_back(self, key: str) -> Found | None:
        self.write("took", key, self.kept[key].amount_sat)
        return self.kept[key]

    def write(self, what: str, key: str, amount: int) -> None:
        handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, canonical({"what": what, "key": key, "amount": amount}) + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)


class Shelf:
    """One tool, `web`, that buys what it is told to."""

    def __init__(self, purse: FilePurse, home: Path) -> None:
        self.tool = FunctionTool(
            "web",
            {"web_fetch": self.fetch},
            capabilities=frozenset({"http"}),
            read_only=True,
            idempotent=True,
        )
        sandbox = MemorySandbox([self.tool])
        places = Places(home / "w", home / "s")
        self.toolset = Toolset(tools=self, sandbox=sandbox, places=places, purse=purse)

    def get(self, name: str) -> ToolManifest:
        return self.tool.manifest()

    def names(self) -> list[str]:
        return ["web"]

    async def fetch(self, arguments: JsonObject, grant: Grant) -> Json:
        assert grant.payer is not None
        for path, price, status in (("a", 10, 200), ("b", 20, 200), ("gone", 5, 404)):
            try:
                ticket = await grant.payer.pay(f"{SHOP}/{path}", f"request|x|{price}")
            except PaymentError:  # it came back in an earlier life
                assert path == "gone"
                continue
            ticket.answered(status)
        return "bought a and b"


def program(shelf: Shelf, purse: FilePurse) -> Program:
    """An address, a payment whose answer is lost, a tool that buys, and one refused."""

    async def take(run: ProgramRun) -> Answer:
        told: list[Json] = []
        for whom, amount in ((ANNA, 7), (LATE, 9)):
            effect = PaymentEffect(purse, Payment(f"address|{whom}|{amount}"))
            told.append(paid(await run.step(effect)))
        (fetch, _) = shelf.toolset.offers(run.agent)
        outcome = await run.step(shelf.toolset.effect(run.agent, fetch, {}, run=run))
        told.append(outcome.value)
        try:
            await run.step(PaymentEffect(purse, Payment("address|eve@example.org|1")))
        except FreeholdError as error:
            told.append(type(error).__name__)
        return Answer("completed", canonical(told).decode())

    return take


def paid(outcome: object) -> Json:
    value = outcome.value  # type: ignore[attr-defined]
    return value["paid_sat"]


async def live(home: Path, storage: Storage) -> None:
    """One life of the node: from opening the log to the end of the run."""
    journal = await Journal.open(home / "journal", origin="test/pay", storage=storage)
    purse = FilePurse(home / "paid")
    runs = Runs(
        log=journal,
        program=program(Shelf(purse, home), purse),
        agents=MemoryAgents(CLERK),
        clock=SystemClock(),
        guards=NoGuards(),
        policy=ManifestPolicy(ask_over_sats=100),
    )
    run_id = await first_run(runs, "pay")
    result = await runs.wait(run_id)
    summary = runs.show(run_id)
    await journal.aclose()
    keep_answer(home, result, msat=summary.usage.msat)


if __name__ == "__main__":
    serve(live)
