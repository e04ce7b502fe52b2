"""The beginning of a file that is being fetched, and the note of what it is a beginning of.

It lies in `.partial/` under a name made from the address; nothing there is ever taken for a model.
The note says which version of the file this is (its ETag, size, digest) and how many bytes are
surely on the disk: after a power cut the rest may be zeros, so it is cut off. The file is locked
while someone fetches into it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from node.disk import sync, write_private
from node.errors import DownloadError

FOLDER: Final = ".partial"
SYNC_BYTES: Final = 64 << 20
_BLOCK_BYTES: Final = 1 << 20
_ETAG = re.compile(r'"[\x21\x23-\x7e]{0,200}"')  # a strong one: weak ones begin with W/


@dataclass(frozen=True)
class Note:
    """Which version of a file the beginning belongs to, and how much of it is durable."""

    source: str
    etag: str = ""
    size: int | None = None
    sha256: str = ""
    durable: int = 0


class Partial:
    """An open beginning. `have` bytes of it are here; `sha256` is theirs."""

    def __init__(self, folder: Path, key: str, source: str, file: BinaryIO) -> None:
        self.path = folder / f"{key}.part"
        self.note = Note(source)
        self.have = 0
        self.file = file
        self._note_path = folder / f"{key}.json"
        self._hash = hashlib.sha256()

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, key: str, source: str) -> Iterator[Partial]:
        """The beginning for `key`, empty if there is none; durable when the block ends.

        Raises:
            DownloadError: someone else is fetching into it, or it cannot be written.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(folder / f"{key}.part", flags, 0o600)
            with os.fdopen(descriptor, "r+b") as file:
                _lock(file, source)
                _check_there(file, folder / f"{key}.part", source)
                partial = cls(folder, key, source, file)
                try:
                    yield partial
                finally:
                    partial._close()
        except OSError as error:
            raise DownloadError(
                f"{folder} cannot be written: {error.strerror}",
                hint="Make room, or look at its rights. What is here is kept.",
            ) from error

    @property
    def sha256(self) -> str:
        """In hex, of what is here."""
        return self._hash.hexdigest()

    def take_up(self, *, known: bool) -> None:
        """Reads what is here, to go on after it; begins anew where it is not known what it is.

        Args:
            known: the whole file's digest is known from elsewhere and will show whether it was.
        """
        note = read_note(self._note_path)
        if note is None or not (note.etag or note.sha256 or known):
            self.start_anew()
            return
        self.note = note
        self.file.truncate(min(note.durable, os.fstat(self.file.fileno()).st_size))
        self.file.seek(0)
        while block := self.file.read(_BLOCK_BYTES):
            self._hash.update(block)
            self.have += len(block)

    def start_anew(self) -> None:
        """Forgets what is here."""
        self.file.seek(0)
        self.file.truncate()
        self._hash, self.have = hashlib.sha256(), 0
        self.note = Note(self.note.source)

    def describe(self, *, etag: str, size: int | None, sha256: str) -> None:
        """Says which version of the file comes, before any of it is written."""
        strong = etag if _ETAG.fullmatch(etag) else ""
        self.note = replace(self.note, etag=strong, size=size, sha256=sha256)
        self._write_note()

    def append(self, block: bytes) -> None:
        """Writes after what is here."""
        self.file.seek(self.have)
        self.file.write(block)
        self._hash.update(block)
        self.have += len(block)
        if self.have >= self.note.durable + SYNC_BYTES:
            self._sync()

    def forget(self) -> None:
        """Removes the file and its note."""
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self.path.exists():
            self._sync()

    def _sync(self) -> None:
        self.file.flush()
        sync(self.file.fileno())
        self.note = replace(self.note, durable=self.have)
        self._write_note()

    def _write_note(self) -> None:
        write_private(self._note_path, json.dumps(asdict(self.note)).encode())


def unfinished(models: Path) -> list[tuple[str, int]]:
    """What was begun and is not whole: where it comes from, and the bytes that are here."""
    found = []
    for path in sorted((models / FOLDER).glob("*.part")):
        note = read_note(path.with_suffix(".json"))
        with contextlib.suppress(OSError):
            found.append((note.source if note else "unknown", path.stat().st_size))
    return found


def forget_unfinished(models: Path) -> None:
    """Removes all beginnings but those that are being fetched now."""
    for path in (models / FOLDER).glob("*.part"):
        with contextlib.suppress(DownloadError), path.open("rb") as file:
            _lock(file, path.name)
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)


def read_note(path: Path) -> Note | None:
    """The note, or None: whatever is wrong with it, the file only comes anew."""
    try:
        value: Any = json.loads(path.read_bytes())
        known = {each.name for each in fields(Note)}  # a newer version's note may say more
        note = Note(**{key: value[key] for key in value if key in known})
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    kinds: dict[str, Any] = {
        "source": str,
        "etag": str,
        "size": int | None,
        "sha256": str,
        "durable": int,
    }
    right = all(isinstance(getattr(note, key), kind) for key, kind in kinds.items())
    sound = right and note.durable >= 0 and (not note.etag or bool(_ETAG.fullmatch(note.etag)))
    return note if sound else None


def _check_there(file: BinaryIO, path: Path, what: str) -> None:
    """Whoever fetched it may have moved it to its place just before it was locked here."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return
    raise DownloadError(f"{what} was just fetched by another", hint="Look whether it is here.")


def _lock(file: BinaryIO, what: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DownloadError(
            f"{what} is being fetched already", hint="Wait until it is here."
        ) from error
