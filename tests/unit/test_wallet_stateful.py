"""Anything in any order: money goes between two wallets at two mints, and things break.

After every step each sat that the mints issued and did not redeem is found by its secret: in a
wallet's file, in a request whose answer is missing, or in a token outside. No counter goes down, no
proof is in two tokens, and an invoice is paid if and only if its payment says so. At the end all
is settled, and what is left can really be spent.

`FREEHOLD_TEST_STATEFUL=300` tries so many histories, each another time others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from wallet.errors import StoreError, WalletError
from wallet.mint.testing import Fault, MemoryMint, Outcome, Purse
from wallet.operations.copies import LIVES_S
from wallet.operations.results import Rules, Sent
from wallet.protocol import conditions, curve, tokens
from wallet.store import Hold, Kind, Operation, State, Tables, codec
from wallet.testing import Crash, World, lowered
from wallet.types import Output, Proof, Token

T = TypeVar("T")
HISTORIES = int(os.environ.get("FREEHOLD_TEST_STATEFUL", "0"))
RULES = {
    "ann": Rules(change_pieces=1, cap_sat=100_000),
    "bob": Rules(change_pieces=2, cap_sat=100_000, swap_foreign=True),
}
FEES = [0, 100, 1000]
PATHS = ["*", "/v1/swap", "/v1/mint/bolt11*", "/v1/melt*", "/v1/restore", "/v1/checkstate"]
LIES = [fault for fault in Fault if fault is not Fault.NO_ANSWER]

wallets = st.sampled_from(["ann", "bob"])
places = st.integers(0, 1)
amounts = st.one_of(st.integers(1, 12), st.integers(1, 300))


@dataclass(frozen=True)
class Given:
    """A token in somebody's hands. `by` is the wallet that made it, with its operation."""

    text: str
    by: str = ""
    operation: str = ""


class Economy(RuleBasedStateMachine):
    """Two mints, two wallets, and what is between them."""

    given = Bundle("given")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.counters: dict[str, dict[str, int]] = {"ann": {}, "bob": {}}
        self.outside: dict[str, Proof] = {}  # proofs of tokens that no wallet made
        self.handed: dict[str, str] = {}  # secret: the operation whose token it is in
        self.bills: dict[str, tuple[str, str]] = {}  # operation: its wallet, and the invoice
        self.number = 0

    @initialize(fees=st.tuples(st.sampled_from(FEES), st.sampled_from(FEES)), v1=st.booleans())
    def begin(self, fees: tuple[int, int], v1: bool) -> None:
        self.world = World(Path(self.folder.name), mints=2, version=1 if v1 else 2)
        for mint, fee_ppk in zip(self.world.mints, fees, strict=True):
            mint.rotate(fee_ppk=fee_ppk)
        self.run(self._begin())

    async def _begin(self) -> None:
        ann = await self.world.funded("ann", 200, rules=RULES["ann"])
        await ann.add_mint(self.world.mints[1].url)
        await self.world.funded("bob", 100, mint=1, rules=RULES["bob"])

    # ── money comes and goes ────────────────────────────────────────────────────────────────

    @rule(name=wallets, place=places, amount=amounts, paid=st.booleans(), claim=st.booleans())
    def invoice(self, name: str, place: int, amount: int, paid: bool, claim: bool) -> None:
        url = self.world.mints[place].url

        async def act() -> None:
            wallet = self.world.wallets[name]
            made = await wallet.request_invoice(amount, mint=url)
            if paid:
                self.world.lightning.pay(made.bolt11)
            if claim:
                await wallet.claim_invoice(made.operation)

        self.tries(act())

    @rule(
        target=given,
        name=wallets,
        amount=amounts,
        lock=st.sampled_from(["", "ann", "bob"]),
        include_fee=st.booleans(),
        place=st.one_of(st.none(), places),
    )
    def send(
        self, name: str, amount: int, lock: str, include_fee: bool, place: int | None
    ) -> Given | None:
        return self.sent(name, amount, lock, include_fee, place)

    @rule(target=given, place=places, amount=st.integers(1, 60))
    def somebody_elses(self, place: int, amount: int) -> Given:
        """A token of somebody who is no wallet of ours."""
        mint = self.world.mints[place]
        mint.faults.clear()

        async def act() -> Given:
            purse = Purse(self.world.connect(mint.url), pay=self.world.lightning.pay)
            proofs = await purse.fill(amount)
            self.outside |= {proof.secret: proof for proof in proofs}
            return Given(tokens.encode(Token(mint.url, "sat", proofs)))

        return self.run(act())

    @rule(name=wallets, token=given)
    def receive(self, name: str, token: Given | None) -> None:
        """Anybody's, own ones too, any number of times."""
        if token is not None:
            self.tries(self.world.wallets[name].receive(token.text))

    @rule(name=wallets, token=given, what=st.sampled_from(["amount", "secret", "c", "dleq"]))
    def receive_a_forgery(self, name: str, token: Given | None, what: str) -> None:
        if token is None:
            return
        read = tokens.decode(token.text)
        first = read.proofs[0]
        changes: dict[str, Any] = {
            "amount": first.amount * 2,
            "secret": "00" * 32,
            "c": curve.y_of("other"),
            "dleq": None,
        }
        forged = codec.to_proof(codec.from_proof(first))
        forged = type(first)(**{**vars(forged), what: changes[what]})
        wallet, before = self.world.wallets[name], self.world.wallets[name].balance()
        told = self.tries(wallet.receive(Token(read.mint, "sat", (forged, *read.proofs[1:]))))
        assert isinstance(told, WalletError)
        assert wallet.balance() <= before

    @rule(token=given)
    def reclaim(self, token: Given | None) -> None:
        if token is not None and token.by:
            self.tries(self.world.wallets[token.by].reclaim(token.operation))

    @rule(
        name=wallets,
        amount=amounts,
        outcome=st.sampled_from(Outcome),
        fee_msat=st.sampled_from([0, 1, 999, 1_000, 2_500, 50_000]),
        inside=st.booleans(),
    )
    def pay(self, name: str, amount: int, outcome: Outcome, fee_msat: int, inside: bool) -> None:
        """An invoice of the outside world, or one of the other wallet's."""
        self.world.lightning.outcome, self.world.lightning.fee_msat = outcome, fee_msat
        key = self.key()

        async def act() -> None:
            bolt11 = self.world.lightning.invoice(amount * 1000)
            if inside:
                other = self.world.wallets["bob" if name == "ann" else "ann"]
                bolt11 = (await other.request_invoice(amount)).bolt11
            self.bills[key] = name, bolt11
            await self.world.wallets[name].pay_invoice(bolt11, key=key)

        self.tries(act())
        self.world.lightning.outcome = Outcome.PAID

    @rule(number=st.integers(0, 50), paid=st.booleans())
    def a_payment_ends(self, number: int, paid: bool) -> None:
        hanging = sorted({each.invoice.text for each in self.world.lightning._pending})
        if hanging:
            outcome = Outcome.PAID if paid else Outcome.FAILED
            self.world.lightning.end(hanging[number % len(hanging)], outcome)

    # ── what goes on beside ─────────────────────────────────────────────────────────────────

    @rule(place=places, fee_ppk=st.sampled_from(FEES), aware=st.booleans())
    def rotate(self, place: int, fee_ppk: int, aware: bool) -> None:
        mint = self.world.mints[place]
        mint.rotate(fee_ppk=fee_ppk)
        if aware:
            mint.faults.clear()
            self.tries(self.world.wallets["ann"].add_mint(mint.url))

    @rule(name=wallets, place=places)
    def consolidate(self, name: str, place: int) -> None:
        self.tries(self.world.wallets[name].consolidate(self.world.mints[place].url))

    @rule(name=wallets, what=st.sampled_from(["recover", "refresh_outbox", "check"]))
    def look(self, name: str, what: str) -> None:
        self.tries(getattr(self.world.wallets[name], what)())

    @rule(name=wallets, place=places)
    def restore_in_use(self, name: str, place: int) -> None:
        self.tries(self.world.wallets[name].restore(self.world.mints[place].url))

    @rule(seconds=st.sampled_from([60, 700, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.world.time_s += seconds

    @rule(name=wallets, amounts=st.lists(st.integers(1, 40), min_size=2, max_size=4))
    def at_once(self, name: str, amounts: list[int]) -> None:
        """Sends, a payment and a recovery that do not wait for each other."""
        wallet, key = self.world.wallets[name], self.key()
        bolt11 = self.world.lightning.invoice(5_000)
        self.bills[key] = name, bolt11

        async def act() -> None:
            told = await asyncio.gather(
                *(wallet.send(amount, key=f"{key}.{n}") for n, amount in enumerate(amounts)),
                wallet.pay_invoice(bolt11, key=key),
                wallet.recover(),
                return_exceptions=True,
            )
            for each in told:
                if isinstance(each, BaseException):
                    assert isinstance(each, WalletError), each
                    assert not isinstance(each, StoreError), each
                elif isinstance(each, Sent):
                    self.hand(name, each)

        self.tries(act())

    # ── what breaks ─────────────────────────────────────────────────────────────────────────

    @rule(
        place=places,
        fault=st.sampled_from(LIES),
        path=st.sampled_from(PATHS),
        times=st.integers(1, 3),
    )
    def go_wrong(self, place: int, fault: Fault, path: str, times: int) -> None:
        self.world.mints[place].faults.add(fault, path, times=times)

    @rule(place=places, number=st.integers(0, 50))
    def a_lost_request_arrives(self, place: int, number: int) -> None:
        """As long as one may, after whatever was done about it."""
        mint = self.world.mints[place]
        mint.lost = [each for each in mint.lost if self.world.time_s - each[0] < LIVES_S]
        if mint.lost:
            mint.arrive(number % len(mint.lost))

    @rule()
    def go_well(self) -> None:
        for mint in self.world.mints:
            mint.faults.clear()

    @rule(name=wallets)
    def restart(self, name: str) -> None:
        self.run(self.world.again(name, rules=RULES[name]))

    @rule(
        at=st.integers(0, 14),
        thrown=st.booleans(),
        what=st.sampled_from(
            ["send", "locked", "receive", "pay", "claim", "consolidate", "recover"]
        ),
        amount=amounts,
        token=given,
    )
    def die(self, at: int, thrown: bool, what: str, amount: int, token: Given | None) -> None:
        """Ann's process ends at some point of an operation, and is started again."""
        ann, key = self.world.wallets["ann"], self.key()

        async def act() -> object:
            if what in ("send", "locked"):
                to = self.world.wallets["bob"].address() if what == "locked" else None
                return self.hand("ann", await ann.send(amount, to=to, key=key))
            if what == "receive" and token is not None:
                return await ann.receive(token.text)
            if what == "pay":
                bolt11 = self.world.lightning.invoice(amount * 1000)
                self.bills[key] = "ann", bolt11
                return await ann.pay_invoice(bolt11, key=key)
            if what == "claim":
                made = await ann.request_invoice(amount)
                self.world.lightning.pay(made.bolt11)
                return await ann.claim_invoice(made.operation)
            if what == "consolidate":
                return await ann.consolidate(self.world.mint.url)
            return await ann.recover()

        self.world.points.arm(at, lives_on=thrown)
        with contextlib.suppress(Crash):
            self.tries(act())
        self.world.points.disarm()
        if not thrown:
            self.run(self.world.again("ann", rules=RULES["ann"]))

    @rule(name=wallets)
    def restore_the_seed_elsewhere(self, name: str) -> None:
        """Into an empty file: all that the seed has, and that no payment holds, is there."""
        self.go_well()
        expected = sum(
            proof_amount
            for place in self.world.mints
            for secret, proof_amount in self.of_seed(name, place).items()
            if curve.y_of(secret) not in place.ledger.pending
        )

        async def act() -> int:
            scratch = await self.world.wallet(name, file="scratch", rules=RULES[name])
            try:
                for mint in self.world.mints:
                    await scratch.add_mint(mint.url)
                    await scratch.restore(mint.url)
                return scratch.balance()
            finally:
                await self.world.stop("scratch")
                (self.world.folder / "scratch.db").unlink()

        assert self.run(act()) == expected

    # ── what always holds ───────────────────────────────────────────────────────────────────

    @invariant()
    def every_sat_is_somewhere(self) -> None:
        for mint in self.world.mints:
            known = {s: p.amount for s, p in self.outside.items() if p.id in mint.ledger.keysets}
            for name in self.world.wallets:
                known |= self.of_wallet(name, mint)
            unspent = sum(a for s, a in known.items() if curve.y_of(s) not in mint.ledger.spent)
            assert unspent == mint.outstanding(), mint.url

    @invariant()
    def no_counter_goes_down(self) -> None:
        for name, wallet in self.world.wallets.items():
            now = self.world.counters(wallet)
            assert lowered(self.counters[name], now) == []
            self.counters[name] = now

    @invariant()
    def payments_are_what_they_say(self) -> None:
        for key, (name, bolt11) in self.bills.items():
            operation = self.world.wallets[name].operation(key)
            paid = self.world.lightning.is_paid(bolt11)
            if operation is None or operation.state == State.FAILED:
                assert not paid or self.paid_otherwise(key, bolt11), key
            elif operation.state == State.DONE:
                assert paid, key

    @invariant()
    def files_are_in_order(self) -> None:
        for wallet in self.world.wallets.values():
            assert wallet._book.store.read(lambda tables: tables.proofs.orphans()) == ()

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.go_well()
                self.run(self._settle())
        finally:
            if hasattr(self, "world"):
                self.run(self.world.close())
            self.runner.close()
            self.folder.cleanup()

    async def _settle(self) -> None:
        """All comes to an end, and what is left is money."""
        for text in sorted({each.invoice.text for each in self.world.lightning._pending}):
            self.world.lightning.end(text, Outcome.FAILED)
        for name in ("ann", "bob"):
            wallet = await self.world.again(name, rules=RULES[name])
            self.world.time_s += 700
            await wallet.recover()
            await wallet.refresh_outbox()
            left = [each for each in wallet.pending() if not _waits_for_payer(each)]
            assert left == []
            report = await wallet.check()
            assert report.ok, report
            assert Hold.RESERVED not in self.world.held(wallet)
            assert Hold.ASIDE not in self.world.held(wallet)
        self.every_sat_is_somewhere()
        self.payments_are_what_they_say()
        for wallet in self.world.wallets.values():
            for mint in wallet.mints():
                for _ in range(3):  # it would be refused if any of it were not the mint's
                    await wallet.consolidate(mint.url)
        self.every_sat_is_somewhere()

    # ────────────────────────────────────────────────────────────────────────────────────────

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def tries(self, work: Awaitable[object]) -> object:
        """What may be refused, or be left open, and must not break."""

        async def act() -> object:
            try:
                return await work
            except StoreError:
                raise
            except WalletError as error:
                return error

        return self.run(act())

    def key(self) -> str:
        self.number += 1
        return f"k{self.number}"

    def sent(
        self, name: str, amount: int, lock: str, include_fee: bool, place: int | None
    ) -> Given | None:
        to = self.world.wallets[lock].address() if lock else None
        mint = None if place is None else self.world.mints[place].url
        wallet = self.world.wallets[name]
        work = wallet.send(amount, to=to, include_fee=include_fee, mint=mint, key=self.key())
        told = self.tries(work)
        return self.hand(name, told) if isinstance(told, Sent) else None

    def hand(self, name: str, sent: Sent) -> Given:
        operation = f"{name} {sent.operation}"
        for proof in tokens.decode(sent.token).proofs:
            assert self.handed.setdefault(proof.secret, operation) == operation
        return Given(sent.token, name, sent.operation)

    def of_wallet(self, name: str, mint: MemoryMint) -> dict[str, int]:
        """Secrets of a wallet's proofs of a mint, and of outputs that the mint signed and whose
        answer it may not have, with their amounts."""

        def work(tables: Tables) -> dict[str, int]:
            found = {
                held.proof.secret: held.proof.amount
                for hold in Hold
                for url, held in tables.proofs.all_held(hold)
                if url == mint.url
            }
            for made in _outputs(tables):
                signed = mint.ledger.signed.get(made.message.b)
                if signed is not None:
                    found[made.secret] = signed.amount
            return found

        return self.world.wallets[name]._book.store.read(work)

    def of_seed(self, name: str, mint: MemoryMint) -> dict[str, int]:
        """Those that are unspent and not locked: made of the seed, all of them."""
        return {
            secret: amount
            for secret, amount in self.of_wallet(name, mint).items()
            if conditions.parse(secret) is None
            and secret not in self.outside
            and curve.y_of(secret) not in mint.ledger.spent
        }

    def paid_otherwise(self, key: str, bolt11: str) -> bool:
        """Whether another operation paid the same invoice."""
        return any(other != key and each[1] == bolt11 for other, each in self.bills.items())


def _outputs(tables: Tables) -> list[Output]:
    """All outputs of operations that are not final."""
    found: list[Output] = []
    for operation in tables.operations.pending():
        record = tables.operations.get(operation.key)
        if record is not None:
            found += codec.outputs_of(record.body)
            found += [
                codec.to_output(row) for rows in record.body.get("before", ()) for row in rows
            ]
    return found


def _waits_for_payer(operation: Operation) -> bool:
    return operation.kind == Kind.MINT and operation.state == State.PREPARED


Economy.TestCase.settings = settings(
    max_examples=HISTORIES or 12,
    stateful_step_count=40 if HISTORIES else 25,
    derandomize=not HISTORIES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(7_200 if HISTORIES else 300)
class TestEconomy(Economy.TestCase):  # type: ignore[misc, name-defined]
    """The histories, as a test."""
