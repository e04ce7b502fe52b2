"""The node's wallet: one purse, opened under a key of the home, for runs and for the owner.

`wallet/` knows nothing of nodes; this room is where the two meet. It knows nothing of runs. What
needs the wallet's own modules is imported when it is first used: a command line has no need of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from node.money.types import BEARER, Bill, Found, Payment, Purse

if TYPE_CHECKING:
    from node.money.billing import FeeRule
    from node.money.keeper import Keeper
    from node.money.key import WalletKey
    from node.money.purse import WalletPurse, as_found, in_sat
    from node.money.translate import translated

__all__ = [
    "BEARER",
    "Bill",
    "FeeRule",
    "Found",
    "Keeper",
    "Payment",
    "Purse",
    "WalletKey",
    "WalletPurse",
    "as_found",
    "in_sat",
    "translated",
]

_HOMES = {
    "FeeRule": "billing",
    "Keeper": "keeper",
    "WalletKey": "key",
    "WalletPurse": "purse",
    "as_found": "purse",
    "in_sat": "purse",
    "translated": "translate",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
