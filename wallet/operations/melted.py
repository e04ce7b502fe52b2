"""What comes of a Lightning payment that a mint made: its proof, and the change (NUT-08, NUT-09).

Change whose signatures do not hold is owed by the mint: the payment is done, the blanks are kept,
and `recover` asks for it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from wallet.errors import MintMisbehavedError, WalletError
from wallet.operations import unblinding
from wallet.operations.book import Book
from wallet.store import Record, State, Tables, codec
from wallet.types import BlindSignature, MeltQuote, Output, Proof

_OWED: Final = "paid; the mint owes the change of this payment"


def owes_change(record: Record) -> bool:
    """Whether a payment is done but for its change."""
    return record.operation.state == State.PENDING and "preimage" in record.body


async def finish(book: Book, record: Record, told: MeltQuote) -> Record:
    """Takes the change in; the payment is done. Where the change cannot be had yet, it is owed.

    Args:
        told: the quote, which the mint calls paid.
    """
    mint, blanks = record.operation.mint, codec.outputs_of(record.body)
    preimage = _preimage(record, told) or record.body.get("preimage")
    try:
        signatures = told.change
        if not signatures or _kept(record, signatures) > record.body["quote"]["reserve"]:
            restored = await _restored_change(book, mint, blanks)
            signatures = max(signatures, restored, key=_sum)
        if _kept(record, signatures) < 0:
            raise MintMisbehavedError(f"mint {mint} gives more back than was left of a payment")
        change = await unblinding.finish_blank(book, mint, blanks, signatures)
    except WalletError:
        body = {**record.body, "preimage": preimage}
        owed = book.changed(record, state=State.PENDING, error=_OWED, body=body)
        return await book.keep(owed, "owed")
    return await book.store.write(
        "finish", lambda tables: _done(book, tables, record, change, preimage)
    )


def _kept(record: Record, change: Sequence[BlindSignature]) -> int:
    """What the mint kept for Lightning, by the change it gave."""
    body = record.body
    given = sum(proof.amount for proof in codec.proofs_of(body, "inputs"))
    return int(given - body["quote"]["amount"] - body["input_fee"] - _sum(change))


def _sum(change: Sequence[BlindSignature]) -> int:
    return sum(signature.amount for signature in change)


async def _restored_change(
    book: Book, mint: str, blanks: Sequence[Output]
) -> tuple[BlindSignature, ...]:
    """The change by NUT-09, for a mint that gives none, or keeps more than its fee reserve: its
    answer may not repeat the change, or leave some out. In the blanks' order."""
    if not blanks or not (await book.info(mint)).supports(9):
        return ()
    found = dict(await book.api(mint).restore([made.message for made in blanks]))
    signed = [found[made.message] for made in blanks if made.message in found]
    if [made.message for made in blanks[: len(signed)]] != list(found):
        raise MintMisbehavedError(f"mint {mint} restores change out of order")
    return tuple(signed)


def _done(
    book: Book, tables: Tables, record: Record, change: Sequence[Proof], preimage: str | None
) -> Record:
    operation, told = record.operation, record.body["quote"]
    given = sum(proof.amount for proof in codec.proofs_of(record.body, "inputs"))
    fee = given - told["amount"] - sum(proof.amount for proof in change)
    tables.proofs.spend(record.key)
    tables.proofs.add(operation.mint, operation.unit, change)
    body = {"asked": record.body["asked"], "hash": record.body["hash"], "preimage": preimage}
    done = book.changed(record, state=State.DONE, fee=fee, error="", body=body)
    tables.operations.update(done)
    return done


def _preimage(record: Record, told: MeltQuote) -> str | None:
    """The preimage, where it is the invoice's: mints that pay themselves have none to show."""
    try:
        data = bytes.fromhex(told.preimage or "")
    except ValueError:
        return None
    return told.preimage if sha256(data).hexdigest() == record.body["hash"] else None
