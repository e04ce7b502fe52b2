"""The shapes the wallet's routes answer in. Amounts are whole sat; times seconds since 1970."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class MintReply(TypedDict):
    """A mint of the wallet: whether it is paid from, and whether its tokens are taken. `more` only
    where it is true: a mint that was added may have more of the seed's ecash; restore goes on."""

    url: str
    name: str
    spend: bool
    accept: bool
    units: list[str]
    balance_sat: int
    over_cap: bool
    more: NotRequired[bool]


class OperationReply(TypedDict):
    """One line of the wallet's history; it never holds a secret.

    `state` is prepared, pending, done or failed; `outbox` says of a token that was made whether it
    is open, delivered or reclaimed. An amount may be in msat: `unit`. `of` names the operation
    that it is a part of, or takes back; empty where it stands for itself.
    """

    id: str
    kind: str
    state: str
    mint: str
    unit: str
    amount: int
    fee: int
    at: int
    updated: int
    outbox: str
    error: str
    of: str


class WalletReply(TypedDict):
    """The wallet at a glance. `state`: none, locked, open, stale (out of an archive) or broken."""

    state: str
    problem: str
    hint: str
    balance_sat: int
    pending: int
    mints: list[MintReply]
    nwc: str


class BillReply(TypedDict):
    """What a payment comes to before it is made; not `fee_bounded`: a connected wallet pays it, and
    only that bounds its fees."""

    kind: str
    destination: str
    amount_sat: int
    most_fee_sat: int
    description: str
    fee_bounded: bool


class PaidReply(TypedDict):
    """A payment that was made; `run` is where the log has it. `proven` only where it is false: an
    invoice is said to be paid, and no preimage was shown."""

    run: str
    paid_sat: int
    fee_sat: int
    to: str
    mint: str
    operation: str
    proven: NotRequired[bool]


class TokenReply(PaidReply):
    """A token that was made: whoever has it can redeem it."""

    token: str


class InvoiceReply(TypedDict):
    """An invoice that pays this wallet."""

    operation: str
    invoice: str
    amount_sat: int
    mint: str
    expires: int | None


class RequestReply(TypedDict):
    """A payment request (NUT-18) that pays this wallet."""

    request: str
    amount_sat: int | None
    mints: list[str]


class ReceivedReply(TypedDict):
    """What a token brought. Not `verified`: a mint's signature could not be checked offline."""

    operation: str
    received_sat: int
    fee_sat: int
    mint: str
    memo: str
    verified: bool
    over_cap: bool


class RestoredReply(TypedDict):
    """What the seed brought back from one mint; `problem` where it could not be asked."""

    mint: str
    found_sat: int
    proofs: int
    problem: str


class ReportReply(TypedDict):
    """What a check of file and mints found."""

    ok: bool
    proofs: int
    damage: list[str]
    spent_elsewhere: int
    back: int
    unreachable: list[str]
