"""A home made out of an archive that `backup.py` wrote, or that somebody says it wrote.

An archive may come from anyone: only plain files with plain relative names are taken, into a new
folder that becomes the home once its log has been verified and shown not to be older than what
this machine has acknowledged. Until then nothing of the home that is there has changed.

tarfile takes an archive that ends too early, or has a header it cannot read, for a whole one. So
gzip's checksum at the end is read too, and nothing but zeros may stand between it and the last
file.

A wallet that comes out of an archive is older than what its mints know: some of its ecash may be
spent, and secrets it would use next may be used. It is marked, and neither pays nor takes anything
until its mints were asked (`freehold wallet restore`).
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import secrets
import shutil
import tarfile
import time
import zlib
from contextlib import nullcontext
from dataclasses import dataclass
from os.path import samestat
from pathlib import Path, PurePosixPath
from typing import TypeGuard

from node.backup import FORMAT, LEFT_OUT, MANIFEST
from node.config import Config, load
from node.disk import sync, sync_folder, write_private
from node.errors import BackupError, ConfigError, JournalDamagedError, JournalRollbackError
from node.home import Home
from node.journal import Journal, verify
from node.money.types import stale_mark

MANIFEST_MAX_BYTES = 64 * 1024
HEADER_MAX_BYTES = 1024 * 1024
MEMBERS_MAX = 2_000_000
TOTAL_MAX_BYTES = 256 * 1024**3
_CHUNK_BYTES = 1 << 20
_YEAR_3000 = 32_503_680_000  # in seconds since 1970
_BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, RecursionError)
_HINT = "Is it a file that `freehold backup` wrote?"


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


def restore(archive: Path, home: Home, *, force: bool = False) -> tuple[Archive, Path | None]:
    """Makes `home` out of an archive; with `force` in place of one that is there.

    Returns:
        What the archive says, and where the home that was there is kept now.

    Raises:
        BackupError: there is a home already, the archive is not what it must be, or of another
            version.
        JournalRollbackError: its log is older than what this home has acknowledged.
        JournalDamagedError: its log is not what was signed.
        DaemonRunningError: a daemon works on the home.
        ConfigError: the home's path is too long.
    """
    os.umask(0o077)
    home.check_path()
    occupied = home.root.exists() and any(home.root.iterdir())
    if occupied and not force:
        raise BackupError(
            f"{home.root} is not empty", hint="Set FREEHOLD_HOME to a new folder, or use --force."
        )
    with home.hold() if occupied and home.run.is_dir() else nullcontext():
        return _restore(archive, home, occupied)


def _restore(archive: Path, home: Home, occupied: bool) -> tuple[Archive, Path | None]:
    staging = Home(home.root.with_name(f".{home.root.name}.restoring.{secrets.token_hex(4)}"))
    try:
        about = _unpack(archive, staging.root)
        staging.make_folders()
        _check(home, staging, about)
        if staging.wallet.exists():
            write_private(stale_mark(staging.wallet), f"{about.created}\n".encode())
        return about, _swap(home, staging, occupied)
    except OSError as error:
        mounted = f" A disk is mounted there: set FREEHOLD_HOME to a folder in {home.root}."
        hint = "Nothing was changed." + mounted * (error.errno == errno.EBUSY)
        raise BackupError(f"cannot restore: {error}", hint=hint) from error
    finally:
        shutil.rmtree(staging.root, ignore_errors=True)


def _unpack(archive: Path, root: Path) -> Archive:
    """Writes the archive's files below `root`, which is new."""
    root.mkdir(mode=0o700, parents=True)
    try:
        with gzip.open(archive, "rb") as packed:
            stream = _Stream(packed)
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=BoundedInfo) as tar:
                about, end = _members(tar, root)
            stream.finish(end)
            return about
    except _BROKEN as error:
        raise BackupError(f"{archive} is not a whole archive: {error}", hint=_HINT) from error


def _members(tar: tarfile.TarFile, root: Path) -> tuple[Archive, int]:
    """Writes all files; what the archive says, and where in it the last file ends."""
    members = iter(tar)
    first = next(members, None)
    about = _about(tar, first)
    total, end = 0, _end(first)
    for count, member in enumerate(members):
        total, end = total + member.size, _end(member)
        if count > MEMBERS_MAX or total > TOTAL_MAX_BYTES:
            raise BackupError("the archive is larger than any node's", hint=_HINT)
        _extract(tar, member, root)
    return about, end


def _end(member: tarfile.TarInfo | None) -> int:
    return member.offset_data + member.size if member else 0


class _Stream(io.BufferedIOBase):
    """What was packed, read once; remembers where its last byte is that is not zero."""

    def __init__(self, packed: gzip.GzipFile) -> None:
        self._packed = packed
        self._at = self._last = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. Raises EOFError or BadGzipFile where they are not what was packed."""
        data = self._packed.read(-1 if size is None else size)
        if filled := len(data.rstrip(b"\0")):
            self._last = self._at + filled
        self._at += len(data)
        return data

    def finish(self, end: int) -> None:
        """Reads to the checksum. Raises ValueError if there is more than zeros after `end`."""
        while self.read(_CHUNK_BYTES):
            pass
        if self._last > end:
            raise ValueError("it goes on behind what can be read")


def _about(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> Archive:
    if member is None or member.name != MANIFEST or member.size > MANIFEST_MAX_BYTES:
        raise BackupError(f"this archive does not begin with {MANIFEST}", hint=_HINT)
    file = tar.extractfile(member)
    found = json.loads(file.read()) if file else None
    if not isinstance(found, dict):
        raise BackupError(f"{MANIFEST} of this archive cannot be read", hint=_HINT)
    if found.get("format") != FORMAT:
        raise BackupError(
            f"this archive is of format {str(found.get('format'))[:20]}, and this version of "
            f"Freehold reads format {FORMAT}",
            hint=_wrote(str(found.get("version"))),
        )
    entries, created = found.get("journal_entries"), found.get("created")
    return Archive(
        name=str(found.get("name")),
        created=float(created) if _is_time(created) else 0.0,
        version=str(found.get("version")),
        journal_entries=entries if isinstance(entries, int) else 0,
    )


def _wrote(version: str) -> str:
    return f"Freehold {version[:20]} wrote it: restore it with that version."


def _is_time(value: object) -> TypeGuard[int | float]:
    """Whether it is a time in seconds since 1970 that a date can be made of."""
    return isinstance(value, int | float) and 0 <= value < _YEAR_3000


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    """Writes one plain file; anything else is refused."""
    name = PurePosixPath(member.name)
    plain = member.isreg() and not member.issparse() and member.size >= 0
    if not plain or "\0" in member.name or name.is_absolute() or not _is_a_nodes(name.parts):
        raise BackupError(f"the archive holds {member.name!r}, which no node writes", hint=_HINT)
    path = root.joinpath(*name.parts)
    for folder in reversed(path.relative_to(root).parents[:-1]):
        (root / folder).mkdir(mode=0o700, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    source = tar.extractfile(member)
    assert source is not None
    with source, open(os.open(path, flags, 0o700 if member.mode & 0o100 else 0o600), "wb") as file:
        shutil.copyfileobj(source, file)
        file.flush()
        sync(file.fileno())


def _is_a_nodes(parts: tuple[str, ...]) -> bool:
    """Whether `backup.py` would write a file of this name, which some disks read in any case."""
    folded = tuple(part.casefold() for part in parts)
    if not folded or ".." in folded or folded[0] in LEFT_OUT or folded[0].startswith("."):
        return False
    if folded[0] == "journal":  # what is derived is derived again, and not believed
        return len(folded) != 2 or not (folded[1] == "lock" or folded[1].startswith("index.db"))
    return parts == ("wallet.db",) or not folded[0].startswith("wallet.db")


def _check(home: Home, staging: Home, about: Archive) -> None:
    """Verifies the log that was unpacked, and opens it against the head this home has kept."""
    kept = _head(home)
    if kept.is_file():
        shutil.copyfile(kept, _head(staging))
    if not staging.config.is_file():  # some Pythons end an archive at a header they cannot read
        raise BackupError("the archive has no config.toml: it is not a whole one", hint=_HINT)
    config = _config(staging, about)
    report = verify(staging.journal, head=staging.run / "none", blobs=False)
    if report.hint:
        raise BackupError(f"the archive's log: {report.problems[0]}", hint=_wrote(about.version))
    if report.problems:
        raise JournalDamagedError(
            f"the archive's log is damaged: {report.problems[0]}", hint="Restore another archive."
        )
    if report.size < about.journal_entries:
        raise JournalDamagedError(
            f"the archive's log has {report.size} entries, but there were {about.journal_entries}",
            hint="Restore another archive.",
        )
    try:
        Journal.open_sync(staging.journal, origin=config.node.origin).close()
    except JournalRollbackError as error:
        raise JournalRollbackError(
            f"the archive is older than the node that is here: {error.message}",
            hint="Restore a newer one, or set FREEHOLD_HOME to a new folder for this one.",
        ) from error


def _config(staging: Home, about: Archive) -> Config:
    """What the archive configures, which another version may have known other keys of."""
    try:
        return load(staging.config, {})
    except ConfigError as error:
        said = error.message.replace(str(staging.config), "the archive's config.toml")
        other = "Where that is no other version than this, correct the file in the archive."
        raise BackupError(said, hint=f"{_wrote(about.version)} {other}") from error


def _head(home: Home) -> Path:
    return home.journal.with_name(home.journal.name + ".head")


def _swap(home: Home, staging: Home, occupied: bool) -> Path | None:
    """Puts the new home in place, once all of it is durable; the old one is kept beside it."""
    os.sync()
    kept = home.root.with_name(f"{home.root.name}.before-{time.strftime('%Y%m%d-%H%M%S')}")
    old = home.root.stat() if occupied else None
    try:
        if occupied:
            home.root.rename(kept)
        elif home.root.exists():
            home.root.rmdir()
        staging.root.rename(home.root)
    except BaseException:  # a signal, too, which may come right after either move
        if old and staging.root.exists() and kept.exists() and samestat(kept.stat(), old):
            _put_back(kept, home.root)
        raise
    try:
        sync_folder(home.root.parent)
    except OSError as error:
        was = f" The node that was there is in {kept}." if occupied else ""
        raise BackupError(
            f"{home.root} was restored, but its disk failed then: {error.strerror}",
            hint=f"See to that disk before you start the node.{was}",
        ) from error
    return kept if occupied else None


def _put_back(kept: Path, root: Path) -> None:
    """Raises BackupError where something has taken the home's place meanwhile."""
    try:
        kept.rename(root)
    except OSError as error:
        raise BackupError(
            f"cannot restore: something else is at {root} now",
            hint=f"The node that was there is in {kept}: move it back.",
        ) from error
