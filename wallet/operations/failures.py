"""Errors of operations that several of them tell.

One that failed stays failed: its key, asked for again, gives the same answer.
"""

from __future__ import annotations

from wallet.errors import (
    AlreadySpentError,
    OutcomeUnknownError,
    PaymentFailedError,
    WalletError,
)
from wallet.store import Record, State


def raise_again(record: Record) -> None:
    """Nothing, unless the operation failed.

    Raises:
        PaymentFailedError: it did; what it cost all the same is its fee.
    """
    operation = record.operation
    if operation.state == State.FAILED:
        raise PaymentFailedError(
            f"this {operation.kind.value} failed before: {operation.error}",
            hint="" if operation.fee else "Nothing was paid. Give a new key to try again.",
        )


def unknown(error: WalletError) -> OutcomeUnknownError:
    """An error that leaves open what became of the request."""
    return OutcomeUnknownError(error.message, hint=error.hint)


def spent_elsewhere() -> AlreadySpentError:
    """For inputs of this wallet that the mint took for something else."""
    return AlreadySpentError(
        "this wallet's proofs were spent elsewhere",
        hint="Is a copy of this wallet in use? Only one may be.",
    )
