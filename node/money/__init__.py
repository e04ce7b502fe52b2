"""The node's wallet: one purse, opened under a key of the home, for runs and for the owner.

`wallet/` knows nothing of nodes; this room is where the two meet. It knows nothing of runs. What
needs the wallet's own modules is imported when it is first used: a command line has no need of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.lazy import lazily
from node.money.types import BEARER, Bill, Found, Payment, Purse

if TYPE_CHECKING:
    from node.money.billing import FeeRule
    from node.money.keeper import Keeper
    from node.money.key import KEY_LOST, WalletKey
    from node.money.purse import WalletPurse, got_sat, in_sat
    from node.money.translate import translated

__all__ = [
    "BEARER",
    "KEY_LOST",
    "Bill",
    "FeeRule",
    "Found",
    "Keeper",
    "Payment",
    "Purse",
    "WalletKey",
    "WalletPurse",
    "got_sat",
    "in_sat",
    "translated",
]

__getattr__ = lazily(
    __name__,
    {
        "billing": "FeeRule",
        "keeper": "Keeper",
        "key": "KEY_LOST WalletKey",
        "purse": "WalletPurse got_sat in_sat",
        "translate": "translated",
    },
)
