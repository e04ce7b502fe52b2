"""Paying a Lightning invoice by a mint (NUT-05, NUT-08, NUT-23).

The inputs cover amount, fee reserve and input fees; what the payment did not cost comes back over
blank outputs. A payment is done when the mint says PAID, failed only when the quote is unpaid, its
inputs are unspent and the mint refused these very bytes, and pending otherwise: then the quote's
state is asked again, later. A request that may have been lost is repeated as it was, since a quote
is paid at most once; it is never replaced by another.

What comes of one that was made is `melted`'s. What was paid once is never sent again, nor told as
failed, should the mint's books go back to before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wallet import codes
from wallet.errors import (
    FeeTooHighError,
    InsufficientFundsError,
    MintError,
    MintUnreachableError,
    OutcomeUnknownError,
    PaymentFailedError,
    WalletError,
)
from wallet.operations import bills, copies, melted
from wallet.operations.bills import Bill
from wallet.operations.book import Book
from wallet.operations.directory import Snapshot
from wallet.operations.failures import spent_elsewhere, unknown
from wallet.operations.replanning import MOST_TRIES, OUTDATED, looked_anew
from wallet.protocol import curve
from wallet.protocol import outputs as making
from wallet.store import Coin, Hold, Kind, Record, State, Tables, codec, selection
from wallet.types import MeltQuote, MeltQuoteState, Proof, ProofState, Unit

# ── a new payment ───────────────────────────────────────────────────────────────────────────


async def planned(
    book: Book, key: str, snapshot: Snapshot, bill: Bill, told: MeltQuote, **body: Any
) -> Record:
    """The operation, not yet in the file; `reserve` puts it there."""
    exact = not (await book.info(snapshot.mint)).supports(8)
    kept = {"id": told.id, "amount": told.amount, "reserve": told.fee_reserve}
    proof = bill.invoice.payment_hash.hex()
    return book.begun(
        key, Kind.MELT, snapshot, told.amount, quote=kept, hash=proof, exact=exact, **body
    )


def reserve(book: Book, tables: Tables, record: Record, snapshot: Snapshot) -> Record:
    """Inside a transaction: inputs and blanks for a planned payment, and the operation's row.

    Raises:
        RefusedError: another operation paid the invoice, or may have.
        InsufficientFundsError: the mint's proofs do not cover amount, reserve and fees.
    """
    bills.hold(tables, record.body["hash"], record.operation.parent or record.key)
    ready = _plan(book, tables, record, snapshot)
    tables.operations.insert(ready)
    return ready


async def pay(book: Book, record: Record) -> Record:
    """Sends a reserved payment for the first time. Raises as `settle`."""
    with book.under_way(record.operation.mint, record.operation.unit):
        return await _drive(book, record, sent=False)


async def first(book: Book, record: Record, snapshot: Snapshot) -> Record:
    """Reserves and pays. Raises as `reserve` and `settle`."""
    async with book.at_work(snapshot.mint):
        ready = await book.reserve(
            snapshot.mint, snapshot.unit, lambda tables: reserve(book, tables, record, snapshot)
        )
        return await pay(book, ready)


async def settle(book: Book, record: Record) -> Record:
    """Brings a payment of before to its end, as far as can be known.

    Returns it pending where the mint says that it is under way.

    Raises:
        OutcomeUnknownError: the mint is silent; it stays pending.
        WalletError: it surely was not paid, and is failed.
    """
    operation = record.operation
    async with book.at_work(operation.mint):
        with book.under_way(operation.mint, operation.unit):
            return await _drive(book, record, sent=True)


# ── the request ─────────────────────────────────────────────────────────────────────────────


def _plan(book: Book, tables: Tables, record: Record, now: Snapshot) -> Record:
    told, coins = record.body["quote"], now.coins(tables)
    need = told["amount"] + told["reserve"]
    chosen = _inputs(coins, need, now, exact=record.body["exact"])
    inputs = tables.proofs.take(chosen, record.key, hold=Hold.RESERVED)
    fee = selection.fee(chosen, now.infos)
    check_fee(record.body["asked"], fee + told["reserve"], now.unit)
    most_back = sum(coin.amount for coin in chosen) - fee - told["amount"]
    count = 0 if record.body["exact"] else making.blank_count(most_back)
    blanks = book.derive(tables, now.active.id, [1] * count)
    body = {
        **record.body,
        "inputs": codec.from_proofs(inputs),
        "outputs": codec.from_outputs(blanks),
        "input_fee": fee,
    }
    ready = book.changed(record, state=State.PREPARED, fee=fee + told["reserve"], body=body)
    return copies.first(book, ready)


def check_fee(asked: Mapping[str, Any], fee: int, unit: Unit) -> None:
    """Holds all that a payment may cost on top against what its caller allowed.

    Raises:
        FeeTooHighError: it is more.
    """
    most_sat = asked.get("max_fee")
    if most_sat is not None and fee > most_sat * (1000 if unit == "msat" else 1):
        raise FeeTooHighError(
            f"Lightning and the mint may take {fee} {unit}; {most_sat} sat are allowed",
            hint="Allow a higher `max_fee`, or use another mint.",
        )


def _inputs(coins: list[Coin], need: int, now: Snapshot, *, exact: bool) -> tuple[Coin, ...]:
    """Enough for the payment. A mint that gives no change (no NUT-08) must get the very sum."""
    if not exact:
        return selection.select_inputs(coins, need, now.infos)
    for fee in range(selection.MOST_INPUTS):
        chosen = selection.select_exact(coins, need + fee, now.infos)
        if chosen is not None and selection.fee(chosen, now.infos) == fee:
            return chosen
    raise InsufficientFundsError(
        f"mint {now.mint} gives no change, and {need} cannot be paid exactly from what is here",
        hint="Send the amount to yourself first, or use another mint.",
    )


async def _drive(book: Book, record: Record, *, sent: bool) -> Record:
    if melted.owes_change(record):
        return await _owed(book, record)
    lost = OutcomeUnknownError("the payment may be at the mint already")
    for number in range(MOST_TRIES):
        refusal: MintError | None = None
        if number or not sent:
            record = await copies.again(book, record) if sent else record
            try:
                return await _posted(book, record, again=sent)
            except MintUnreachableError as error:
                if not sent:
                    raise await _failed(book, record, error) from None
                record, lost = await copies.answered(book, record, again=True), unknown(error)
                break
            except MintError as error:
                record = await copies.answered(book, record, again=sent)
                refusal, lost = copies.heard(book, record, error), unknown(error)
            except OutcomeUnknownError as error:
                lost = error
        looked = await _look(book, record, refusal)
        if isinstance(looked, Record):
            return looked
        if looked:
            raise await _failed(book, record, spent_elsewhere(), looked)
        if refusal is not None and (refusal.code not in OUTDATED or number == MOST_TRIES - 1):
            raise await _failed(book, record, _refused(refusal))
        if refusal is not None:
            record = await _plan_again(book, record, refusal)
        sent = refusal is None
    await book.doubt(record, lost)
    raise lost


async def _posted(book: Book, record: Record, *, again: bool) -> Record:
    inputs, blanks = codec.proofs_of(record.body, "inputs"), codec.outputs_of(record.body)
    api, messages = book.api(record.operation.mint), [made.message for made in blanks]
    told = await api.melt(record.body["quote"]["id"], inputs, messages)
    if again and told.state == MeltQuoteState.PENDING:  # or was it, and the reply was kept? NUT-19
        told = await api.melt_quote(record.body["quote"]["id"])
    if told.state == MeltQuoteState.UNPAID:
        raise MintError("the mint did not pay it", code=codes.PAYMENT_FAILED)
    if told.state == MeltQuoteState.PENDING:
        record = await copies.answered(book, record, again=again)
    return await _told(book, record, told)


async def _look(
    book: Book, record: Record, refusal: MintError | None
) -> Record | tuple[Proof, ...]:
    """Asks what became of the payment: the record if it is known, else the inputs that are spent.

    None spent means that it was not paid, and can only be paid by these bytes. Mints may forget
    quotes that were not paid in time, so where one tells nothing of it the inputs do.

    Raises:
        OutcomeUnknownError: the mint is silent, or contradicts itself.
    """
    api, inputs = book.api(record.operation.mint), codec.proofs_of(record.body, "inputs")
    async with book.doubting(record):
        told = await _quote(book, record)
        if isinstance(told, MeltQuote) and told.state != MeltQuoteState.UNPAID:
            return await _told(book, record if _is_told(record) else copies.landed(record), told)
        states = await api.check([curve.y_of(proof.secret) for proof in inputs])
        pairs = zip(inputs, states, strict=True)
        spent = tuple(proof for proof, state in pairs if state == ProofState.SPENT)
        if isinstance(told, MintError) and (ProofState.PENDING in states or spent):
            raise told
        if ProofState.PENDING in states or (spent and refusal is None):
            raise OutcomeUnknownError(
                f"mint {record.operation.mint} holds the proofs of a payment it calls unpaid",
                hint="Run `recover` later.",
            )
        return spent


async def _quote(book: Book, record: Record) -> MeltQuote | MintError:
    """The quote, or what the mint says instead."""
    try:
        return await book.api(record.operation.mint).melt_quote(record.body["quote"]["id"])
    except MintError as error:
        return error


async def _owed(book: Book, record: Record) -> Record:
    """Asks once more for the change of what was paid."""
    try:
        told = await book.api(record.operation.mint).melt_quote(record.body["quote"]["id"])
    except WalletError:
        return record
    return await melted.finish(book, record, told) if told.state == MeltQuoteState.PAID else record


async def _told(book: Book, record: Record, told: MeltQuote) -> Record:
    """The mint says that it is paid, or under way."""
    if told.state == MeltQuoteState.PENDING:
        if _is_told(record):
            return record
        return await book.keep(book.changed(record, state=State.PENDING, error=""), "pending")
    return await melted.finish(book, record, told)


def _is_told(record: Record) -> bool:
    """Whether the mint said last that it is at it."""
    return record.operation.state == State.PENDING and not record.operation.error


async def _failed(
    book: Book, record: Record, error: WalletError, spent: Sequence[Proof] = ()
) -> WalletError:
    """Writes that it failed, and lets go of the inputs; returns the error to raise."""
    over = book.changed(record, state=State.FAILED, fee=0, error=error.message)

    def work(tables: Tables) -> None:
        tags = [tables.vault.tag(proof.secret) for proof in spent]
        tables.proofs.set_aside(tags, record.key, hold=Hold.RESERVED)
        tables.proofs.release(record.key)
        tables.operations.forget(record.key)
        tables.operations.update(over)

    await book.store.write("fail", work)
    return error


async def _plan_again(book: Book, record: Record, refusal: MintError) -> Record:
    """Other inputs and blanks for the same quote: the mint's keysets or fees changed."""
    operation = record.operation
    try:
        snapshot = await looked_anew(book, record, refusal)

        def work(tables: Tables) -> Record:
            tables.proofs.release(record.key)
            planned = _plan(book, tables, record, snapshot)
            if "part" in record.body["asked"] and planned.operation.fee > operation.fee:
                raise FeeTooHighError(
                    f"mint {operation.mint} takes more now than its part may cost",
                    hint="Pay again: the parts are chosen anew, or raise `max_fee`.",
                )
            tables.operations.update(planned)
            return planned

        return await book.store.write("reserve", work)
    except WalletError as error:
        raise await _failed(book, record, error) from None


def _refused(refusal: MintError) -> WalletError:
    return PaymentFailedError(
        f"the payment failed: {refusal.message}",
        hint=refusal.hint or "Nothing was paid; the ecash is spendable again.",
    )
