"""One archive of a home, made while the node works, and a home made out of one.

The archive is a gzipped POSIX tar, its first member `freehold-backup.json`. The journal comes
first, cut at a commit, and all else after it: so what is restored looks like a node that crashed
just after that commit, and that is a state the node knows how to go on from. Left out is what can
be had again (model weights, compiled tools, the index) or means nothing elsewhere (run/).

An archive to restore may come from anyone: only plain files and folders with plain relative names
are taken, into a new folder that becomes the home once its log has been verified and shown not to
be older than what this machine has acknowledged.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import stat
import tarfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from node.config import load
from node.errors import BackupError, JournalDamagedError
from node.home import Home
from node.journal import Journal
from node.journal.verify import verify

MANIFEST = "freehold-backup.json"
FORMAT = 1
LEFT_OUT = frozenset({"run", "cache", "index.db", "journal.head"})
MANIFEST_MAX_BYTES = 64 * 1024
HEADER_MAX_BYTES = 1024 * 1024
MEMBERS_MAX = 2_000_000
TOTAL_MAX_BYTES = 256 * 1024**3
COMPRESSION = 3
_SEGMENT = re.compile(r"\d{12}\.jsonl")


@dataclass(frozen=True)
class Archive:
    """What an archive says of itself. `created` in seconds since 1970."""

    name: str
    created: float
    version: str
    journal_entries: int


class BoundedInfo(tarfile.TarInfo):
    """A member whose extended header, which tarfile reads whole into memory, is small."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> BoundedInfo:
        found = super().frombuf(buf, encoding, errors)
        if not found.isreg() and found.size > HEADER_MAX_BYTES:
            raise tarfile.HeaderError("a header is too large")
        return found


# ── making one ──────────────────────────────────────────────────────────────────────────────


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
        "version": version("freehold"),
        "journal_entries": entries,
    }
    try:
        with (
            gzip.GzipFile(fileobj=target, mode="wb", compresslevel=COMPRESSION, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            _add_bytes(tar, MANIFEST, json.dumps(about).encode())
            for path in _files(home):
                _add(tar, home, path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BackupError(
            f"cannot back up {home.root}: {error}", hint="Nothing was kept."
        ) from error


def _files(home: Home) -> Iterator[Path]:
    """What goes in, in the order that keeps it consistent: see the module's docstring."""
    yield from _journal(home.journal)
    for top in sorted(home.root.iterdir()):
        if top.name in LEFT_OUT or top == home.journal or top.name.startswith("."):
            continue
        if top == home.models:
            yield from (path for path in [top / "models.lock"] if path.is_file())
        else:
            yield from _below(top)


def _journal(folder: Path) -> Iterator[Path]:
    """Segments, then what they need: secrets of blobs before their content, derived files last."""
    yield from sorted(folder.glob("*.jsonl"))
    rest = [path for path in _below(folder) if not _SEGMENT.fullmatch(path.name)]
    yield from sorted(rest, key=lambda path: (path.suffix == ".pack", "tree" in path.parts))


def _below(top: Path) -> Iterator[Path]:
    """Plain files under `top`; of a git folder the objects last, so that no ref lacks its own."""
    if top.is_file() and not top.is_symlink():
        yield top
    elif top.is_dir() and not top.is_symlink():
        found = sorted(top.iterdir(), key=lambda path: (path.name == "objects", path.name))
        for path in found:
            yield from _below(path)


def _add(tar: tarfile.TarFile, home: Home, path: Path) -> None:
    name = path.relative_to(home.root).as_posix()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return  # gone since it was listed
    with open(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        length = _length(home, path, file, facts.st_size)
        if not stat.S_ISREG(facts.st_mode) or (length == 0 and _is_segment(home, path)):
            return
        member = tarfile.TarInfo(name)
        member.size, member.mtime = length, int(facts.st_mtime)
        member.mode = 0o700 if facts.st_mode & 0o100 else 0o600
        tar.addfile(member, file)


def _length(home: Home, path: Path, file: BinaryIO, size: int) -> int:
    """How much of a file to take: of a segment that is written to, up to its last commit line."""
    if not _is_segment(home, path):
        return (
            size - size % 128 if path.suffix == ".keys" and home.journal in path.parents else size
        )
    end = 0
    at = 0
    for line in file:
        at += len(line)
        if at > size:
            break
        if line.startswith(b"=") and line.endswith(b"\n"):
            end = at
    file.seek(0)
    return end


def _is_segment(home: Home, path: Path) -> bool:
    return path.parent == home.journal and _SEGMENT.fullmatch(path.name) is not None


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
    tar.addfile(member, BytesIO(content))


# ── restoring ───────────────────────────────────────────────────────────────────────────────


def restore(archive: Path, home: Home, *, force: bool = False) -> tuple[Archive, Path | None]:
    """Makes `home` out of an archive; with `force` in place of one that is there.

    Returns:
        What the archive says, and where the home that was there is kept now.

    Raises:
        BackupError: there is a home already, or the archive is not what it must be.
        JournalRollbackError: its log is older than what this home has acknowledged.
        JournalDamagedError: its log is not what was signed.
        DaemonRunningError: a daemon works on the home.
    """
    occupied = home.root.exists() and any(home.root.iterdir())
    if occupied and not force:
        raise BackupError(
            f"{home.root} is not empty", hint="Set FREEHOLD_HOME to a new folder, or use --force."
        )
    if occupied and home.run.is_dir():
        with home.hold():
            return _restore(archive, home, occupied)
    return _restore(archive, home, occupied)


def _restore(archive: Path, home: Home, occupied: bool) -> tuple[Archive, Path | None]:
    staging = Home(home.root.with_name(f".{home.root.name}.restoring.{os.getpid()}"))
    try:
        about = _unpack(archive, staging.root)
        staging.create()
        _check(home, staging)
        return about, _swap(home, staging, occupied)
    except OSError as error:
        raise BackupError(f"cannot restore: {error}", hint="Nothing was changed.") from error
    finally:
        shutil.rmtree(staging.root, ignore_errors=True)


def _unpack(archive: Path, root: Path) -> Archive:
    """Writes the archive's files below `root`, which is new."""
    root.mkdir(mode=0o700, parents=True)
    try:
        with open(archive, "rb") as file, _open(file) as tar:
            members = iter(tar)
            about = _about(tar, next(members, None))
            total = 0
            for count, member in enumerate(members):
                total += member.size
                if count > MEMBERS_MAX or total > TOTAL_MAX_BYTES:
                    raise BackupError("the archive is larger than any node's", hint=_HINT)
                _extract(tar, member, root)
            return about
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise BackupError(f"{archive} is not a whole archive: {error}", hint=_HINT) from error


def _open(file: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="r|gz", tarinfo=BoundedInfo)


def _about(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> Archive:
    if member is None or member.name != MANIFEST or member.size > MANIFEST_MAX_BYTES:
        raise BackupError(f"this archive does not begin with {MANIFEST}", hint=_HINT)
    file = tar.extractfile(member)
    found = json.loads(file.read()) if file else None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BackupError("this archive is of a format that this version does not read", hint=_HINT)
    entries, created = found.get("journal_entries"), found.get("created")
    return Archive(
        name=str(found.get("name")),
        created=float(created) if isinstance(created, int | float) else 0.0,
        version=str(found.get("version")),
        journal_entries=entries if isinstance(entries, int) else 0,
    )


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    """Writes one plain file; anything else is refused."""
    name = PurePosixPath(member.name)
    plain = not name.is_absolute() and ".." not in name.parts and name.parts
    if not plain or "\0" in member.name or name.parts[0] in LEFT_OUT or not member.isreg():
        raise BackupError(f"the archive holds {member.name!r}, which no node writes", hint=_HINT)
    path = root.joinpath(*name.parts)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    source = tar.extractfile(member)
    assert source is not None
    with source, open(os.open(path, flags, 0o700 if member.mode & 0o100 else 0o600), "wb") as file:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())


def _check(home: Home, staging: Home) -> None:
    """Verifies the log that was unpacked, and opens it against the head this home has kept."""
    kept = _head(home)
    if kept.is_file():
        shutil.copyfile(kept, _head(staging))
    config = load(staging.config, {})
    report = verify(staging.journal, head=staging.run / "none")
    if report.problems:
        raise JournalDamagedError(
            f"the archive's log is damaged: {report.problems[0]}", hint="Restore another archive."
        )
    Journal.open_sync(staging.journal, origin=config.node.origin).close()


def _head(home: Home) -> Path:
    return home.journal.with_name(home.journal.name + ".head")


def _swap(home: Home, staging: Home, occupied: bool) -> Path | None:
    """Puts the new home in place; the old one is kept beside it."""
    kept = None
    if occupied:
        kept = home.root.with_name(f"{home.root.name}.before-{time.strftime('%Y%m%d-%H%M%S')}")
        home.root.rename(kept)
    elif home.root.exists():
        home.root.rmdir()
    staging.root.rename(home.root)
    return kept


_HINT = "Is it a file that `freehold backup` wrote?"
