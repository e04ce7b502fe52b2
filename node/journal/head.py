"""The kept head: the last acknowledged commit, in a second place.

Nothing inside a log can show that its end was cut off. So each acknowledged commit's note is also
written to a file outside of the journal's folder. It is not synced per commit: after a power cut
it may be behind the log, which is harmless, and it is never ahead of it. Two slots are written in
turn, so that a torn write loses one head and not both.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from node.disk import sync
from node.errors import JournalDamagedError, JournalError
from node.journal.note import Checkpoint, Note, VerifierKey

_SLOT_BYTES = 2048


def head_beside(folder: Path) -> Path:
    """Where the head of the log in a folder is kept, unless another place is given."""
    return folder.with_name(f"{folder.name}.head")


class KeptHead:
    """The file that keeps the head.

    Args:
        path: outside of the journal's folder, and best not restored together with it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._turn = 0

    def keep(self, note: bytes) -> None:
        """Writes the note of an acknowledged commit. Raises OSError."""
        if self._fd < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o600)
        os.pwrite(self._fd, note.ljust(_SLOT_BYTES, b"\0"), self._turn * _SLOT_BYTES)
        self._turn ^= 1

    def close(self) -> None:
        """Syncs, as far as the disk lets it, and closes."""
        if self._fd >= 0:
            with suppress(OSError):
                sync(self._fd)
            os.close(self._fd)
        self._fd = -1


def read_head(path: Path) -> list[Checkpoint]:
    """The heads in the file that parse, largest first; their signatures are not checked.

    Raises:
        JournalError: the file is there but cannot be read.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"cannot read the kept head {path}: {error.strerror}") from error
    found = []
    for start in range(0, len(raw), _SLOT_BYTES):
        try:
            found.append(Checkpoint.parse(raw[start : start + _SLOT_BYTES].rstrip(b"\0")))
        except JournalDamagedError:
            continue
    return sorted(found, key=lambda head: head.size, reverse=True)


def believed(heads: list[Checkpoint], keys: list[VerifierKey]) -> Checkpoint | None:
    """The largest head to be held against a log.

    One whose signature line names a known key but does not verify is a damaged slot. One signed
    by a key that the log does not know is believed: a log rolled back past an epoch looks so.
    """
    known = {key.id: key for key in keys}
    for head in heads:
        if head.origin != keys[0].name:
            continue
        ids = [signature[:4] for _, signature in Note.parse(head.note).signatures]
        mine = [known[identity] for identity in ids if identity in known]
        if not mine or any(head.signed_by(key) for key in mine):
            return head
    return None
