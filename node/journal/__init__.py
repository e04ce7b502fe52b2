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

from node.journal.blobaudit import BlobReport, BlobState
from node.journal.entry import MAX_ENTRY_BYTES, entry_json
from node.journal.index import Index
from node.journal.journal import Journal
from node.journal.keys import RELINK, EpochKeys, FolderKeys, MemoryKeys
from node.journal.memory import MemoryLog
from node.journal.naming import LAST, find_run
from node.journal.note import Checkpoint, VerifierKey
from node.journal.offline import OfflineLog
from node.journal.opening import first_key
from node.journal.proof import check_extension, check_proof
from node.journal.query import (
    Difference,
    Filter,
    Reason,
    Spent,
    diff,
    is_denied,
    moment,
    spend,
    why,
)
from node.journal.relink import relink
from node.journal.storage import (
    Boundary,
    Fault,
    FaultyStorage,
    FileStorage,
    Storage,
    storage_from,
)
from node.journal.types import BlobRef, Draft, Entry, Log, PolicyVerdict
from node.journal.verify import Against, AuditReport, Verdict, verify

__all__ = [
    "LAST",
    "MAX_ENTRY_BYTES",
    "RELINK",
    "Against",
    "AuditReport",
    "BlobRef",
    "BlobReport",
    "BlobState",
    "Boundary",
    "Checkpoint",
    "Difference",
    "Draft",
    "Entry",
    "EpochKeys",
    "Fault",
    "FaultyStorage",
    "FileStorage",
    "Filter",
    "FolderKeys",
    "Index",
    "Journal",
    "Log",
    "MemoryKeys",
    "MemoryLog",
    "OfflineLog",
    "PolicyVerdict",
    "Reason",
    "Spent",
    "Storage",
    "Verdict",
    "VerifierKey",
    "check_extension",
    "check_proof",
    "diff",
    "entry_json",
    "find_run",
    "first_key",
    "is_denied",
    "moment",
    "relink",
    "spend",
    "storage_from",
    "verify",
    "why",
]
