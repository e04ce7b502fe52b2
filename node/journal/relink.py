"""A new log after an old one was lost or rolled back, linked to it.

An origin never goes back: what was acknowledged and cannot be shown any more stays lost, and the
log says so. The old folder is set aside whole; the new log, of another origin, begins with an
entry `log.linked` that carries the old log's kept head and the head of what was found.
"""

from __future__ import annotations

import base64
from pathlib import Path

from node.clock import Clock
from node.errors import JournalError
from node.journal.head import read_head
from node.journal.journal import Journal
from node.journal.keys import EpochKeys
from node.journal.opening import FolderLock, first_key
from node.journal.reader import tip_checkpoint
from node.journal.types import Draft
from node.types import Json


def relink(
    folder: Path,
    *,
    origin: str,
    head: Path | None = None,
    clock: Clock | None = None,
    keys: EpochKeys | None = None,
    actor: str = "node",
) -> Journal:
    """Sets a log aside as `<folder>.old-<n>` and begins a new one that links it.

    Args:
        folder: of the old log; of the new one afterwards.
        origin: the new log's; not the old one's.
        head: the file of the kept head; by default beside the folder.

    Returns:
        The new log, open.

    Raises:
        JournalBusyError: a process is writing the old log.
        JournalError: there is no old log, or it has this origin.
    """
    head = head or folder.with_name(folder.name + ".head")
    old = first_key(folder)
    if old is None:
        raise JournalError(f"there is no log in {folder} to link")
    if old.name == origin:
        raise JournalError(
            f"the new log cannot be {origin!r} again", hint="Choose another origin, as NAME-2."
        )
    heads = read_head(head)
    data: dict[str, Json] = {
        "origin": old.name,
        "vkey": str(old),
        "kept": _b64(heads[0].note) if heads else None,
        "found": _b64(_found(folder)),
    }
    lock = FolderLock(folder)
    aside = _free(folder)
    folder.rename(aside)
    lock.release()
    if head.exists():
        head.rename(aside.with_name(aside.name + ".head"))
    journal = Journal.open_sync(folder, origin=origin, clock=clock, keys=keys, head=head)
    journal.append_sync(Draft("log.linked", actor=actor, data={**data, "folder": aside.name}))
    return journal


def _found(folder: Path) -> bytes:
    try:
        return tip_checkpoint(folder)
    except JournalError:
        return b""


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _free(folder: Path) -> Path:
    number = 1
    while (path := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    return path
