"""Requests that are sent again, as by who lost the answer, and begin one run all the same.

Who asks gives each request a key of their own; the run's id follows from it, so that the log itself
says whether the run was begun, also after a crash (draft-ietf-httpapi-idempotency-key-header).
"""

from __future__ import annotations

import secrets
from base64 import b32encode
from collections.abc import Callable
from hashlib import sha256

from node.errors import JournalError, JournalReadError, RequestError
from node.journal import Log
from node.runs.finished import text_in
from node.types import canonical

_ID_BYTES = 10


def new_id(random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """The id of a run that has no key."""
    return _id(random(_ID_BYTES))


def id_of(key: str, actor: str) -> str:
    """The id of the run that whoever asks begins with this key."""
    return _id(sha256(canonical([actor, key])).digest()[:_ID_BYTES])


def was_begun(log: Log, run_id: str, agent: str, prompt: str) -> bool:
    """Whether the log has the run.

    Raises:
        RequestError: it does, and it is another one.
        JournalReadError: that cannot be told.
    """
    entries = log.run_entries(run_id)
    if not entries:
        return False
    first = entries[0]
    try:
        said = text_in(log, first, "prompt") or prompt  # none, where its beginning was pruned
    except JournalReadError:
        raise
    except JournalError:  # erased or lost: the key still says that it is the same
        said = prompt
    if (first.draft.agent, said) != (agent, prompt):
        raise RequestError(
            f"that key began run {run_id}, which was asked something else",
            hint="Every new request needs a key of its own; nothing was begun.",
        )
    return True


def _id(raw: bytes) -> str:
    return "r-" + b32encode(raw).decode().lower()
