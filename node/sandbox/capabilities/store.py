"""The `store` capability: small values that outlive a call, private to one agent and one tool.

One SQLite file an agent, opened by the call that needs it and closed with it: SQLite settles what
two calls at once do, and a value is durable when `set` answers. With a value are kept the marks of
what it may have been made from, and who reads it, or lists the keys, has them among its origins.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

from node.sandbox import abi
from node.sandbox.abi import Err
from node.sandbox.binding import HostFunction
from node.sandbox.hostcall import READS_ONLY, HostCall
from node.sandbox.limits import Limits

STORE_FILE = "store.db"
_KEY_BYTES = 256
_BUSY_S = 1.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS value (
    tool TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, marks TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (tool, key)
) WITHOUT ROWID
"""
_USED = "SELECT count(*), coalesce(sum(length(CAST(value AS BLOB))), 0) FROM value WHERE tool = ?"


def _open(call: HostCall) -> sqlite3.Connection:
    folder = call.require("store", call.grant.store)
    if call.database is None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        timeout = min(_BUSY_S, call.remaining_s())
        database = sqlite3.connect(folder / STORE_FILE, timeout=timeout, isolation_level=None)
        try:
            database.execute(_SCHEMA)
            _add_marks(database)
        except sqlite3.Error:
            database.close()
            raise
        call.keep(database)
        call.database = database
    return call.database


def _add_marks(database: sqlite3.Connection) -> None:
    """Brings a file of before there were marks up to date."""
    columns = {row[1] for row in database.execute("PRAGMA table_info(value)")}
    if "marks" not in columns:
        database.execute("ALTER TABLE value ADD COLUMN marks TEXT NOT NULL DEFAULT ''")


def _read(call: HostCall, marks: str) -> None:
    call.origins |= {f"store:{mark}": None for mark in marks.split()}


def _get(call: HostCall, key: str) -> str | None:
    row = _open(call).execute(
        "SELECT value, marks FROM value WHERE tool = ? AND key = ?", (call.tool, key)
    )
    found = row.fetchone()
    if found is None:
        return None
    _read(call, found[1])
    return str(found[0])


def _set(call: HostCall, key: str, value: str) -> str | Err:
    if call.grant.read_only:
        return Err(READS_ONLY)
    if not key or len(key.encode()) > _KEY_BYTES or "\n" in key:
        return Err(f"a key is one line of 1 to {_KEY_BYTES} bytes")
    database, marks = _open(call), call.grant.store_marks
    marked = " ".join(sorted(marks(tuple(call.origins)))) if marks else ""
    database.execute("BEGIN IMMEDIATE")
    try:
        database.execute(
            "INSERT INTO value (tool, key, value, marks) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (tool, key) DO UPDATE SET value = excluded.value, marks = excluded.marks",
            (call.tool, key, value, marked),
        )
        full = _over_quota(call.limits, *database.execute(_USED, (call.tool,)).fetchone())
        database.execute("ROLLBACK" if full else "COMMIT")
    except sqlite3.Error:
        database.rollback()
        raise
    return Err(full) if full else key


def _over_quota(limits: Limits, keys: int, size: int) -> str:
    if keys > limits.store_keys:
        return f"the store is full: store_keys = {limits.store_keys}"
    if size > limits.store_bytes:
        return f"the store is full: store_bytes = {limits.store_bytes}"
    return ""


def _delete(call: HostCall, key: str) -> str | Err:
    if call.grant.read_only:
        return Err(READS_ONLY)
    _open(call).execute("DELETE FROM value WHERE tool = ? AND key = ?", (call.tool, key))
    return key


def _keys(call: HostCall) -> str:
    rows = _open(call).execute(
        "SELECT key, marks FROM value WHERE tool = ? ORDER BY key", (call.tool,)
    )
    found = rows.fetchall()
    _read(call, " ".join(row[1] for row in found))
    return "\n".join(row[0] for row in found)


def _guarded(work: Callable[..., Any]) -> Callable[..., Any]:
    def run(call: HostCall, *arguments: str) -> Any:
        try:
            return work(call, *arguments)
        except (sqlite3.Error, OSError) as error:
            return Err(f"the store cannot be used: {type(error).__name__}")

    return run


def store_functions(limits: Limits) -> tuple[HostFunction, ...]:
    """The functions of `freehold:tool/store`."""
    text = abi.put_result(abi.put_text, abi.put_text)
    maybe = abi.put_result(abi.put_option(abi.put_text), abi.put_text)
    define = partial(HostFunction, soft=True)
    both = (abi.text, abi.text)
    return (
        define("get", _guarded(_get), params=(abi.text,), result=maybe),
        define("set", _guarded(_set), params=both, result=text, limit=limits.store_bytes),
        define("delete", _guarded(_delete), params=(abi.text,), result=text),
        define("keys", _guarded(_keys), result=text),
    )
