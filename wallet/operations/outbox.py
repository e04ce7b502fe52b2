"""Tokens that were sent: delivered once the payee redeemed them, or taken back before (NUT-07)."""

from __future__ import annotations

from collections.abc import Sequence

from wallet.errors import AlreadySpentError, RefusedError, VerificationError, WalletError
from wallet.operations import receiving, swapping
from wallet.operations.book import Book, must
from wallet.operations.ownkeys import OwnKeys
from wallet.protocol import curve
from wallet.store import Held, Kind, Operation, Outbox, Record, Tables, codec
from wallet.types import ProofState, Token


class Reclaiming(receiving.Receiving):
    """A swap of our own outbox back to us."""

    kind = Kind.RECLAIM


RECLAIMING = Reclaiming()


async def reclaim(book: Book, own: OwnKeys, key: str) -> Operation:
    """See `Wallet.reclaim`."""
    async with book.holding(key):
        send = book.record(key)
        if send is None or send.operation.kind != Kind.SEND:
            raise RefusedError(f"{key!r} is no send of this wallet")
        begun = _begun(book, key)
        if begun is not None:
            async with book.holding(begun.key):
                return (await swapping.settle(book, RECLAIMING, begun)).operation
        while send.operation.outbox == Outbox.OPEN:
            try:
                return await _take_back(book, own, send)
            except AlreadySpentError:  # of all, or of some, of its proofs
                send = must(book.record(key), key)
    raise AlreadySpentError(
        f"the token of {key!r} is not in the outbox: {send.operation.outbox.value or 'not made'}"
    )


async def refresh(book: Book) -> tuple[Operation, ...]:
    """See `Wallet.refresh_outbox`. A mint that cannot be asked is left for the next time."""
    delivered: list[Operation] = []
    by_mint: dict[str, list[Operation]] = {}
    for send in book.store.read(lambda tables: tables.operations.out()):
        by_mint.setdefault(send.mint, []).append(send)
    for mint, sends in by_mint.items():
        try:
            delivered += await _refresh(book, mint, sends)
        except WalletError:
            continue
    return tuple(delivered)


async def _refresh(book: Book, mint: str, sends: Sequence[Operation]) -> list[Operation]:
    held = [each for send in sends for each in _held(book, send.key)]
    states = await book.api(mint).check([curve.y_of(each.proof.secret) for each in held])
    pairs = zip(held, states, strict=True)
    spent = [each.proof for each, state in pairs if state == ProofState.SPENT]
    if not spent:
        return []

    def work(tables: Tables) -> list[Operation]:
        receiving.redeemed(book, tables, spent, Outbox.DELIVERED)
        now = [tables.operations.operation(send.key) for send in sends]
        return [each for each in now if each and each.outbox == Outbox.DELIVERED]

    return await book.store.write("outbox", work)


async def _take_back(book: Book, own: OwnKeys, send: Record) -> Operation:
    operation = send.operation
    proofs = tuple(each.proof for each in _held(book, send.key))
    snapshot = await book.snapshot(operation.mint, operation.unit)
    token = Token(operation.mint, operation.unit, proofs)
    keys = own.opening(proofs)
    body = {
        "asked": {"token": receiving.fingerprint(token)},
        "token": codec.from_proofs(proofs),
        "keys": [private.hex() for private in keys],
        "preimage": None,
        "memo": "",
        "verified": True,
    }
    try:
        receiving.refuse_locked(book, proofs, body)
    except VerificationError as error:
        raise RefusedError(
            "this token is locked to its payee",
            hint="It can be taken back after its locktime, if this wallet's key is its refund.",
        ) from error
    key = book.new_key()
    record = book.begun(key, Kind.RECLAIM, snapshot, operation.amount, parent=send.key, **body)
    async with book.holding(key):
        return (await swapping.start(book, RECLAIMING, record, snapshot)).operation


def _begun(book: Book, parent: str) -> Record | None:
    def work(tables: Tables) -> Record | None:
        for operation in tables.operations.pending():
            if operation.parent == parent and operation.kind == Kind.RECLAIM:
                return tables.operations.get(operation.key)
        return None

    return book.store.read(work)


def _held(book: Book, key: str) -> tuple[Held, ...]:
    return book.store.read(lambda tables: tables.proofs.held(key))
