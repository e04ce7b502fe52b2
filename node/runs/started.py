"""What a run begins with, and how its first entry keeps it.

The manifest is kept with the run, so that a run that is resumed or replayed goes on under the one
it began with. `salt` keys the digests of content that may be erased; it is erased with the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter, ValidationError

from node.errors import JournalErasedError, JournalError, JournalVersionError
from node.journal import BlobRef, Draft, Entry, Log
from node.runs.agent import NODE_AGENT, AgentManifest
from node.runs.guards import check_guard_name
from node.runs.owner import payment_in
from node.types import JsonObject


@dataclass(frozen=True)
class Started:
    """A run as `run.started` has it. `forked_from` is the run and step a fork goes on from."""

    id: str
    agent: AgentManifest
    prompt: str
    actor: str
    salt: bytes
    forked_from: tuple[str, str] | None = None
    index: int = -1

    def draft(self, log: Log, *, oldest: int | None, cause: tuple[int, ...] = ()) -> Draft:
        """The entry that starts the run. `oldest`: where the oldest unfinished run started."""
        blobs = (
            log.put_blob(self.prompt.encode("utf-8", "replace"), "prompt"),
            log.put_blob(_manifests().dump_json(self.agent), "manifest"),
            log.put_blob(self.salt, "salt"),
        )
        data: JsonObject = {
            "manifest": self.agent.digest,
            "model": self.agent.model,
            "oldest": oldest,
        }
        if self.forked_from:
            run, step = self.forked_from
            data["forked_from"] = {"run": run, "step": step}
        return Draft(
            type="run.started",
            run=self.id,
            cause=cause,
            agent=self.agent.name,
            actor=self.actor,
            blobs=blobs,
            data=data,
        )


def started_from(log: Log, entry: Entry) -> Started:
    """The run a `run.started` began.

    Raises:
        JournalError: its content was erased or lost.
        JournalVersionError: its manifest, or what the owner asked for, is not of this version.
    """
    blobs = {ref.role: ref for ref in entry.draft.blobs}
    try:
        agent = _manifests().validate_json(_blob(log, blobs, "manifest", entry))
        _check_guards(agent)
        prompt = _blob(log, blobs, "prompt", entry).decode()
        if agent.name == NODE_AGENT:
            payment_in(prompt)
    except UnicodeDecodeError as error:
        raise JournalError(f"entry {entry.index} does not start a run as it must") from error
    except ValueError as error:
        raise _other_version(entry, error) from error
    return Started(
        id=entry.draft.run or "",
        agent=agent,
        prompt=prompt,
        actor=entry.draft.actor,
        salt=_blob(log, blobs, "salt", entry),
        forked_from=forked_in(entry),
        index=entry.index,
    )


def _check_guards(agent: AgentManifest) -> None:
    """Raises ValueError for a guard that would be left out here."""
    for names in vars(agent.guards).values():
        for name in names:
            check_guard_name(name)


def _other_version(entry: Entry, error: ValueError) -> JournalVersionError:
    named = isinstance(error, ValidationError) and error.errors()[0]["loc"]
    what = ".".join(map(str, named)) if named else str(error)
    return JournalVersionError(
        f"run {entry.draft.run} was begun by another version of Freehold, by what this one does "
        f"not know: {what}",
        hint="`freehold audit log --type node.started` names that version; it can go on with the "
        f"run. `freehold runs cancel {entry.draft.run}` ends one that is not over.",
    )


def _blob(log: Log, blobs: dict[str, BlobRef], role: str, entry: Entry) -> bytes:
    if role not in blobs:
        raise JournalError(f"entry {entry.index} starts a run without its {role}")
    try:
        return log.blob(blobs[role])
    except JournalErasedError:
        raise JournalErasedError(
            f"what run {entry.draft.run} began with was erased",
            hint="It cannot be taken up, replayed or forked any more; ask again for a new run.",
        ) from None


def forked_in(started: Entry) -> tuple[str, str] | None:
    """The run and step that a fork goes on from; None for any other run."""
    data = started.data.get("forked_from")
    return (str(data.get("run")), str(data.get("step"))) if isinstance(data, dict) else None


@cache
def _manifests() -> TypeAdapter[AgentManifest]:
    return TypeAdapter(AgentManifest)
