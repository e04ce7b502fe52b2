"""Mints: what they can be asked, and what of their answers is believed.

`wallet.mint.testing.MemoryMint` is the double for tests: a whole mint in memory.
"""

from wallet.mint.client import MintClient
from wallet.mint.http import HttpTransport
from wallet.mint.info import MintInfo
from wallet.mint.limits import Patience
from wallet.mint.urls import mint_url

__all__ = [
    "HttpTransport",
    "MintClient",
    "MintInfo",
    "Patience",
    "mint_url",
]
