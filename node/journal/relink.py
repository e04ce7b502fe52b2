"""A new log after an old one was lost or rolled back, linked to it.

An origin never goes back: what was acknowledged and cannot be shown any more stays lost, and the
log says so. The old folder is set aside whole; the new log, of another origin, begins with an
entry `log.linked` that carries the old log's kept head and the head of what was found.

The new log is made beside the old one, whole, and takes its place only then; the old kept head goes
last. Where it is interrupted, no log can be opened that forgets the old one, and it can be done
again.
"""

from __future__ import annotations

import shutil
from contextlib import closing, suppress
from pathlib import Path

from node.disk import sync_folder
from node.errors import JournalError
from node.journal.head import head_beside, read_head
from node.journal.journal import Journal
from node.journal.lock import FolderLock
from node.journal.note import VerifierKey, to_base64
from node.journal.opening import first_key
from node.journal.reader import tip_checkpoint
from node.journal.types import Draft
from node.types import Json


def relink(folder: Path, *, origin: str, actor: str = "node") -> Journal:
    """Sets a log aside as `<folder>.old-<n>` and begins a new one that links it.

    Args:
        folder: of the old log; of the new one afterwards. Where the old one is gone, its kept head,
            the file beside it, is linked.
        origin: the new log's; not the old one's.

    Returns:
        The new log, open.

    Raises:
        JournalBusyError: a process is writing the old log.
        JournalError: there is neither an old log nor its kept head, or it has this origin; or the
            disk refuses.
    """
    head, made = head_beside(folder), _beside(folder, "new")
    old, aside = _old(folder), _asides(folder)[-1]
    _linked(old, head, origin)  # before a lock is put where there is nothing
    try:
        lock = FolderLock(folder) if folder.is_dir() else None
        try:
            shutil.rmtree(made, ignore_errors=True)
            head_beside(made).unlink(missing_ok=True)
            data = _linked(old, head, origin)
            data["folder"] = (aside if old == folder else old).name
            with closing(Journal.open_sync(made, origin=origin)) as journal:
                journal.append_sync(Draft("log.linked", actor=actor, data=data))
            if lock:
                folder.rename(aside)
        finally:
            if lock:
                lock.release()
        made.rename(folder)
        with suppress(FileNotFoundError):
            shutil.copyfile(head, head_beside(aside if old == folder else old))
        # until here the old head is there, and binds no other origin
        head_beside(made).replace(head)
        sync_folder(folder.parent)
    except OSError as error:
        raise JournalError(
            f"the log in {folder} cannot be linked: {error.strerror or error}",
            hint="Free some space, or check the disk, and do it again.",
        ) from error
    return Journal.open_sync(folder, origin=origin)


def _linked(old: Path, head: Path, origin: str) -> dict[str, Json]:
    """What the new log says of the old one."""
    key, heads = _key(old), read_head(head)
    if key is None and not heads:
        raise JournalError(f"there is no log in {old} to link")
    name = key.name if key else heads[0].origin
    if name == origin:
        raise JournalError(
            f"the new log cannot be {origin!r} again", hint="Choose another origin, as NAME-2."
        )
    return {
        "origin": name,
        "vkey": str(key) if key else None,
        "kept": to_base64(heads[0].note) if heads else None,
        "found": to_base64(_found(old)),
    }


def _key(folder: Path) -> VerifierKey | None:
    with suppress(JournalError):
        return first_key(folder)
    return None


def _found(folder: Path) -> bytes:
    try:
        return tip_checkpoint(folder)
    except JournalError:
        return b""


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f"{folder.name}.{what}")


def _old(folder: Path) -> Path:
    """Where the old log is: where an attempt that was interrupted has put it, or in its place."""
    before = [path for path in _asides(folder) if path.exists()]
    is_cut_off = _key(folder) is None and head_beside(folder).exists()
    if before and is_cut_off and not head_beside(before[-1]).exists():
        return before[-1]
    return folder


def _asides(folder: Path) -> list[Path]:
    """The names of logs that were set aside, and the next that is free."""
    found = [_beside(folder, "old-1")]
    while found[-1].exists():
        found.append(_beside(folder, f"old-{len(found) + 1}"))
    return found
