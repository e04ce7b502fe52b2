"""Tokens that were sent: delivered once the payee redeemed them, or taken back before (NUT-07)."""

from __future__ import annotations

from collections.abc import Sequence

from wallet.errors import AlreadySpentError, RefusedError, VerificationError, WalletError
from wallet.operations import receiving, swapping
from wallet.operations.book import Book, must
from wallet.operations.ownkeys import OwnKeys
from wallet.protocol import curve
from wallet.store import Kind, Operation, Outbox, Record, State, Tables, codec
from wallet.types import ProofState, Token


async def reclaim(book: Book, own: OwnKeys, key: str) -> Operation:
    """See `Wallet.reclaim`."""
    async with book.holding(key):
        send = book.record(key)
        if send is None or send.operation.kind != Kind.SEND:
            raise RefusedError(f"{key!r} is no send of this wallet")
        while send.operation.outbox == Outbox.OPEN:
            held = book.held(key)
            try:
                back = await _go_on(book, key) or await _take_back(book, own, send)
            except AlreadySpentError:  # of all, or of some, of its proofs
                if book.held(key) == held:  # this wallet is receiving them
                    raise
            else:
                return back
            send = must(book.record(key), key)
    raise AlreadySpentError(
        f"the token of {key!r} is not in the outbox: {send.operation.outbox.value or 'not made'}"
    )


async def _go_on(book: Book, key: str) -> Operation | None:
    """Settles a reclaim of before; None where there is none, or it has failed by now."""
    begun = _begun(book, key)
    if begun is None:
        return None
    async with book.holding(begun):
        record = must(book.record(begun), begun)
        if not record.operation.state.final:  # `recover` may have been quicker
            record = await swapping.settle(book, receiving.RECEIVING, record)
        return record.operation if record.operation.state == State.DONE else None


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
    """Not while a restore looks at the mint: it would bring back what is taken out here. What this
    wallet is taking in itself is that operation's to settle."""
    async with book.at_work(mint):
        held = [proof for send in sends for proof in book.held(send.key)]
        states = await book.api(mint).check([curve.y_of(proof.secret) for proof in held])
        pairs = zip(held, states, strict=True)
        spent = [proof for proof, state in pairs if state == ProofState.SPENT]
        if not spent:
            return []

        def work(tables: Tables) -> list[Operation]:
            gone = [proof for proof in spent if tables.operations.seen([proof.secret]) is None]
            receiving.redeemed(book, tables, gone, Outbox.DELIVERED)
            now = [tables.operations.operation(send.key) for send in sends]
            return [each for each in now if each and each.outbox == Outbox.DELIVERED]

        return await book.store.write("outbox", work)


async def _take_back(book: Book, own: OwnKeys, send: Record) -> Operation:
    operation = send.operation
    proofs = book.held(send.key)
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
        return (await swapping.start(book, receiving.RECEIVING, record, snapshot)).operation


def _begun(book: Book, parent: str) -> str | None:
    """The operation that is taking a token back."""
    of_it = (each for each in book.pending() if each.parent == parent)
    return next((each.key for each in of_it if each.kind == Kind.RECLAIM), None)
