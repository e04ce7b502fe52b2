"""The saga of everything that is a swap at the mint (NUT-03): send, receive, reclaim, consolidate.

One transaction reserves the inputs, uses up counters and stores the request; then the POST; then
one transaction that finishes. When the answer is missing, nothing is guessed:

    inputs spent, outputs restored (NUT-07, NUT-09)  ->  it happened: finish
    inputs spent, no output of ours                  ->  somebody else spent them: failed, once
                                                         no copy of ours may be at the mint
    inputs unspent, and the mint refused             ->  plan again where its keysets or fees
                                                         changed, else release and fail
    inputs unspent, and nobody refused for good      ->  the same bytes again
    inputs pending, or the mint silent               ->  the operation stays pending

The inputs are asked about first: outputs alone prove nothing where an old backup made this wallet
use counters twice. A request that may still be under way is repeated rather than released; which
refusals of a repetition say that the bytes can do no more is `copies`' to tell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from wallet.errors import (
    AlreadySpentError,
    MintError,
    MintUnreachableError,
    OutcomeUnknownError,
    WalletError,
)
from wallet.operations import copies, restoring, unblinding
from wallet.operations.book import Book
from wallet.operations.directory import Snapshot
from wallet.operations.failures import spent_elsewhere, unknown
from wallet.operations.replanning import MOST_TRIES, OUTDATED, looked_anew
from wallet.protocol import curve
from wallet.store import Hold, Kind, Record, State, Tables, codec
from wallet.types import BlindSignature, Output, Proof, ProofState


class Swapping(ABC):
    """What one kind of operation adds to the frame. Each method runs inside a transaction."""

    @abstractmethod
    def plan(self, book: Book, tables: Tables, record: Record, now: Snapshot) -> Record:
        """The record with `inputs` and `outputs` in its body; own inputs are reserved."""

    @abstractmethod
    def finish(
        self, book: Book, tables: Tables, record: Record, proofs: tuple[Proof, ...]
    ) -> Record:
        """Takes the new proofs in; returns the final record."""

    def fail(self, book: Book, tables: Tables, record: Record, spent: Sequence[Proof]) -> None:
        """Lets go of the inputs, those spent by others aside. The frame writes the record."""
        tags = [tables.vault.tag(proof.secret) for proof in spent]
        tables.proofs.set_aside(tags, record.key, hold=Hold.RESERVED)
        tables.proofs.release(record.key)


@dataclass(frozen=True)
class _Looked:
    """What the mint says of an operation whose answer is missing. `done`: its signatures."""

    done: tuple[BlindSignature, ...] | None = None
    spent: tuple[Proof, ...] = ()


async def start(book: Book, saga: Swapping, record: Record, snapshot: Snapshot) -> Record:
    """Plans a new operation, and brings it to its end.

    Raises:
        RefusedError: it cannot be planned; nothing was written.
        WalletError: as `settle`.
    """

    def work(tables: Tables) -> Record:
        planned = _planned(book, saga, tables, record, snapshot)
        tables.operations.insert(planned)
        return planned

    async with book.at_work(snapshot.mint):
        planned = await book.reserve(snapshot.mint, snapshot.unit, work)
        if planned.operation.state.final:  # it could be done from what is in the file
            return planned
        with book.under_way(snapshot.mint, snapshot.unit):
            return await _drive(book, saga, planned, sent=False)


async def settle(book: Book, saga: Swapping, record: Record) -> Record:
    """Brings an operation of before to its end: its request may be at the mint already.

    Raises:
        OutcomeUnknownError: nobody can tell yet; it stays pending.
        WalletError: it surely did not happen; it is failed, and its inputs are free.
    """
    mint, unit = record.operation.mint, record.operation.unit
    async with book.at_work(mint):
        with book.under_way(mint, unit):
            return await _drive(book, saga, record, sent=True)


async def _drive(book: Book, saga: Swapping, record: Record, *, sent: bool) -> Record:
    lost = OutcomeUnknownError("the request may be at the mint already")
    for number in range(MOST_TRIES):
        refusal: MintError | None = None
        if number or not sent:
            record = await copies.again(book, record) if sent else record
            try:
                return await _post(book, saga, record)
            except MintUnreachableError as error:
                if not sent:
                    raise await _failed(book, saga, record, error) from None
                record, lost = await copies.answered(book, record, again=True), unknown(error)
                break
            except MintError as error:
                record = await copies.answered(book, record, again=sent)
                refusal, lost = copies.heard(book, record, error), unknown(error)
            except OutcomeUnknownError as error:
                lost = error
        looked = await _look(book, record)
        if looked.done is not None:
            try:
                return await _finish(book, saga, record, looked.done)
            except OutcomeUnknownError as error:
                lost = error
                break
        if looked.spent:
            raise await _failed(book, saga, record, _spent(record), looked.spent)
        if refusal is not None and (refusal.code not in OUTDATED or number == MOST_TRIES - 1):
            raise await _failed(book, saga, record, refusal)
        if refusal is not None:
            record = await _plan_again(book, saga, record, refusal)
            if record.operation.state.final:  # from what is in the file now, there is no request
                return record
        sent = refusal is None
    await book.doubt(record, lost)
    raise lost


async def _post(book: Book, saga: Swapping, record: Record) -> Record:
    inputs, outputs = codec.proofs_of(record.body, "inputs"), codec.outputs_of(record.body)
    messages = [made.message for made in outputs]
    signatures = await book.api(record.operation.mint).swap(inputs, messages)
    return await _finish(book, saga, record, signatures)


async def _finish(
    book: Book, saga: Swapping, record: Record, signatures: Sequence[BlindSignature]
) -> Record:
    mint, outputs = record.operation.mint, codec.outputs_of(record.body)
    proofs = await unblinding.finish(book, mint, outputs, signatures)
    return await book.store.write(
        "finish", lambda tables: _written(tables, saga.finish(book, tables, record, proofs))
    )


async def _look(book: Book, record: Record) -> _Looked:
    """Asks what became of it.

    Raises:
        OutcomeUnknownError: the mint is silent, or the inputs are in a payment under way.
    """
    inputs, outputs = codec.proofs_of(record.body, "inputs"), codec.outputs_of(record.body)
    async with book.doubting(record):
        looked = await _states(book, record.operation.mint, inputs, outputs)
        if len(looked.spent) == len(inputs) and copies.may_come(book, record):
            raise OutcomeUnknownError(
                f"mint {record.operation.mint} took the inputs, and does not know for what",
                hint="Run `recover` later.",
            )
        return looked


async def _states(
    book: Book, mint: str, inputs: Sequence[Proof], outputs: Sequence[Output]
) -> _Looked:
    states = await book.api(mint).check([curve.y_of(proof.secret) for proof in inputs])
    if ProofState.PENDING in states:
        raise OutcomeUnknownError(
            f"the inputs are in a request under way at mint {mint}",
            hint="Run `recover` later.",
        )
    pairs = zip(inputs, states, strict=True)
    spent = tuple(proof for proof, state in pairs if state == ProofState.SPENT)
    if len(spent) < len(inputs):
        return _Looked(spent=spent)
    done = await restoring.signed(book, mint, outputs)
    return _Looked(done=done) if done else _Looked(spent=spent)


async def _failed(
    book: Book,
    saga: Swapping,
    record: Record,
    error: WalletError,
    spent: Sequence[Proof] = (),
) -> WalletError:
    """Writes that it failed; returns the error for the caller to raise."""
    over = book.changed(record, state=State.FAILED, fee=0, error=error.message)

    def work(tables: Tables) -> None:
        saga.fail(book, tables, record, spent)
        tables.operations.update(over)

    await book.store.write("fail", work)
    return error


async def _plan_again(book: Book, saga: Swapping, record: Record, refusal: MintError) -> Record:
    """The same wish as another request: the mint's keysets or fees changed, and it said no.

    Raises:
        WalletError: there is no such plan any more; the operation is failed.
    """
    try:
        snapshot = await looked_anew(book, record, refusal)

        def work(tables: Tables) -> Record:
            tables.proofs.release(record.key)
            return _written(tables, _planned(book, saga, tables, record, snapshot))

        return await book.store.write("reserve", work)
    except WalletError as error:
        raise await _failed(book, saga, record, error) from None


def _planned(book: Book, saga: Swapping, tables: Tables, record: Record, now: Snapshot) -> Record:
    planned = saga.plan(book, tables, record, now)
    return planned if planned.operation.state.final else copies.first(book, planned)


def _written(tables: Tables, record: Record) -> Record:
    tables.operations.update(record)
    return record


def _spent(record: Record) -> WalletError:
    if record.operation.kind in (Kind.SEND, Kind.CONSOLIDATE):
        return spent_elsewhere()
    return AlreadySpentError("the token was redeemed before")
