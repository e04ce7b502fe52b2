"""Sending: a token for somebody, plain or locked to their key (NUT-00, NUT-11).

A plain token whose amount the wallet has in small change needs no mint at all: one transaction
moves the proofs to the outbox. Anything else is a swap, whose outputs are the payee's and our
change in one sorted list, so that the mint cannot tell them apart. Change is always of the seed;
a locked token's secrets are random, since nobody but the payee could use them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wallet.errors import FeeTooHighError, InsufficientFundsError, RefusedError, UnsupportedError
from wallet.operations import failures, swapping
from wallet.operations.book import Book
from wallet.operations.directory import Snapshot
from wallet.operations.results import Sent
from wallet.protocol import blindkeys, curve, p2pk, tokens
from wallet.protocol import keysets as keyset_rules
from wallet.protocol import outputs as making
from wallet.store import (
    Coin,
    Hold,
    Kind,
    Outbox,
    Record,
    State,
    Tables,
    codec,
    selection,
)
from wallet.types import MAX_AMOUNT, Keyset, Output, Proof, Token, Unit

_MOST_PARTS = 100  # proofs of a token for whose fee room is looked for
_MOST_ALIKE = 64  # proofs of one kind in a token: rather than more, a swap makes few of them
_SOON_S = 86_400  # ecash that expires within a day is not handed to others


class Sending(swapping.Swapping):
    """A swap part of whose outputs are the payee's."""

    def plan(self, book: Book, tables: Tables, record: Record, now: Snapshot) -> Record:
        exact = None if record.body["asked"]["to"] else _exact(book, tables, record, now)
        if exact is not None:
            made = tables.proofs.take(exact, record.key, hold=Hold.SENT)
            face = sum(coin.amount for coin in exact)
            return _done(book, book.changed(record, amount=face), 0, made)
        return self._swap(book, tables, record, now, now.coins(tables))

    def _swap(
        self, book: Book, tables: Tables, record: Record, now: Snapshot, coins: Sequence[Coin]
    ) -> Record:
        asked, most = record.body["asked"], record.body["asked"]["max_fee"]
        parts = parts_for(asked["amount"], now.active, includes_fee=includes_fee(asked))
        face = sum(parts)
        chosen, fee, change = with_change(book, now, coins, face)
        cost = fee + face - asked["amount"]
        if most is not None and cost > most:
            raise FeeTooHighError(
                f"making the token costs {cost} {now.unit}; {most} are allowed",
                hint="Allow a higher `max_fee`, or use another mint.",
            )
        inputs = tables.proofs.take(chosen, record.key, hold=Hold.RESERVED)
        wanted = sorted([(part, True) for part in parts] + [(part, False) for part in change])
        made = self._outputs(book, tables, asked, now.active.id, wanted)
        body = {
            "asked": asked,
            "inputs": codec.from_proofs(inputs),
            "outputs": codec.from_outputs(output for output, _ in made),
            "payee": [of_payee for _, of_payee in made],
        }
        return book.changed(record, state=State.PREPARED, amount=face, fee=fee, body=body)

    def _outputs(
        self,
        book: Book,
        tables: Tables,
        asked: Mapping[str, Any],
        keyset: str,
        wanted: Sequence[tuple[int, bool]],
    ) -> list[tuple[Output, bool]]:
        """Outputs with whether they are the payee's, sorted by amount, as those wanted are."""
        if asked["to"] is None:
            derived = book.derive(tables, keyset, [part for part, _ in wanted])
            return [(output, mine[1]) for output, mine in zip(derived, wanted, strict=True)]
        theirs = [(_locked(book, part, keyset, asked), True) for part, his in wanted if his]
        change = book.derive(tables, keyset, [part for part, his in wanted if not his])
        ours = [(output, False) for output in change]
        return sorted([*theirs, *ours], key=lambda pair: pair[0].message.amount)

    def finish(
        self, book: Book, tables: Tables, record: Record, proofs: tuple[Proof, ...]
    ) -> Record:
        mint, unit = record.operation.mint, record.operation.unit
        payee = [proof for proof, his in zip(proofs, record.body["payee"], strict=True) if his]
        change = [proof for proof, his in zip(proofs, record.body["payee"], strict=True) if not his]
        tables.proofs.spend(record.key)
        tables.proofs.add(mint, unit, change)
        tables.proofs.add(mint, unit, payee, hold=Hold.SENT, operation=record.key)
        return _done(book, record, record.operation.fee, payee)


SENDING = Sending()


async def send(
    book: Book,
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
    """See `Wallet.send`."""
    lock = {"to": to, "locktime": locktime, "refund": refund, "blind": blind}
    asked = _asked(amount, unit=unit, memo=memo, mint=mint, max_fee=max_fee, **lock)
    asked |= {"include_fee": True} if include_fee else {}  # wishes of before have no such name
    named, key = key is not None, key or book.new_key()
    async with book.holding(key):
        record = book.same(key, Kind.SEND, asked) if named else None
        if record is None:
            snapshot = await payer(book, unit, mint)
            if to is not None and not (await book.info(snapshot.mint)).supports(11):
                raise UnsupportedError(
                    f"mint {snapshot.mint} does not lock ecash (NUT-11)",
                    hint="To it, anybody who sees the token could spend it. Use another mint.",
                )
            record = book.begun(key, Kind.SEND, snapshot, amount, asked=asked)
            record = await swapping.start(book, SENDING, record, snapshot)
        elif not record.operation.state.final:
            record = await swapping.settle(book, SENDING, record)
        failures.raise_again(record)
        return sent(book, record)


def sent(book: Book, record: Record) -> Sent:
    """The token of a send that is done; empty once its proofs were redeemed."""
    operation = record.operation
    proofs = record.made
    if not proofs and operation.outbox == Outbox.OPEN:
        proofs = book.held(record.key)
    proofs = tuple(sorted(proofs, key=lambda proof: (proof.amount, proof.secret)))
    asked, text = record.body["asked"], ""
    if operation.outbox == Outbox.OPEN and proofs:
        text = tokens.encode(Token(operation.mint, operation.unit, proofs, asked["memo"]))
    amount, included = asked["amount"], operation.amount - asked["amount"]
    return Sent(record.key, text, amount, operation.fee, operation.unit, operation.mint, included)


def is_done(record: Record) -> bool:
    """Whether this is a send whose token was made."""
    return record.operation.kind == Kind.SEND and record.operation.state == State.DONE


async def payer(book: Book, unit: Unit, mint: str | None) -> Snapshot:
    """The mint that pays: the one named, else that with most of this unit.

    Raises:
        RefusedError: the mint named is not for spending.
        InsufficientFundsError: there is no mint to pay from.
    """
    if mint is not None:
        row = book.mint(mint)
        if not row.spend:
            raise RefusedError(
                f"mint {row.url} is not for spending", hint="Add it again, for spending too."
            )
        return await book.snapshot(row.url, unit)
    urls = [row.url for row in book.mints() if row.spend]
    if not urls:
        raise InsufficientFundsError("this wallet has no mint to pay from", hint="Add one first.")
    if len(urls) > 1:
        free = book.balances()
        urls.sort(key=lambda url: free.get((url, unit), 0), reverse=True)
    return await book.snapshot(urls[0], unit)


def with_change(
    book: Book, now: Snapshot, coins: Sequence[Coin], amount: int
) -> tuple[tuple[Coin, ...], int, tuple[int, ...]]:
    """Inputs that pay `amount`, their fee, and how the change is split.

    Raises:
        InsufficientFundsError: the coins do not cover it.
    """
    missing = book.change.missing(selection.counts(coins), now.active.info)
    spare = sum(part * count for part, count in missing.items())
    chosen = selection.select_inputs(coins, amount, now.infos, spare=spare)
    fee = selection.fee(chosen, now.infos)
    rest = sum(coin.amount for coin in chosen) - fee - amount
    left = selection.counts(coins) - selection.counts(chosen)
    change = book.change.split(rest, left, now.active.info, tuple(now.active.keys))
    return chosen, fee, change


def parts_for(amount: int, keyset: Keyset, *, includes_fee: bool) -> tuple[int, ...]:
    """The proofs that are worth `amount`, or, with the fee, that leave so much to who redeems them.

    Raises:
        UnsupportedError: the keyset's amounts cannot make it up.
    """
    amounts, info = tuple(keyset.keys), keyset.info
    if not includes_fee or not info.input_fee_ppk:
        return keyset_rules.split(amount, amounts)
    least, most = (amount + keyset_rules.fee([info] * count) for count in (1, _MOST_PARTS))
    for face in range(least, most + 1, -(-info.input_fee_ppk // 10_000)):
        parts = keyset_rules.split(face, amounts)
        if face - keyset_rules.fee([info] * len(parts)) >= amount:
            return parts
    raise UnsupportedError(f"no token of this keyset leaves {amount} after its fee")


def lock_of(asked: Mapping[str, Any]) -> p2pk.Lock:
    """The lock that was asked for."""
    refund = tuple(bytes.fromhex(key) for key in asked["refund"])
    return p2pk.Lock((bytes.fromhex(asked["to"]),), locktime=asked["locktime"], refund=refund)


def check_amount(amount: int) -> None:
    """Refuses what is no amount.

    Raises:
        RefusedError: not a whole number from 1 to what the protocol can say.
    """
    if type(amount) is not int or not 0 < amount <= MAX_AMOUNT:
        raise RefusedError(f"{amount!r} is no amount", hint="Amounts are whole numbers above 0.")


def _asked(amount: int, **wish: Any) -> dict[str, Any]:
    """The wish in JSON's words, checked before anything is written."""
    check_amount(amount)
    to, refund = wish["to"], [key.hex() for key in wish["refund"]]
    asked = {**wish, "amount": amount, "to": to.hex() if to else None, "refund": refund}
    if to is not None:
        p2pk.secret(lock_of(asked))
    elif wish["locktime"] is not None or refund or wish["blind"]:
        raise RefusedError(
            "a token that is locked to nobody has no locktime, no refund and no blinded key",
            hint="Name the public key it is for.",
        )
    return asked


def _locked(book: Book, amount: int, keyset: str, asked: Mapping[str, Any]) -> Output:
    """An output for the payee; each with an ephemeral key of its own where keys are blinded."""
    lock, r = lock_of(asked), curve.random_scalar(book.random)
    if not asked["blind"]:
        return making.output(amount, keyset, p2pk.secret(lock, book.random), r)
    ephemeral = curve.random_scalar(book.random)
    secret = p2pk.secret(blindkeys.blind(lock, ephemeral), book.random)
    made = making.output(amount, keyset, secret, r)
    return replace(made, ephemeral=curve.public(ephemeral))


def _exact(book: Book, tables: Tables, record: Record, now: Snapshot) -> tuple[Coin, ...] | None:
    """Coins that sum to the amount, with the fee for redeeming them where that is wanted, if there
    are such."""
    asked = record.body["asked"]
    amount, most = asked["amount"], asked["max_fee"]
    included, tried = 0, set[int]()
    while included not in tried and (most is None or included <= most):
        tried.add(included)
        small = now.coins(tables, most=amount + included, alike=_MOST_ALIKE)
        found = selection.select_exact(_lasting(book, small, now), amount + included, now.infos)
        fee = selection.fee(found or (), now.infos) if includes_fee(asked) else 0
        if found is None or fee == included:
            return found
        included = fee
    return None


def includes_fee(asked: Mapping[str, Any]) -> bool:
    """Whether a token is to hold the fee for redeeming it, too."""
    return bool(asked.get("include_fee"))


def _lasting(book: Book, coins: Sequence[Coin], now: Snapshot) -> list[Coin]:
    limit = book.now() + _SOON_S
    lasting = {
        key for key, info in list(now.infos.items()) if (info.final_expiry or limit) >= limit
    }
    return [coin for coin in coins if coin.keyset in lasting]


def _done(book: Book, record: Record, fee: int, made: Sequence[Proof]) -> Record:
    body = {"asked": record.body["asked"]}
    done = book.changed(record, state=State.DONE, outbox=Outbox.OPEN, fee=fee, error="", body=body)
    return replace(done, made=tuple(made))
