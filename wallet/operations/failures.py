"""An operation that failed stays failed: its key, asked for again, gives the same answer."""

from __future__ import annotations

from wallet.errors import PaymentFailedError
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
