"""The wallet's one error tree.

Each says what happened (`message`, with the name of the mint, quote, keyset or token's part) and
what to do next (`hint`). No message ever holds a secret, a token, a seed or a key. What separates
the branches is what became of the money: nothing left (`RefusedError` and its kin), nobody knows
yet (`OutcomeUnknownError`: the operation stays pending and is settled later, never guessed).
"""

from __future__ import annotations


class WalletError(Exception):
    """Something went wrong that the caller can act on.

    Args:
        message: what happened.
        hint: what to do next, as a sentence.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# ── what came from outside is not what it must be ───────────────────────────────────────────


class ParseError(WalletError):
    """A token, payment request, invoice, address or connection string cannot be read."""


class UnsupportedError(WalletError):
    """It is well formed, and this wallet (or that mint) does not do it: BOLT12, on-chain, ..."""


class VerificationError(WalletError):
    """Cryptography says no: a wrong DLEQ proof, keyset id, signature or blind signature."""


class UnverifiedError(VerificationError):
    """A proof carries no DLEQ, so it cannot be told that its mint signed it."""


# ── the wallet's own rules and state ────────────────────────────────────────────────────────


class RefusedError(WalletError):
    """The wallet's rules say no; nothing was sent."""


class UntrustedMintError(RefusedError):
    """The mint is not among those this wallet uses or accepts."""


class BalanceCapError(RefusedError):
    """The mint would hold more of this wallet's money than the cap allows."""


class InsufficientFundsError(RefusedError):
    """The spendable balance does not cover the amount and its fees."""


class FeeTooHighError(RefusedError):
    """Fees would be above what the caller allowed."""


class AlreadySpentError(RefusedError):
    """The token was redeemed before, by this wallet or by another."""


class StoreError(WalletError):
    """The wallet's file cannot be read or written, or its key does not open it."""


class StoreDamagedError(StoreError):
    """What is in the wallet's file is not what was written there; says what."""

    HINT = (
        "Restore the last backup, then run `restore`. Or move the file away: `words` brings the "
        "money back from its seed."
    )

    def __init__(self, what: str) -> None:
        super().__init__(f"the wallet's file is damaged: {what}", hint=self.HINT)


class WalletBusyError(StoreError):
    """Another process holds the wallet's file."""


# ── mints and the Lightning network ─────────────────────────────────────────────────────────


class MintError(WalletError):
    """The mint answered with an error: it did not do what was asked (NUT-00 `code` and `detail`).

    `code` is the number of `error_codes.md`, or 0 where the mint gave none.
    """

    def __init__(self, message: str, *, code: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class MintUnreachableError(WalletError):
    """No connection could be made: the mint surely received nothing."""


class OutcomeUnknownError(WalletError):
    """The request may have been acted on and its answer is missing or senseless.

    Lost connections, time-outs, 5xx and answers that cannot be parsed end here. The operation
    stays pending; `Wallet.recover` settles it.
    """


class MintMisbehavedError(OutcomeUnknownError):
    """The mint's answer breaks the protocol (wrong amounts, signatures, keysets, counts)."""


class PaymentFailedError(WalletError):
    """The payment surely did not happen; the inputs are spendable again."""


# ── payees and their servers ────────────────────────────────────────────────────────────────


class UnreachableError(WalletError):
    """A server that is no mint (a payee's, a Lightning address's) surely received nothing."""


class PayeeError(WalletError):
    """The payee's server says no, or answers what cannot be used; nothing was paid."""


# ── relays of Nostr ─────────────────────────────────────────────────────────────────────────


class RelayError(WalletError):
    """A relay cannot be reached, or refuses: it surely did not pass on what it was given."""


class RelayLostError(OutcomeUnknownError):
    """Something was sent through a relay and nobody answered: it may have arrived all the same."""
