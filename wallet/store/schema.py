"""The file's tables. Columns in the clear are what selection, locks and history need; everything
that is money, or tells who was paid, is in a `sealed` column whose associated data are the columns
beside it. A trigger, not a habit, keeps counters from going down (NUT-13: a counter used twice
gives one secret to two proofs).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from wallet.errors import StoreDamagedError, StoreError

VERSION = 2
OLDEST_SQLITE = (3, 37)  # STRICT tables, which older ones take for damage

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE mints (
  url TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  spend INTEGER NOT NULL,
  accept INTEGER NOT NULL,
  listed INTEGER NOT NULL,   -- 1 by the user, 2 by a token alone; 0 once removed: the row stays,
                             -- so that nothing is forgotten
  refreshed INTEGER NOT NULL -- Unix seconds at which its keysets were last asked for
) STRICT, WITHOUT ROWID;

CREATE TABLE keysets (
  id TEXT PRIMARY KEY,
  mint TEXT NOT NULL REFERENCES mints (url),
  unit TEXT NOT NULL,
  active INTEGER NOT NULL,
  input_fee_ppk INTEGER NOT NULL CHECK (input_fee_ppk >= 0),
  final_expiry INTEGER,
  path TEXT NOT NULL UNIQUE, -- what NUT-13 derives secrets by: two keysets must not share it
  keys TEXT,                 -- amount -> point, once asked for
  counter INTEGER NOT NULL DEFAULT 0 CHECK (counter >= 0)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER counters_never_lower BEFORE UPDATE OF counter ON keysets
WHEN NEW.counter < OLD.counter
BEGIN SELECT RAISE(ABORT, 'a counter never goes down'); END;

CREATE TRIGGER counters_never_go BEFORE DELETE ON keysets
BEGIN SELECT RAISE(ABORT, 'a counter is never forgotten'); END;

CREATE TABLE proofs (
  tag BLOB PRIMARY KEY,
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  keyset TEXT NOT NULL REFERENCES keysets (id),
  amount INTEGER NOT NULL CHECK (amount > 0),
  state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
  operation TEXT,            -- who holds it, where it is not free
  sealed BLOB NOT NULL,
  CHECK ((state = 0) = (operation IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX proofs_free ON proofs (mint, unit, amount, keyset) WHERE state = 0;
CREATE INDEX proofs_held ON proofs (operation) WHERE operation IS NOT NULL;

CREATE TABLE operations (
  serial INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  fee INTEGER NOT NULL,
  began INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  outbox TEXT NOT NULL,
  error TEXT NOT NULL,
  parent TEXT NOT NULL,
  sealed BLOB NOT NULL
) STRICT;

CREATE INDEX operations_pending ON operations (serial) WHERE state IN ('prepared', 'pending');
CREATE INDEX operations_out ON operations (serial) WHERE outbox = 'open';

CREATE TABLE seen (tag BLOB PRIMARY KEY, operation TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""

_UNTOLD = """
-- operations that ended, until whoever keeps a log of them has it there
CREATE TABLE untold (operation TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
"""


def prepare(connection: sqlite3.Connection) -> None:
    """Makes the tables in a new file, and refuses a file that is damaged or of another version.

    Raises:
        StoreError: neither new nor one of ours; or this Python's SQLite cannot read one.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(
            f"the wallet's file needs SQLite 3.37, and this Python has {sqlite3.sqlite_version}",
            hint="Run this with a Python that has a newer one; the file is as it was.",
        )
    _pragmas(connection)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        _make(connection, _TABLES + _UNTOLD)
    elif version == 1:
        _make(connection, _UNTOLD)
    elif version != VERSION:
        raise StoreError(
            f"the wallet's file has version {version}; this program reads version {VERSION}",
            hint="Use the version of Freehold that wrote it.",
        )
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreDamagedError(found)


def is_made(path: Path) -> bool:
    """Whether a file holds a wallet, or may. One whose making a full disk or a crash cut off has no
    key's name and no seed, which come in one transaction, and nothing else."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as found:
            if not found.execute("SELECT 1 FROM sqlite_master").fetchone():
                return False
            return bool(found.execute("SELECT 1 FROM meta WHERE name = 'key'").fetchone())
    except sqlite3.Error:
        return path.exists()


def _make(connection: sqlite3.Connection, tables: str) -> None:
    """All of it, or nothing."""
    connection.executescript(f"BEGIN IMMEDIATE; {tables} PRAGMA user_version={VERSION}; COMMIT")


def _pragmas(connection: sqlite3.Connection) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # a commit is on the disk before it is acted on
        "fullfsync = ON",  # macOS's own fsync leaves it in the drive's cache
        "checkpoint_fullfsync = ON",
        "foreign_keys = ON",
        "trusted_schema = OFF",
        "temp_store = MEMORY",
        "cell_size_check = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
