"""Erasing what a run handled. The log stays valid: it knows content by its hash alone."""

from __future__ import annotations

from collections.abc import Iterable

from node.errors import JournalErasedError, JournalError, JournalWriteError
from node.journal import Entry
from node.runs.survey import RunLog


def content_of(entries: Iterable[Entry]) -> set[str]:
    """The ids of all content that entries refer to."""
    return {ref.id for entry in entries for ref in entry.draft.blobs}


async def erase(log: RunLog, content: Iterable[str], actor: str) -> int:
    """Erases content by id; how much of it had not been erased before.

    Raises:
        JournalError: of some of it, as where its keys are lost, that could not be done.
    """
    erased, failed = 0, None
    for identity in sorted(content):
        try:
            await log.erase(identity, actor=actor)
        except JournalErasedError:
            continue
        except JournalWriteError:
            raise
        except JournalError as error:  # of this piece; the others must not stay for it
            failed = failed or error
        else:
            erased += 1
    if failed is not None:
        raise failed
    return erased
