"""What a payment is to the node: what is asked for, what it comes to, what became of it.

Amounts are whole satoshis. A purse never guesses: what is under way stays `pending` until the mint
or the Lightning network said how it ended, and one key is one payment, however often it is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Protocol

from node.types import Json, JsonObject

Kind = Literal["invoice", "address", "request", "peer", "paywall", "bearer"]
NWC = "nwc"  # in a mint's place: the owner's other wallet pays
BEARER = "bearer"  # pays whoever holds the token; an owner's own send, never an agent's
ALL_SATS = 21_000_000 * 100_000_000  # that there will ever be


def stale_mark(wallet: Path) -> Path:
    """What lies beside a wallet's file that came out of an archive, until its mints were asked."""
    return wallet.with_name(f"{wallet.name}.restored")


@dataclass(frozen=True)
class Payment:
    """What is asked for.

    Args:
        to: a Lightning invoice or address, a payment request (NUT-18, NUT-26), a public key, or
            `bearer`.
        amount_sat: where `to` has none.
        memo: goes to the payee with a token, or as the comment of a Lightning address.
        mint: the one that is to pay, or `nwc`, the owner's other wallet; empty leaves that to
            the wallet.
        url: of the resource that `to`, the request of an HTTP 402, is the price of.
        include_fee: a token holds the mint's fee of redeeming it on top; for a key or `bearer`,
            since what a payment request asks for is always whole.
    """

    to: str
    amount_sat: int | None = None
    memo: str = ""
    mint: str = ""
    url: str = ""
    include_fee: bool = False

    def to_json(self) -> JsonObject:
        """The fields that hold something."""
        return {name: value for name, value in vars(self).items() if value not in ("", None, False)}

    @classmethod
    def from_json(cls, data: JsonObject) -> Payment:
        """From what `to_json` wrote; anything else is left out."""
        texts = {name: str(data.get(name, "")) for name in _TEXTS}
        amount, fee = _whole(data.get("amount_sat")), data.get("include_fee") is True
        return cls(**texts, amount_sat=amount, include_fee=fee)


_TEXTS = tuple(
    each.name for each in fields(Payment) if each.name not in ("amount_sat", "include_fee")
)


def _whole(value: Json) -> int | None:
    """A whole number; 5.0 is one to a schema, and must not be left out here."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Bill:
    """What a payment comes to, before anything moves.

    `destination` is what policy and the log call the payee: `lightning:NODE`, `NAME@HOST`,
    `cashu:PUBKEY`, `nostr:PUBKEY`, a URL, or `bearer`. `most_fee_sat` is the most that mints and
    Lightning may take on top. Not `fee_bounded`: another wallet of the owner's pays, and it alone
    bounds what it takes, since NIP-47 has no word for that.
    """

    kind: Kind
    destination: str
    amount_sat: int
    most_fee_sat: int
    description: str = ""
    fee_bounded: bool = True

    @property
    def most_msat(self) -> int:
        """What is reserved for it."""
        return (self.amount_sat + self.most_fee_sat) * 1000


@dataclass(frozen=True)
class Found:
    """What became of a payment, by the key it was made with. `error` says why one failed, which
    may have cost a fee all the same. `proven`: an invoice's preimage was shown, or it is none."""

    key: str
    state: Literal["paid", "pending", "failed"]
    amount_sat: int
    fee_sat: int
    mint: str
    error: str = ""
    proven: bool = True


class Purse(Protocol):
    """Pays. `node.money.purse.WalletPurse` is the real one, `testing.MemoryPurse` its double."""

    def bill(self, payment: Payment, *, late: bool = False) -> Bill:
        """Reads what is asked for; asks nobody. Raises PaymentError where it cannot be paid.

        Args:
            late: also where the time to pay it is over: it was begun before.
        """
        ...

    async def pay(self, payment: Payment, bill: Bill, *, key: str) -> Found:
        """Makes the payment, or says what became of it if there was one of this key.

        Raises:
            MoneyError: it surely did not happen.
            OutcomeUnknownError: it may have.
        """
        ...

    async def found(self, payment: Payment, *, key: str) -> Found | None:
        """What became of the payment of this key, asked anew where that is open; None if none was
        ever begun.

        Raises:
            MoneyError: it cannot be told now.
        """
        ...

    async def token(self, payment: Payment, *, key: str) -> str:
        """The token that such a payment made, for its payee alone.

        Raises:
            MoneyError: there is none, or it does not pay what is asked for.
        """
        ...

    async def take_back(self, key: str) -> Found | None:
        """Takes back a token that nobody redeemed: what came back, and what that cost; None if it
        was redeemed.

        Raises:
            MoneyError: it cannot be taken back, now or ever.
        """
        ...
