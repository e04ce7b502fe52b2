"""Nostr Wallet Connect (NIP-47), and the parts of Nostr it stands on (NIP-01, NIP-44, BIP-340).

`keys`, `events`, `nip44`, `giftwrap`, `relay`, `subscription` and `websocket` know nothing of
wallets; `connection`, `messages` and `client` are NIP-47; `source` is a funding source for this
wallet. Doubles: `memory.MemoryRelay` and `testing.MemoryService`.
"""

from wallet.nwc.client import NwcClient
from wallet.nwc.connection import Connection
from wallet.nwc.events import Event, Filter
from wallet.nwc.keys import SecretKey
from wallet.nwc.relay import Dial, Relay
from wallet.nwc.source import NwcSource
from wallet.nwc.websocket import dial, dial_public

__all__ = [
    "Connection",
    "Dial",
    "Event",
    "Filter",
    "NwcClient",
    "NwcSource",
    "Relay",
    "SecretKey",
    "dial",
    "dial_public",
]
