"""The wallet, as its users see it: one class, whose methods are the sagas of `wallet.operations`.

Everything that moves money takes a `key`: the same key is the same operation, whatever happened
in between, so that nothing is ever paid twice. Reads are immediate; whatever talks to a mint is
awaited.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from wallet.errors import UnsupportedError
from wallet.operations.results import (
    Invoice,
    Payment,
    Received,
    Report,
    Restored,
    Rules,
    Sent,
)
from wallet.store.records import MintRecord, Operation
from wallet.types import MintApi, Unit


def _later(what: str) -> UnsupportedError:
    return UnsupportedError(f"{what} is not in this wallet yet")


class Wallet:
    """Ecash at the mints its owner chose, in one encrypted file with one writer."""

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        key: bytes,
        words: str | None = None,
        connect: Callable[[str], MintApi] | None = None,
        rules: Rules = Rules(),
        now: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> Wallet:
        """Opens, or makes, the wallet at `path`. `key`: 32 bytes that seal it. `words`: the seed
        of a new wallet; None makes one.

        Raises:
            WalletBusyError: another process holds it.
            StoreError: wrong key, or a damaged file.
        """
        raise _later("opening")

    async def aclose(self) -> None:
        """Finishes what is being written, and lets go of file and connections."""
        raise _later("closing")

    def words(self) -> str:
        """The seed's words, for a backup on paper. Never log them."""
        raise _later("words")

    async def add_mint(self, url: str, *, spend: bool = True, accept: bool = True) -> MintRecord:
        """Adds a mint, or changes what an added one may be used for."""
        raise _later("add_mint")

    async def remove_mint(self, url: str, *, force: bool = False) -> None:
        """Removes a mint; refused while it holds money, unless forced."""
        raise _later("remove_mint")

    def mints(self) -> tuple[MintRecord, ...]:
        """The mints, with what they hold."""
        raise _later("mints")

    def balance(self, unit: Unit = "sat") -> int:
        """What can be spent now, at all mints."""
        raise _later("balance")

    async def request_invoice(
        self, amount: int, *, mint: str | None = None, unit: Unit = "sat", key: str | None = None
    ) -> Invoice:
        """Asks a mint for an invoice that pays this wallet."""
        raise _later("request_invoice")

    async def claim_invoice(self, operation: str, *, wait: float = 0) -> Operation:
        """Mints the ecash of a paid invoice, waiting up to `wait` seconds for the payment."""
        raise _later("claim_invoice")

    async def receive(
        self,
        token: str,
        *,
        allow_unverified: bool = False,
        private_keys: Sequence[bytes] = (),
        preimage: bytes | None = None,
        key: str | None = None,
    ) -> Received:
        """Redeems a token."""
        raise _later("receive")

    async def send(
        self,
        amount: int,
        *,
        to: bytes | None = None,
        mint: str | None = None,
        unit: Unit = "sat",
        memo: str | None = None,
        locktime: int | None = None,
        refund: Sequence[bytes] = (),
        key: str | None = None,
    ) -> Sent:
        """Makes a token of exactly `amount`, locked to the public key `to` where one is given."""
        raise _later("send")

    async def reclaim(self, operation: str) -> Operation:
        """Takes back a token that was sent and not redeemed."""
        raise _later("reclaim")

    async def refresh_outbox(self) -> tuple[Operation, ...]:
        """Asks which sent tokens were redeemed; returns the sends that are delivered now."""
        raise _later("refresh_outbox")

    async def pay_invoice(
        self,
        bolt11: str,
        *,
        amount_msat: int | None = None,
        max_fee: int | None = None,
        mint: str | None = None,
        key: str | None = None,
    ) -> Payment:
        """Pays a Lightning invoice."""
        raise _later("pay_invoice")

    async def consolidate(self, mint: str) -> Operation:
        """Swaps many small or old proofs for few new ones."""
        raise _later("consolidate")

    async def recover(self) -> tuple[Operation, ...]:
        """Settles what is pending; returns the operations that are final now."""
        raise _later("recover")

    def operation(self, key: str) -> Operation | None:
        """The operation of this key."""
        raise _later("operation")

    def pending(self) -> tuple[Operation, ...]:
        """Operations that are not final, oldest first."""
        raise _later("pending")

    def history(self, limit: int = 100, before: int | None = None) -> tuple[Operation, ...]:
        """Operations, newest first; `before`: only those that began before this Unix second."""
        raise _later("history")

    async def restore(self, mint: str) -> Restored:
        """Brings back what the seed has at a mint (NUT-09, NUT-13)."""
        raise _later("restore")

    async def check(self) -> Report:
        """Compares file and mints."""
        raise _later("check")
