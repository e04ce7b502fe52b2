"""What the wallet's operations answer, and the rules they keep. Nothing here holds a secret but
`Sent.token` and `Payment.preimage`, which are for the payee and the payer's proof."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from wallet.types import Unit


@dataclass(frozen=True)
class Rules:
    """What the wallet may do without being asked.

    Args:
        cap_sat: the most it should keep at one mint; more is flagged, and no invoice asks for more.
        swap_foreign: whether a token of an unlisted mint is swapped over Lightning to one of ours.
        small_change: the amounts of which some pieces are kept, so that small payments need no
            swap. `change_pieces` of each, fewer where the mint charges for each input.
        max_fee_percent, max_fee_floor_sat: the Lightning fee allowed where a caller names none:
            the larger of both.
        refresh_s: how long a mint's list of keysets is believed.
        multipath: whether an invoice that no mint can pay alone may be paid by several (NUT-15).
    """

    cap_sat: int = 10_000
    swap_foreign: bool = False
    small_change: tuple[int, ...] = (1, 2, 4, 8, 16)
    change_pieces: int = 8
    max_fee_percent: int = 3
    max_fee_floor_sat: int = 10
    refresh_s: int = 3_600
    multipath: bool = True


@dataclass(frozen=True)
class Invoice:
    """A bolt11 invoice of a mint that pays this wallet. `expires`: Unix seconds, or None."""

    operation: str
    bolt11: str
    amount: int
    unit: Unit
    mint: str
    expires: int | None = None


@dataclass(frozen=True)
class Sent:
    """A token for the payee. `token` is empty once it was seen spent; `fee` is what making it
    cost this wallet. Whoever redeems it pays the mint's input fee: `included` is what the token
    holds for that beyond `amount`, 0 unless it was asked for."""

    operation: str
    token: str = field(repr=False)
    amount: int = 0
    fee: int = 0
    unit: Unit = "sat"
    mint: str = ""
    included: int = 0


@dataclass(frozen=True)
class Received:
    """Ecash that is now this wallet's. `amount` is what was added, `fee` what the mints took.

    `verified`: every proof carried a right DLEQ. `over_cap`: the mint now holds more than the cap.
    """

    operation: str
    amount: int
    fee: int
    unit: Unit
    mint: str
    memo: str = ""
    verified: bool = True
    over_cap: bool = False


@dataclass(frozen=True)
class Payment:
    """A Lightning invoice that was paid, or is on its way. `amount` and `fee` in `unit`; while it
    is pending `fee` is the most it can be. `preimage` (hex) only where it hashes to the invoice."""

    operation: str
    state: Literal["paid", "pending"]
    amount: int
    fee: int
    unit: Unit = "sat"
    mint: str = ""
    preimage: str | None = None


@dataclass(frozen=True)
class Restored:
    """What the seed brought back from one mint, by unit. `more`: the mint knew so many of the
    seed's outputs that it was not asked about all; restore again to go on."""

    mint: str
    found: dict[str, int]
    proofs: int
    spent: int
    more: bool = False


@dataclass(frozen=True)
class Report:
    """What `Wallet.check` found. `ok` where nothing needs a person.

    `spent_elsewhere` and `back` count proofs that the mint says are spent though the wallet did
    not spend them (set aside, no longer in the balance), and proofs that were set aside and are
    spendable again; `unreachable` names mints that could not be asked.
    """

    proofs: int
    damage: tuple[str, ...] = ()
    spent_elsewhere: int = 0
    back: int = 0
    unreachable: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether file and mints agree."""
        return not self.damage and not self.spent_elsewhere
