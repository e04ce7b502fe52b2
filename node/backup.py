"""One archive of a home, made while the node works.

The archive is a gzipped POSIX tar, its first member `freehold-backup.json`. The journal comes
first, cut at a commit, and all else after it: so what is restored looks like a node that crashed
just after that commit, and that is a state the node knows how to go on from. The wallet's file and
what tools store are copied through SQLite, since they may be written meanwhile (and since a process
that reads a database behind SQLite's back loses its locks on it). Left out is what can
be had again (model weights, compiled tools, the index) or means nothing elsewhere (run/).
`restore.py` reads it.
"""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import stat
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from node.disk import alone, is_unfinished, listed
from node.errors import BackupError
from node.home import LOST_AND_FOUND, Home
from node.version import VERSION

MANIFEST = "freehold-backup.json"
FORMAT = 1
LEFT_OUT = frozenset({"run", "cache", "index.db", "journal.head", LOST_AND_FOUND})
COMPRESSION = 3
IN_MEMORY_BYTES = 16 * 1024 * 1024
BLOB_SLOT_BYTES = 128
BEING_WRITTEN = ".new"  # what the room of the journal is about to give a name, or left
STORE_FILE = "store.db"  # the room of the sandbox takes long to import
_OF_THE_CUT = {".jsonl", ".key"}
_LABELS = ".labels-"  # and an agent's name, in the folder of workspaces


@dataclass(frozen=True)
class JournalCut:
    """What of a journal to take so that it is one log: see `cut`."""

    segments: tuple[tuple[Path, int], ...]
    keys: tuple[tuple[Path, bytes], ...]
    slots: Mapping[Path, bytes]
    pruned: bytes | None


def write(home: Home, name: str, entries: int, target: IO[bytes]) -> None:
    """Writes the archive of a home to `target`; blocks, so call it off the event loop.

    Args:
        name: the node's.
        entries: how many the log has; what is archived has at least these.

    Raises:
        BackupError: a file cannot be read.
        BrokenPipeError: nobody reads the other end any more.
    """
    about = {
        "format": FORMAT,
        "name": name,
        "created": time.time(),
        "version": VERSION,
        "journal_entries": entries,
    }
    try:
        with (
            gzip.GzipFile(fileobj=target, mode="wb", compresslevel=COMPRESSION, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            _add_bytes(tar, home, home.root / MANIFEST, json.dumps(about).encode())
            _add_journal(tar, home)
            _add_database(tar, home, home.wallet)
            _add_tools(tar, home)
            _add_others(tar, home)
    except BrokenPipeError:
        raise
    except (OSError, sqlite3.Error, RecursionError) as error:
        raise BackupError(
            f"cannot back up {home.root}: {error}", hint="Try again; nothing was kept."
        ) from error


# ── the journal ─────────────────────────────────────────────────────────────────────────────


def cut(folder: Path) -> JournalCut:
    """Segments up to a commit, the signing keys that go on from there, content's keys before it.

    Sealing a segment makes the next key before the seal and destroys the old one after the next
    segment was opened. So keys that were read between two equal listings of the segments belong to
    what was read before them; else it is done again. Pruning puts an entry on the log, then writes
    `pruned`, then deletes: so that file is read before the sizes, and again after. Erasing puts an
    entry on the log, then destroys a key of content: so those there are are read before the sizes.
    """
    while True:
        pruned, names = _pruned(folder), listed(folder, "*.jsonl")
        try:
            slots = {path: path.read_bytes() for path in listed(folder / "blobs", "*.keys")}
            segments = tuple((path, path.stat().st_size) for path in names)
            if segments:
                last, size = segments[-1]
                segments = (*segments[:-1], (last, _last_commit(last, size)))
            keys = tuple((p, p.read_bytes()) for p in listed(folder / "keys", "*.key"))
        except FileNotFoundError:
            continue
        if listed(folder, "*.jsonl") == names and _pruned(folder) == pruned:
            kept = tuple(one for one in segments if _kept(one[0], pruned))
            return JournalCut(kept, keys, slots, pruned)


def _pruned(folder: Path) -> bytes | None:
    try:
        return (folder / "pruned").read_bytes()
    except FileNotFoundError:
        return None


def _kept(segment: Path, pruned: bytes | None) -> bool:
    """Whether a segment is not among those that are about to be deleted."""
    try:
        return pruned is None or int(segment.stem) >= json.loads(pruned)["size"]
    except (ValueError, KeyError, TypeError):  # the log is damaged: it is archived as it is
        return True


def _last_commit(path: Path, size: int) -> int:
    """Where the last whole commit line within the first `size` bytes ends.

    From the first zero on there is what a power cut left of a write, or room.
    """
    at = end = 0
    with open(path, "rb") as file:
        for line in file:
            at += len(line)
            if at > size or b"\0" in line:
                break
            if line.startswith(b"=") and line.endswith(b"\n"):
                end = at
    return end


def _add_journal(tar: tarfile.TarFile, home: Home) -> None:
    """Segments and keys; then blobs, their secrets before their content; derived files last."""
    taken = cut(home.journal)
    for path, length in taken.segments:
        _add(tar, home, path, length=length)
    for path, content in taken.keys:
        _add_bytes(tar, home, path, content)
    if taken.pruned is not None:
        _add_bytes(tar, home, home.journal / "pruned", taken.pruned)
    done = {path for path, _ in (*taken.segments, *taken.keys)}
    rest = (path for path in _below(home, home.journal) if path not in done and not _derived(path))
    for path in sorted(rest, key=lambda path: (path.suffix == ".pack", "tree" in path.parts)):
        if path.suffix == ".keys":
            before = taken.slots.get(path, b"")
            slots = before + path.read_bytes()[len(before) :]
            whole = len(slots) - len(slots) % BLOB_SLOT_BYTES
            _add_bytes(tar, home, path, slots[:whole])
        else:
            _add(tar, home, path)


def _derived(path: Path) -> bool:
    """What is made anew: the index, the lock, and what appeared since the cut was made."""
    again = path.name.startswith("index.db") or path.name in {"lock", "pruned"}
    return again or path.suffix in _OF_THE_CUT or path.suffix == BEING_WRITTEN


# ── databases ───────────────────────────────────────────────────────────────────────────────


def _add_store(tar: tarfile.TarFile, home: Home, path: Path) -> None:
    """What a tool stores; a file that is no database any more is taken as it is."""
    try:
        _add_database(tar, home, path, mode="rw")  # a killed process left something to roll back
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode not in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
            raise
        _add(tar, home, path)


def _add_database(tar: tarfile.TarFile, home: Home, path: Path, *, mode: str = "ro") -> None:
    """One consistent copy of a database as of now, without the log beside it."""
    if not path.is_file():
        return
    with (
        closing(sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True)) as source,
        closing(sqlite3.connect(":memory:")) as target,  # no copy of secrets is left anywhere
    ):
        source.backup(target)
        content = bytearray(target.serialize())
    content[18:20] = b"\1\1"  # not WAL: https://www.sqlite.org/fileformat.html, 1.3.3
    _add_bytes(tar, home, path, bytes(content))


# ── the rest ────────────────────────────────────────────────────────────────────────────────


def _add_tools(tar: tarfile.TarFile, home: Home) -> None:
    """Each tool as one `tool add` left it, which puts a whole folder in the place of another."""
    if not home.tools.is_dir():
        return
    with alone(home.tools):
        tools = listed(home.tools, "[!.]*")
    for tool in tools:
        with ExitStack() as opened:
            with alone(home.tools):
                paths = [path for path in _below(home, tool) if path.parent == tool]
                files = [opened.enter_context(_opened(home, path)) for path in paths]
            for path, file in zip(paths, files, strict=True):
                _add_file(tar, home, path, file)


def _add_others(tar: tarfile.TarFile, home: Home) -> None:
    """All that is left: files as they are, what tools store as databases."""
    marks = listed(home.workspaces, f"{_LABELS}*.json")
    labels = {path: path.read_bytes() for path in marks if path.is_file()}
    for path in _others(home):
        if path in labels:
            _add_labels(tar, home, path, labels[path])
        elif not (home.stores in path.parents and path.name.startswith(STORE_FILE)):
            _add(tar, home, path)
        elif path.name == STORE_FILE:  # and not what lies beside it
            _add_store(tar, home, path)


def _others(home: Home) -> Iterator[Path]:
    for top in sorted(home.root.iterdir()):
        name = top.name.casefold()  # as `restore.py` looks at it
        if name in LEFT_OUT or top in {home.journal, home.tools} or name.startswith("."):
            continue
        if name.startswith(home.wallet.name):  # and what lies beside it
            continue
        if top == home.models:
            kept = (top / "models.lock", top / "remote.toml")
            yield from (path for path in kept if path.is_file())
        elif top == home.keys:  # a key that nobody is to have yet, or any more
            yield from (path for path in _below(home, top) if not is_unfinished(path))
        else:
            yield from _below(home, top)


def _is_the_owners(home: Home, path: Path) -> bool:
    """Whether a link here is how the owner keeps it elsewhere: on a larger disk, in a repository.
    Any other is none of the node's."""
    return path in {home.config, *home.folders} or path.parent in {home.agents, home.tools}


def _below(home: Home, top: Path) -> Iterator[Path]:
    """Plain files under `top`; of a git folder the objects last, so that no ref lacks its own, and
    after agents' files the labels of these, so that none written meanwhile lacks its own."""
    if top.is_symlink() and not _is_the_owners(home, top):
        return
    if top.is_file():
        yield top
    elif top.is_dir():
        try:
            found = sorted(top.iterdir(), key=lambda path: (_is_last(path.name), path.name))
        except (FileNotFoundError, NotADirectoryError):  # gone since it was listed
            return
        for path in found:
            yield from _below(home, path)


def _is_last(name: str) -> bool:
    return name == "objects" or name.startswith(_LABELS)


def _add_labels(tar: tarfile.TarFile, home: Home, path: Path, before: bytes) -> None:
    """The labels of an agent's files, and those that a file lost since it was taken: what is
    restored is the file as it was."""
    content = path.read_bytes()
    try:
        old, new = json.loads(before)["now"], json.loads(content)
        new["now"] |= {file: [*{*old[file], *new["now"].get(file, ())}] for file in old}
        content = json.dumps(new).encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass  # as it is: what cannot be read labels everything
    _add_bytes(tar, home, path, content)


def _add(tar: tarfile.TarFile, home: Home, path: Path, *, length: int | None = None) -> None:
    """A file as it is, or its first `length` bytes. One that is gone by now is left out, unless a
    length was promised."""
    try:
        file = _opened(home, path)
    except FileNotFoundError:
        if length is not None:
            raise
        return
    with file:
        _add_file(tar, home, path, file, length=length)


def _opened(home: Home, path: Path) -> IO[bytes]:
    follow = 0 if _is_the_owners(home, path) else os.O_NOFOLLOW
    return open(os.open(path, os.O_RDONLY | follow), "rb")


def _add_file(
    tar: tarfile.TarFile, home: Home, path: Path, file: IO[bytes], *, length: int | None = None
) -> None:
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode):
        return
    member = tarfile.TarInfo(_name(home, path))
    member.mtime = int(facts.st_mtime)
    member.mode = 0o700 if facts.st_mode & 0o100 else 0o600
    member.size = facts.st_size if length is None else length
    if member.size <= IN_MEMORY_BYTES:  # so that one being rewritten is taken as it was read
        content = file.read(member.size)
        member.size = len(content)
        tar.addfile(member, BytesIO(content))
    else:
        tar.addfile(member, file)


def _add_bytes(tar: tarfile.TarFile, home: Home, path: Path, content: bytes) -> None:
    member = tarfile.TarInfo(_name(home, path))
    member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
    tar.addfile(member, BytesIO(content))


def _name(home: Home, path: Path) -> str:
    """What a file of the home is called in the archive."""
    return path.relative_to(home.root).as_posix()
