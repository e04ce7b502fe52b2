"""The wallet, as its users see it: one class, whose methods are the sagas of `wallet.operations`.

Everything that moves money takes a `key`: the same key is the same operation, whatever happened
in between, so that nothing is ever paid twice. Reads are immediate; whatever talks to a mint is
awaited. Errors are those of `wallet.errors`: after an OutcomeUnknownError the operation is pending
and `recover` settles it; after any other, nothing was paid.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wallet.errors import RefusedError
from wallet.operations import (
    checking,
    consolidating,
    exchanging,
    minting,
    mints,
    outbox,
    paying,
    recovering,
    restoring,
    sending,
)
from wallet.operations.book import Book
from wallet.operations.flows import Flows
from wallet.operations.ownkeys import OwnKeys
from wallet.operations.results import (
    Invoice,
    Payment,
    Received,
    Report,
    Restored,
    Rules,
    Sent,
)
from wallet.operations.sources import FundingSource
from wallet.protocol import derivation, tokens
from wallet.protocol.derivation import Seed
from wallet.store import MintRecord, Operation, Probe, State, Store
from wallet.types import Token, Unit

if TYPE_CHECKING:
    from wallet.mint import MintClient

RULES: Final = Rules()


class Wallet(Flows):
    """Ecash at the mints its owner chose, in one encrypted file with one writer.

    Use `Wallet.open`, and `aclose` at the end, or `async with await Wallet.open(...)`. After
    opening, `recover` settles what an interruption left.
    """

    def __init__(self, book: Book, words: str) -> None:
        self._book = book
        self._words = words
        self._own = OwnKeys(book)
        self._sources: dict[str, FundingSource] = {}

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        key: bytes,
        words: str | None = None,
        connect: Callable[[str], MintClient] | None = None,
        meet: Callable[[str], MintClient] | None = None,
        rules: Rules = RULES,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        random: Callable[[int], bytes] = secrets.token_bytes,
        probe: Probe | None = None,
    ) -> Wallet:
        """Opens, or makes, the wallet at `path`.

        Args:
            path: the file; a `.lock` beside it says that it is in use.
            key: 32 bytes that seal it.
            words: the seed of a new wallet; None makes one.
            connect: makes the client of a mint's URL; None: over HTTP.
            meet: the same for a mint that only a token named (`Rules.swap_foreign`); None: as
                `connect`, or over HTTP to public addresses only.
            rules: what may be done without asking.
            now: Unix seconds.
            steady: seconds of a clock that nobody sets.
            random: bytes of a secure generator.
            probe: told of every write, for tests; see `wallet.store`.

        Raises:
            WalletBusyError: another process holds it.
            StoreError: wrong key, or a damaged file.
            RefusedError: the wallet that is there has another seed.
            ParseError: the words are no seed.
        """
        given = None if words is None else derivation.check_words(words)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = Store(path, key=key, random=random, probe=probe)
        try:
            kept = (await store.unlock(lambda: _new(given, random))).decode()
            if given is not None and kept != given:
                raise RefusedError(
                    "the wallet in this file has another seed",
                    hint="Restore into an empty home, or open it without words.",
                )
            seed = Seed.from_words(kept)
            book = Book(
                store,
                seed,
                connect=connect or _over_http,
                meet=meet or connect or _to_a_stranger,
                rules=rules,
                now=now,
                steady=steady,
                random=random,
            )
        except BaseException:
            await store.aclose()
            raise
        return cls(book, kept)

    async def aclose(self) -> None:
        """Finishes what is being written, and lets go of file and connections."""
        await self._book.aclose()

    async def __aenter__(self) -> Wallet:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    def words(self) -> str:
        """The seed's words, for a backup on paper. Never log them."""
        return self._words

    @property
    def rules(self) -> Rules:
        """What this wallet does without asking."""
        return self._book.rules

    def now(self) -> float:
        """Unix seconds, by the wallet's clock."""
        return float(self._book.now())

    # ── mints ───────────────────────────────────────────────────────────────────────────────

    async def add_mint(self, url: str, *, spend: bool = True, accept: bool = True) -> MintRecord:
        """Adds a mint, or changes what an added one may be used for.

        Args:
            spend: whether payments are made from it, and invoices received there.
            accept: whether tokens of it are received.

        Raises:
            UnsupportedError: it has no sat, or wants authentication.
            MintUnreachableError, OutcomeUnknownError: it does not answer, or is no mint.
        """
        return await mints.add(self._book, url, spend=spend, accept=accept)

    async def remove_mint(self, url: str, *, force: bool = False) -> None:
        """Takes a mint off the list; what it holds stays in the file, and is back with the mint.

        Raises:
            RefusedError: it holds money, or an operation is open there, and `force` is not set.
        """
        await mints.remove(self._book, url, force=force)

    def mints(self) -> tuple[MintRecord, ...]:
        """The mints, with what they hold."""
        free = self._book.balances()
        return tuple(mints.record(self._book, row, free) for row in self._book.mints())

    def balance(self, unit: Unit = "sat") -> int:
        """What can be spent now, at all mints on the list."""
        urls = {row.url for row in self._book.mints()}
        free = self._book.balances()
        return sum(held for (url, its), held in free.items() if its == unit and url in urls)

    # ── in ──────────────────────────────────────────────────────────────────────────────────

    async def request_invoice(
        self, amount: int, *, mint: str | None = None, unit: Unit = "sat", key: str | None = None
    ) -> Invoice:
        """Asks a mint for a bolt11 invoice that pays this wallet (NUT-04, locked by NUT-20).

        Raises:
            BalanceCapError: the mint would hold more than the cap.
        """
        return await minting.request_invoice(self._book, amount, mint=mint, unit=unit, key=key)

    async def claim_invoice(self, operation: str, *, wait: float = 0) -> Operation:
        """Mints the ecash of a paid invoice, waiting up to `wait` seconds for the payment.

        The operation returned is done, or still `prepared` where it is not paid.
        """
        return await minting.claim_invoice(self._book, operation, wait_s=wait)

    async def receive(
        self,
        token: str | Token,
        *,
        allow_unverified: bool = False,
        private_keys: Sequence[bytes] = (),
        preimage: bytes | None = None,
        key: str | None = None,
    ) -> Received:
        """Redeems a token: swaps it for ecash that nobody else knows.

        Args:
            token: as text, or read already.
            allow_unverified: takes proofs without DLEQ too; a wrong DLEQ is refused always.
            private_keys: for locks, beyond the wallet's own keys.
            preimage: for hash locks.
            key: the idempotency key.

        Raises:
            ParseError: it cannot be read.
            UntrustedMintError: its mint is not accepted.
            UnverifiedError, VerificationError: its proofs are not surely the mint's, or locked.
            AlreadySpentError: it was redeemed before.
            MintUnreachableError: the mint cannot be reached; it was not received.
        """
        from wallet.mint import mint_url

        read = tokens.decode(token) if isinstance(token, str) else token
        own_form = Token(mint_url(read.mint), read.unit, read.proofs, read.memo)
        return await exchanging.receive(
            self._book,
            self._own,
            own_form,
            allow_unverified=allow_unverified,
            private_keys=private_keys,
            preimage=preimage,
            key=key,
        )

    def address(self) -> bytes:
        """The wallet's public key for ecash locked to it: 33 bytes, always the same."""
        return self._own.address()

    async def fresh_key(self) -> bytes:
        """A public key for one payment, that was never given out before."""
        return await self._own.fresh()

    # ── out ─────────────────────────────────────────────────────────────────────────────────

    async def send(
        self,
        amount: int,
        *,
        to: bytes | None = None,
        mint: str | None = None,
        unit: Unit = "sat",
        memo: str | None = None,
        locktime: int | None = None,
        refund: Sequence[bytes] = (),
        blind: bool = False,
        include_fee: bool = False,
        max_fee: int | None = None,
        key: str | None = None,
    ) -> Sent:
        """Makes a token of exactly `amount`; it is in the outbox until seen spent or reclaimed.

        Args:
            to: the public key to lock it to (NUT-11).
            include_fee: the token holds so much more that `amount` is left when it is redeemed, by
                the mint's input fee of now (NUT-02).
            max_fee: the most that making it may cost, with what it holds more, in `unit`; None:
                what the mint asks.
            locktime: Unix seconds, after which `refund` may spend it too; with no `refund` given,
                this wallet may.
            blind: the mint does not learn whose keys they are (NUT-28); the payee's wallet must
                know how to find out.

        Raises:
            InsufficientFundsError: no mint holds so much.
            FeeTooHighError: its fee is above `max_fee`.
        """
        refunds = tuple(refund) or ((self.address(),) if locktime is not None and to else ())
        return await sending.send(
            self._book,
            amount,
            to=to,
            mint=mint,
            unit=unit,
            memo=memo,
            locktime=locktime,
            refund=refunds,
            blind=blind,
            include_fee=include_fee,
            max_fee=max_fee,
            key=key,
        )

    async def reclaim(self, operation: str) -> Operation:
        """Takes back a token that was sent and not redeemed.

        Raises:
            AlreadySpentError: the payee has redeemed it.
            RefusedError: it is locked to the payee.
        """
        return await outbox.reclaim(self._book, self._own, operation)

    async def refresh_outbox(self) -> tuple[Operation, ...]:
        """Asks which sent tokens were redeemed; returns the sends that are delivered now."""
        return await outbox.refresh(self._book)

    async def pay_invoice(
        self,
        bolt11: str,
        *,
        amount_msat: int | None = None,
        max_fee: int | None = None,
        mint: str | None = None,
        key: str | None = None,
    ) -> Payment:
        """Pays a Lightning invoice.

        Args:
            amount_msat: for an invoice that names none.
            max_fee: the most that Lightning and the mint may take on top, in sat; None: of
                Lightning's fee what the rules say, of the mint's what it asks.

        Raises:
            InsufficientFundsError, FeeTooHighError: no mint can pay it.
            PaymentFailedError: it surely was not paid.
            OutcomeUnknownError: nobody knows yet.
        """
        return await paying.pay_invoice(
            self._book, bolt11, amount_msat=amount_msat, max_fee=max_fee, mint=mint, key=key
        )

    async def consolidate(self, mint: str) -> Operation:
        """Swaps up to 250 small or old proofs for few new ones."""
        return await consolidating.consolidate(self._book, mint)

    # ── after a crash ───────────────────────────────────────────────────────────────────────

    async def recover(self, key: str | None = None) -> tuple[Operation, ...]:
        """Settles what is pending, at start-up and on demand; returns what is final now.

        Args:
            key: of the one operation to settle; None: all of them.
        """
        return await recovering.recover(self._book, self._own, self._sources, key)

    def operation(self, key: str) -> Operation | None:
        """The operation of this key."""
        return self._book.operation(key)

    def sent(self, key: str) -> Sent | None:
        """The token of a send that is done, without sending anything; None where it is not."""
        record = self._book.record(key)
        if record is None or not sending.is_done(record):
            return None
        return sending.sent(self._book, record)

    def payment(self, key: str) -> Payment | None:
        """What is known of a payment, without asking; None where it failed or is none."""
        record = self._book.record(key)
        if record is None or not paying.stands(record):
            return None
        return paying.payment(record)

    def pending(self) -> tuple[Operation, ...]:
        """Operations that are not final, oldest first."""
        return self._book.pending()

    def outbox(self) -> tuple[Operation, ...]:
        """Sends whose token was not seen spent, nor taken back, oldest first."""
        return self._book.store.read(lambda tables: tables.operations.out())

    def reclaimed(self, key: str) -> Operation | None:
        """The reclaim that took the token of this send back; None where none did."""
        return self._book.store.read(lambda tables: tables.operations.reclaimed(key))

    def history(self, limit: int = 100, before: str | None = None) -> tuple[Operation, ...]:
        """Operations, newest first; `before`: only those that began before the one of this key,
        none where there is no such."""
        return self._book.store.read(lambda tables: tables.operations.history(limit, before))

    # ── for whoever keeps a log of what happens ─────────────────────────────────────────────

    def untold(self) -> tuple[Operation, ...]:
        """Operations that ended and that `tell` was not called for since, oldest first.

        Parts of a payment by several mints, and batches of invoices, are told with the whole.
        """
        return self._book.store.read(lambda tables: tables.operations.untold())

    async def tell(self, ends: Iterable[tuple[str, State]], place: int) -> None:
        """Notes that the caller's log durably has the ends of these operations: key and state.

        Args:
            place: how far the log was read for them; `told_to` gives it back.
        """
        told = tuple(ends)
        await self._book.store.write("told", lambda tables: tables.operations.tell(told, place))

    def told_to(self) -> int:
        """The last `place` of `tell`; 0 where there was none."""
        return self._book.store.read(lambda tables: tables.operations.told_to())

    # ── file and mints held against each other ──────────────────────────────────────────────

    async def restore(self, mint: str) -> Restored:
        """Brings back what the seed has at a mint (NUT-09, NUT-13); never lowers a counter."""
        return await restoring.restore(self._book, mint)

    async def check(self) -> Report:
        """Opens everything in the file, and compares proofs with what their mints say."""
        return await checking.check(self._book)


def _new(given: str | None, random: Callable[[int], bytes]) -> bytes:
    return (given or derivation.new_words(random)).encode()


def _over_http(url: str) -> MintClient:
    from wallet.mint import HttpTransport, MintClient

    return MintClient(url, HttpTransport(url))


def _to_a_stranger(url: str) -> MintClient:
    from wallet.mint import HttpTransport, MintClient

    return MintClient(url, HttpTransport(url, public=True))
