"""The words of the protocol, as values: the wallet's seams are written in these.

Amounts are whole numbers of the keyset's unit, always `int`. Points are 33 bytes compressed,
scalars 32 bytes big endian. Names follow the NUTs; `c` and `b` stand for `C`, `B_` and `C_`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

Unit = Literal["sat", "msat"]
MAX_AMOUNT = 2**63 - 1  # the most any amount, or sum of amounts, may be
CLOCK_S = 86_400  # how far a clock, ours or another's, may be off


@dataclass(frozen=True)
class Dleq:
    """A proof that one key made two points (NUT-12). `r` is the blinding factor, on proofs only."""

    e: bytes
    s: bytes
    r: bytes | None = None


@dataclass(frozen=True)
class Proof:
    """Ecash (NUT-00). `secret` is what the mint sees when it is spent: a hex string or a NUT-10
    well-known secret. `ephemeral` is NUT-28's `p2pk_e`."""

    amount: int
    id: str
    secret: str = field(repr=False)
    c: bytes = field(repr=False)
    dleq: Dleq | None = field(default=None, repr=False)
    witness: str | None = field(default=None, repr=False)
    ephemeral: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class BlindedMessage:
    """What the mint is asked to sign (NUT-00 `B_`)."""

    amount: int
    id: str
    b: bytes


@dataclass(frozen=True)
class BlindSignature:
    """The mint's answer (NUT-00 `C_`), with its DLEQ proof where it gives one."""

    amount: int
    id: str
    c: bytes
    dleq: Dleq | None = None


@dataclass(frozen=True)
class Output:
    """A blinded message with what it takes to unblind the answer. Never leaves the wallet."""

    message: BlindedMessage
    secret: str = field(repr=False)
    r: bytes = field(repr=False)
    ephemeral: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class KeysetInfo:
    """What NUT-02 lists of a keyset. `input_fee_ppk`: fee per 1,000 inputs, in the unit."""

    id: str
    unit: str
    active: bool = True
    input_fee_ppk: int = 0
    final_expiry: int | None = None


@dataclass(frozen=True)
class Keyset:
    """A keyset with its public keys by amount; its id was checked against them."""

    info: KeysetInfo
    keys: Mapping[int, bytes]

    @property
    def id(self) -> str:
        """The keyset's whole id, in hex."""
        return self.info.id


@dataclass(frozen=True)
class Token:
    """Proofs of one mint and unit, with a memo (NUT-00 V3 and V4)."""

    mint: str
    unit: str
    proofs: tuple[Proof, ...]
    memo: str | None = None

    @property
    def amount(self) -> int:
        """The sum of the proofs."""
        return sum(proof.amount for proof in self.proofs)


class MintQuoteState(StrEnum):
    """NUT-04/23."""

    UNPAID = "UNPAID"
    PAID = "PAID"
    ISSUED = "ISSUED"


class MeltQuoteState(StrEnum):
    """NUT-05/23."""

    UNPAID = "UNPAID"
    PENDING = "PENDING"
    PAID = "PAID"


class ProofState(StrEnum):
    """NUT-07."""

    UNSPENT = "UNSPENT"
    PENDING = "PENDING"
    SPENT = "SPENT"


@dataclass(frozen=True)
class MintQuote:
    """A promise to issue `amount` once `request` (a bolt11 invoice) is paid."""

    id: str
    request: str
    amount: int
    unit: str
    state: MintQuoteState
    expiry: int | None = None
    pubkey: bytes | None = None


@dataclass(frozen=True)
class MeltQuote:
    """A promise to pay `request` for `amount` plus at most `fee_reserve`. `change` are the mint's
    signatures over the blank outputs that were given with the inputs (NUT-08)."""

    id: str
    request: str
    amount: int
    unit: str
    fee_reserve: int
    state: MeltQuoteState
    expiry: int | None = None
    preimage: str | None = None
    change: tuple[BlindSignature, ...] = ()


@dataclass(frozen=True)
class TransportRequest:
    """One HTTP exchange with a mint: `path` begins with `/v1/`."""

    method: Literal["GET", "POST"]
    path: str
    body: bytes | None = None


@dataclass(frozen=True)
class TransportResponse:
    """Status and bytes; nothing in it is trusted."""

    status: int
    body: bytes


class Transport(Protocol):
    """One mint's HTTP side. Real: httpx; double: `wallet.mint.testing.MemoryMint`."""

    async def send(self, request: TransportRequest) -> TransportResponse:
        """Sends it once.

        Raises:
            MintUnreachableError: nothing was sent.
            OutcomeUnknownError: it may have arrived; the answer did not.
        """
        ...

    async def aclose(self) -> None:
        """Lets go of connections."""
        ...
