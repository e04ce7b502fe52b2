"""Receiving: a stranger's token becomes ours by a swap, and only then is it money (NUT-03).

Before anything is sent the token is checked as far as it can be without the mint: a mint this
wallet accepts, one unit, known keysets, a right DLEQ on every proof (NUT-12), locks that these
keys open (NUT-11, 14, 28), and none of it received before. A token whose DLEQ is missing is
refused, or taken as `verified=False` where the caller says so: the swap itself is then the proof.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from wallet.errors import (
    AlreadySpentError,
    FeeTooHighError,
    MintUnreachableError,
    RefusedError,
    UnsupportedError,
    UnverifiedError,
    VerificationError,
)
from wallet.operations import failures, mints, swapping
from wallet.operations.book import Book
from wallet.operations.directory import UNITS, Snapshot
from wallet.operations.ownkeys import OwnKeys
from wallet.operations.results import Received
from wallet.protocol import dleq, tokens, witness
from wallet.protocol import keysets as keyset_rules
from wallet.store import Hold, Kind, Outbox, Record, State, Tables, codec
from wallet.types import CLOCK_S, Proof, Token, Unit

_MANY = 16  # proofs whose checking would hold up the event loop


class Receiving(swapping.Swapping):
    """A swap whose inputs came from outside, or from the outbox."""

    def plan(self, book: Book, tables: Tables, record: Record, now: Snapshot) -> Record:
        body = record.body
        foreign = codec.proofs_of(body, "token")
        self._refuse(tables, record, foreign)
        claim_once(tables, body.get("once"), record.key)
        fee = keyset_rules.fee(now.infos[proof.id] for proof in foreign)
        amount = sum(proof.amount for proof in foreign) - fee
        if amount <= 0:
            raise FeeTooHighError(
                f"the mint's fee for this token is {fee}, all it is worth",
                hint="Receive it together with others of this mint.",
            )
        outputs = book.new_ecash(tables, now, amount)
        keys = [bytes.fromhex(key) for key in body["keys"]]
        preimage = bytes.fromhex(body["preimage"]) if body["preimage"] else None
        messages = [made.message for made in outputs]
        inputs = witness.sign(foreign, messages, keys, preimage=preimage)
        tables.operations.see((proof.secret for proof in foreign), record.key)
        request = {"inputs": codec.from_proofs(inputs), "outputs": codec.from_outputs(outputs)}
        return book.changed(
            record, state=State.PREPARED, amount=amount, fee=fee, body={**body, **request}
        )

    def finish(
        self, book: Book, tables: Tables, record: Record, proofs: tuple[Proof, ...]
    ) -> Record:
        mint, unit = record.operation.mint, record.operation.unit
        tables.proofs.add(mint, unit, proofs)
        redeemed(book, tables, codec.proofs_of(record.body, "token"), Outbox.RECLAIMED)
        kept = {name: record.body[name] for name in ("asked", "memo", "verified")}
        return book.changed(record, state=State.DONE, error="", body=kept)

    def fail(self, book: Book, tables: Tables, record: Record, spent: Sequence[Proof]) -> None:
        tables.operations.forget(record.key)
        redeemed(book, tables, spent, Outbox.DELIVERED)

    def _refuse(self, tables: Tables, record: Record, proofs: Sequence[Proof]) -> None:
        seen = tables.operations.seen(proof.secret for proof in proofs)
        if seen is not None and seen != record.key:
            raise received_before(tables, seen)
        for proof in proofs:
            row = tables.proofs.state(tables.vault.tag(proof.secret))
            if row is not None and row[0] in (Hold.FREE, Hold.RESERVED):
                raise RefusedError(
                    "this token is this wallet's own money, and was never sent",
                    hint="Is a copy of this wallet in use? Only one may be.",
                )


RECEIVING = Receiving()


async def receive(
    book: Book,
    own: OwnKeys,
    token: Token,
    *,
    allow_unverified: bool = False,
    private_keys: Sequence[bytes] = (),
    preimage: bytes | None = None,
    once: str | None = None,
    key: str | None = None,
) -> Received:
    """Redeems a token of a mint in the book. See `Wallet.receive`.

    Args:
        once: a name that one operation answers, such as that of a single-use request.
    """
    asked = {"token": fingerprint(token)}
    key = key or book.store.read(lambda tables: _unsettled(tables, token)) or book.new_key()
    async with book.holding(key):
        record = book.same(key, Kind.RECEIVE, asked)
        if record is None:
            token, verified = await checked(book, token, allow_unverified=allow_unverified)
            unit = unit_of(token)
            snapshot = await book.snapshot(token.mint, unit)
            body: dict[str, Any] = {
                "asked": asked,
                "token": codec.from_proofs(token.proofs),
                "keys": [private.hex() for private in own.opening(token.proofs, private_keys)],
                "preimage": preimage.hex() if preimage else None,
                "memo": token.memo or "",
                "verified": verified,
                "once": once,
            }
            refuse_locked(book, token.proofs, body)
            record = book.begun(key, Kind.RECEIVE, snapshot, token.amount, **body)
            record = await _start(book, record, snapshot)
        elif not record.operation.state.final:
            record = await swapping.settle(book, RECEIVING, record)
        failures.raise_again(record)
        return received(book, record)


def received(book: Book, record: Record) -> Received:
    """The answer for a receive that is done."""
    operation = record.operation
    return Received(
        operation.key,
        operation.amount,
        operation.fee,
        operation.unit,
        operation.mint,
        record.body["memo"],
        record.body["verified"],
        mints.over_cap(book, operation.mint, book.balances()),
    )


async def checked(book: Book, token: Token, *, allow_unverified: bool) -> tuple[Token, bool]:
    """The token with whole keyset ids, and whether every proof has a right DLEQ.

    Raises:
        VerificationError: a proof is not its mint's, or of another unit.
        UnverifiedError: a proof has no DLEQ, and that is not allowed.
    """
    unit = unit_of(token)
    await book.snapshot(token.mint, unit)
    known = book.infos(token.mint)
    if any(not any(key.startswith(proof.id) for key in known) for proof in token.proofs):
        await book.refresh(token.mint)
        known = book.infos(token.mint)
    token = tokens.resolve(token, known)
    for keyset_id in sorted({proof.id for proof in token.proofs}):
        if keyset_id not in known or known[keyset_id].unit != unit:
            raise VerificationError(
                f"keyset {keyset_id} is not one of mint {token.mint} for {unit}",
                hint="Do not accept this token: it is worthless, or of another mint.",
            )
        await book.keyset(token.mint, keyset_id)
    keysets = {key: await book.keyset(token.mint, key) for key in {p.id for p in token.proofs}}

    def verify() -> bool:
        verified = True
        for proof in token.proofs:
            try:
                dleq.check(proof, keysets[proof.id])
            except UnverifiedError:
                if not allow_unverified:
                    raise
                verified = False
        return verified

    return token, (await asyncio.to_thread(verify) if len(token.proofs) > _MANY else verify())


def unit_of(token: Token) -> Unit:
    """The token's unit.

    Raises:
        UnsupportedError: not one this wallet keeps.
    """
    for unit in UNITS:
        if token.unit == unit:
            return unit
    raise UnsupportedError(f"this wallet keeps no {token.unit[:20]!r}", hint="It keeps sat.")


def received_before(tables: Tables, key: str) -> AlreadySpentError:
    """The error for a token that another operation received, or is receiving."""
    found = tables.operations.operation(key)
    if found is not None and found.pending:
        return AlreadySpentError(
            "this wallet is receiving this token already, and it is not known yet how that ends",
            hint="Look at `history` later.",
        )
    return AlreadySpentError("this wallet has received this token before")


def refuse_locked(book: Book, proofs: Sequence[Proof], body: dict[str, Any]) -> None:
    """Refuses locks that cannot be opened now; near a locktime, the mint's clock decides.

    Raises:
        VerificationError: a key or a preimage is missing.
    """
    preimage = bytes.fromhex(body["preimage"]) if body["preimage"] else None
    keys = [bytes.fromhex(key) for key in body["keys"]]
    signed = witness.sign(proofs, (), keys, preimage=preimage)
    try:
        witness.check(signed, (), now=book.now())
    except VerificationError:
        witness.check(signed, (), now=book.now() + CLOCK_S)


def redeemed(book: Book, tables: Tables, proofs: Sequence[Proof], outbox: Outbox) -> None:
    """Takes proofs out of the outbox, and settles the sends that have none left in it."""
    sends: set[str] = set()
    tags = [tables.vault.tag(proof.secret) for proof in proofs]
    for tag in tags:
        row = tables.proofs.state(tag)
        if row is not None and row[0] == Hold.SENT and row[1] is not None:
            sends.add(row[1])
    tables.proofs.drop(tags)
    for key in sorted(sends):
        record = tables.operations.get(key)
        if record is not None and not tables.proofs.held(key):
            tables.operations.update(book.changed(record, outbox=outbox))


def claim_once(tables: Tables, once: str | None, key: str) -> None:
    """Inside a transaction: what is answered once is answered by this operation.

    Raises:
        AlreadySpentError: another one answered it, or is at it.
    """
    if once is not None and tables.operations.claim(once, key) is not None:
        raise AlreadySpentError(f"{once} was paid already", hint="Make a new request.")


def fingerprint(token: Token) -> str:
    """The same for the same proofs, in whatever order."""
    secrets = sorted(proof.secret for proof in token.proofs)
    return sha256("\0".join(secrets).encode()).hexdigest()


async def _start(book: Book, record: Record, snapshot: Snapshot) -> Record:
    try:
        return await swapping.start(book, RECEIVING, record, snapshot)
    except MintUnreachableError as error:
        raise MintUnreachableError(
            f"the token was not received: {error.message}",
            hint="It is worth what it was, to whoever redeems it first. Try again when online.",
        ) from error


def _unsettled(tables: Tables, token: Token) -> str | None:
    """The operation that is receiving this token already, with its answer missing."""
    key = tables.operations.seen(proof.secret for proof in token.proofs)
    found = tables.operations.operation(key) if key else None
    if found is None or found.state.final or found.kind != Kind.RECEIVE:
        return None
    return found.key
