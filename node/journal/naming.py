"""How people name a run: by its id, the first characters of it, or `last`.

The one place that decides it, with a daemon or over a log's folder alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from node.errors import UnknownRunError
from node.journal.types import Entry

LAST = "last"
_SHOWN = 3


def find_run(name: str, newest_first: Iterable[Entry]) -> str:
    """The id of the run that `name` stands for.

    Args:
        name: an id, its first characters, or `last`.
        newest_first: the `run.started` entries, read no further than needed.

    Raises:
        UnknownRunError: no run, or more than one, is meant; the hint says what to do.
    """
    ids = _ids(newest_first)
    if name == LAST:
        return _latest(ids)
    found: list[str] = []
    for run in ids:
        if run == name:
            return run
        if name and run.startswith(name):
            found.append(run)
    if len(found) > 1:
        some = ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        raise UnknownRunError(
            f"{len(found)} runs begin with {name}: {some}",
            hint="Give more characters of the id.",
        )
    if not found:
        raise UnknownRunError(
            f"there is no run {name!r}",
            hint="A run is named by its id, the first characters of it, or `last`; "
            "`freehold runs list` shows them, `freehold audit log --type run.started` without a "
            "daemon.",
        )
    return found[0]


def _ids(entries: Iterable[Entry]) -> Iterator[str]:
    return (entry.draft.run for entry in entries if entry.draft.run)


def _latest(ids: Iterator[str]) -> str:
    for run in ids:
        return run
    raise UnknownRunError("there are no runs yet", hint='`freehold ask AGENT "..."` makes one.')
