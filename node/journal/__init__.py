"""The signed, Merkle-hashed log; usable alone.

    journal = await Journal.open(folder, origin="example.org/log")
    ref = journal.put_blob(b"...", "prompt")
    (index,) = await journal.append(Draft("run.started", run="r1", blobs=(ref,)))

`docs/journal.md` is the format. `MemoryLog` is the double of `Journal`. To see what becomes of
your own code when the disk fails or the process dies in a commit, open the journal with
`storage=FaultyStorage(Fault.KILL, Boundary.AFTER_SYNC, nth=3)`: at the third time a segment's
sync has returned, before anybody is told, the process gets SIGKILL. Boundaries of a commit, in
order: BEFORE_WRITE, MID_WRITE (half of the bytes are in the file), AFTER_WRITE (not synced),
AFTER_SYNC (durable, not acknowledged). Faults: KILL, EIO, ENOSPC. A new log's first commit, of no
entries, counts as the first; `storage_from(os.environ)` takes the same from
FREEHOLD_JOURNAL_FAULT=kill:after-sync:3.
"""

from node.journal.entry import MAX_ENTRY_BYTES
from node.journal.journal import Journal
from node.journal.memory import MemoryLog
from node.journal.storage import (
    Boundary,
    Fault,
    FaultyStorage,
    FileStorage,
    Storage,
    storage_from,
)
from node.journal.types import BlobRef, Draft, Entry, Log, PolicyVerdict

__all__ = [
    "MAX_ENTRY_BYTES",
    "BlobRef",
    "Boundary",
    "Draft",
    "Entry",
    "Fault",
    "FaultyStorage",
    "FileStorage",
    "Journal",
    "Log",
    "MemoryLog",
    "PolicyVerdict",
    "Storage",
    "storage_from",
]
