"""Freehold's wallet: Cashu ecash at the mints its owner chose, and Lightning through them.

It knows nothing of the node and can be used alone:

    async with await Wallet.open(path, key=key) as wallet:
        await wallet.recover()
        await wallet.add_mint("https://mint.example")
        sent = await wallet.send(5)

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wallet.operations.results import (
        Invoice,
        Payment,
        Received,
        Report,
        Restored,
        Rules,
        Sent,
    )
    from wallet.operations.sources import FundingSource, SourcePayment
    from wallet.store.records import Kind, MintRecord, Operation, Outbox, State
    from wallet.wallet import Wallet

_HOMES = {
    "Wallet": "wallet.wallet",
    "FundingSource": "wallet.operations.sources",
    "SourcePayment": "wallet.operations.sources",
    **dict.fromkeys(
        ("Invoice", "Payment", "Received", "Report", "Restored", "Rules", "Sent"),
        "wallet.operations.results",
    ),
    **dict.fromkeys(("Kind", "MintRecord", "Operation", "Outbox", "State"), "wallet.store.records"),
}

__all__ = [
    "FundingSource",
    "Invoice",
    "Kind",
    "MintRecord",
    "Operation",
    "Outbox",
    "Payment",
    "Received",
    "Report",
    "Restored",
    "Rules",
    "Sent",
    "SourcePayment",
    "State",
    "Wallet",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'wallet' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
