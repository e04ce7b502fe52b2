"""The index: a SQLite table over the log, caught up when it is asked and rebuilt when it is wrong.

It holds nothing that is not in the log. Appending does not touch it: what was committed since the
last question is read in before the next is answered. It remembers the hash of the last line it
took in; if the log has another line there, the index is of another log and begins anew.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Lock

from node.errors import JournalReadError
from node.journal.entry import parse
from node.journal.reader import LogReader

_SCHEMA = """
create table if not exists entry (
    i integer primary key, ts integer not null, type text not null,
    run text, path text, agent text, verdict text
) without rowid;
create index if not exists entry_run on entry (run, i) where run is not null;
create index if not exists entry_type on entry (type, i);
create table if not exists taken (one integer primary key check (one = 1), size int, hash blob);
"""
_VERSION = 1
PART = 10_000  # entries
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
    }
)
_LAST_CHARACTER = "\U0010ffff"


class Index:
    """Answers which entries there are, without reading the log through.

    Args:
        path: the database file; deleted and made anew where it cannot be used.
        reader: of the log it is over.
    """

    def __init__(self, path: Path, reader: LogReader) -> None:
        self._path, self._reader = path, reader
        self._lock = Lock()
        self._db: sqlite3.Connection | None = None

    def run(self, run: str) -> list[int]:
        """Indices of a run's entries, in order. Raises JournalError."""
        return self._select("run = ? and i >= ?", [run, self._reader.start], None)

    def find(
        self,
        *,
        types: tuple[str, ...] = (),
        run: str | None = None,
        agent: str | None = None,
        verdict: str | None = None,
        start: int = 0,
        end: int | None = None,
        last: int | None = None,
    ) -> list[int]:
        """Indices of the entries that fit all that is given, in order.

        Args:
            types: any of these types.
            run: of runs whose ids begin so.
            agent, verdict: exactly these.
            start: from this index on.
            end: before this index.
            last: only so many, the newest.
        """
        where = ["i >= ?"]
        values: list[str | int] = [max(start, self._reader.start), *types]
        if types:
            where.append(f"type in ({','.join('?' * len(types))})")
        if run is not None:
            where.append("run >= ? and run < ?")
            values += [run, run + _LAST_CHARACTER]
        for test, value in (("agent =", agent), ("verdict =", verdict), ("i <", end)):
            if value is not None:
                where.append(f"{test} ?")
                values.append(value)
        return self._select(" and ".join(where), values, last)

    def begin_anew(self) -> None:
        """Forgets all it holds, also what it deleted; the next question builds it again."""
        with self._lock:
            self._discard()

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            if self._db:
                self._db.close()
            self._db = None

    def _select(self, where: str, values: list[str | int], last: int | None) -> list[int]:
        order = "order by i" if last is None else f"order by i desc limit {int(last)}"
        query = f"select i from entry where {where} {order}"  # noqa: S608
        with self._lock:
            try:
                try:
                    return self._rows(query, values)
                except sqlite3.OperationalError:  # locked, or no room
                    raise
                except sqlite3.DatabaseError:
                    self._discard()
                    return self._rows(query, values)
            except sqlite3.Error as error:
                raise JournalReadError(
                    f"the index {self._path} cannot be read: {error}",
                    hint="Is the disk full? Else delete it; it is rebuilt from the log.",
                ) from error

    def _rows(self, query: str, values: list[str | int]) -> list[int]:
        return sorted(row[0] for row in self._caught_up().execute(query, values))

    def _caught_up(self) -> sqlite3.Connection:
        db = self._db or self._opened()
        self._db = db
        size = self._reader.size
        taken = _taken(db)
        while taken < size:  # in parts, so that a start that is killed was not for nothing
            first = max(taken, self._reader.start)
            taken = min(first + PART, size)
            with db:
                rows = map(_row, self._reader.lines(first, taken))
                db.executemany("insert into entry values (?,?,?,?,?,?,?)", rows)
                last = hashlib.sha256(self._reader.raw(taken - 1)).digest()
                db.execute("insert or replace into taken values (1, ?, ?)", (taken, last))
        return db

    def _opened(self) -> sqlite3.Connection:
        try:
            with ExitStack() as opened:
                db = opened.enter_context(closing(self._connect()))
                if self._usable(db):
                    opened.pop_all()
                    return db
        except sqlite3.DatabaseError as error:
            if self._may_be_sound(error):
                raise
        self._discard()  # damaged, or of another log: it is made anew
        return self._connect()

    def _may_be_sound(self, error: sqlite3.Error) -> bool:
        """Whether it says nothing of the file: a full disk, say. Making it anew takes minutes."""
        code = getattr(error, "sqlite_errorcode", 0)  # an error of Python's own module has none
        return code & 0xFF in _PASSING and os.access(self._path, os.R_OK | os.W_OK)

    def _discard(self) -> None:
        if self._db:
            self._db.close()
        self._db = None
        for suffix in ("", "-wal", "-shm", "-journal"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, check_same_thread=False, timeout=5)
        try:
            db.executescript(f"pragma journal_mode=wal; pragma synchronous=normal; {_SCHEMA}")
            if db.execute("pragma user_version").fetchone()[0] == 0:
                db.execute(f"pragma user_version={_VERSION}")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _usable(self, db: sqlite3.Connection) -> bool:
        if db.execute("pragma user_version").fetchone()[0] != _VERSION:
            return False
        row = db.execute("select size, hash from taken").fetchone()
        if row is None or row[0] <= self._reader.start:
            return row is None and not db.execute("select 1 from entry").fetchone()
        if row[0] > self._reader.size:
            return False
        found = "select count(*) from entry where i >= ? and i < ?"
        count = db.execute(found, [self._reader.start, row[0]]).fetchone()[0]
        if count != row[0] - self._reader.start:
            return False
        return bool(hashlib.sha256(self._reader.raw(row[0] - 1)).digest() == row[1])


def _taken(db: sqlite3.Connection) -> int:
    row = db.execute("select size from taken").fetchone()
    return int(row[0]) if row else 0


def _row(line: bytes) -> tuple[int, int, str, str | None, str | None, str | None, str | None]:
    entry = parse(line)
    draft = entry.draft
    verdict = draft.policy.verdict if draft.policy else None
    return entry.index, entry.ts, entry.type, draft.run, draft.path, draft.agent, verdict
