"""The wallet's encrypted file: proofs, counters and the journal of operations, with one writer."""

from wallet.store import codec, selection
from wallet.store.database import Probe
from wallet.store.keysets import MintRow
from wallet.store.proofs import Hold
from wallet.store.records import (
    Coin,
    Held,
    Kind,
    MintRecord,
    Operation,
    Outbox,
    Record,
    State,
)
from wallet.store.schema import is_made
from wallet.store.selection import Change
from wallet.store.store import Store, Tables

__all__ = [
    "Change",
    "Coin",
    "Held",
    "Hold",
    "Kind",
    "MintRecord",
    "MintRow",
    "Operation",
    "Outbox",
    "Probe",
    "Record",
    "State",
    "Store",
    "Tables",
    "codec",
    "is_made",
    "selection",
]
