"""Steps as entries, and entries as steps.

Small content stays in the entry; anything larger, and all that a person may want erased (prompts,
model output, documents, whatever a private run handles), goes to a blob. A step's digest is what
replay compares. Where the arguments are a blob the digest is keyed with the run's salt, itself a
blob: after erasure a guess at a short text cannot be checked against the log.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import cast

from node import errors
from node.errors import FreeholdError, JournalError, RunError
from node.journal import BlobRef, Draft, Entry, Log, PolicyVerdict
from node.runs.effect import Effect, Label, Needs, Outcome, StepKind, Usage
from node.runs.taint import BOTH
from node.types import Json, JsonObject, canonical

_DIMENSIONS = frozenset(item.name for item in fields(Usage))
INLINE_BYTES = 2048
MESSAGE_CHARS = 2000
TEXT_KINDS = frozenset(
    {StepKind.MODEL, StepKind.RETRIEVAL, StepKind.MESSAGE, StepKind.DELEGATION, StepKind.GUARD}
)


class Scribe:
    """Writes and reads the entries of one run. `salt` is the run's, 32 bytes."""

    def __init__(self, log: Log, *, run: str, agent: str, salt: bytes) -> None:
        self.log = log
        self.run = run
        self.agent = agent
        self._salt = salt
        self._actor = f"agent:{agent}"

    def digest(self, kind: StepKind, raw: bytes, *, private: bool = False) -> str:
        """What identifies a step's arguments on the log, from their canonical form."""
        if self._inline(kind, raw, private):
            return hashlib.sha256(raw).hexdigest()
        return hmac.digest(self._salt, raw, "sha256").hex()

    def matches(self, recorded: str, args: Json) -> bool:
        """Whether a recorded digest, plain or keyed, is that of `args`."""
        raw = canonical(args)
        plain = hashlib.sha256(raw).hexdigest()
        return recorded in (plain, hmac.digest(self._salt, raw, "sha256").hex())

    def intent(
        self,
        path: str,
        effect: Effect,
        raw: bytes,
        policy: PolicyVerdict,
        *,
        private: bool,
        cause: tuple[int, ...],
    ) -> Draft:
        """`step.intent`: what is about to happen, and who let it. `raw` are canonical `args`."""
        data: JsonObject = {
            "kind": str(effect.kind),
            "name": effect.name,
            "digest": self.digest(effect.kind, raw, private=private),
            "needs": needs_json(effect.needs),
        }
        blobs: tuple[BlobRef, ...] = ()
        if self._inline(effect.kind, raw, private):
            data["args"] = effect.args
        else:
            blobs = (self.log.put_blob(raw, "args"),)
        return self.draft("step.intent", path, data, policy=policy, blobs=blobs, cause=cause)

    def result(
        self,
        path: str,
        kind: StepKind,
        outcome: Outcome,
        raw: bytes,
        *,
        private: bool,
        cause: tuple[int, ...],
        more: Mapping[str, Json] | None = None,
    ) -> Draft:
        """`step.result` of a step that came to an outcome. `raw` is its value's canonical form."""
        data: JsonObject = {
            "ok": outcome.ok,
            "usage": usage_json(outcome.usage),
            "labels": cast("list[Json]", sorted(outcome.labels)),
            "seconds": round(outcome.usage.seconds, 6),
            **(more or {}),
        }
        private = private or "private" in outcome.labels
        blobs: tuple[BlobRef, ...] = ()
        if self._inline(kind, raw, private):
            data["value"] = outcome.value
        else:
            blobs = (self.log.put_blob(raw, "value"),)
        return self.draft("step.result", path, data, blobs=blobs, cause=cause)

    def failure(
        self,
        path: str,
        error: FreeholdError,
        usage: Usage,
        *,
        cause: tuple[int, ...],
        more: Mapping[str, Json] | None = None,
    ) -> Draft:
        """`step.result` of a step that was refused or broke."""
        data: JsonObject = {
            "ok": False,
            "error": error_json(error),
            "usage": usage_json(usage),
            "labels": [],
            "seconds": round(usage.seconds, 6),
            **(more or {}),
        }
        return self.draft("step.result", path, data, cause=cause)

    def draft(
        self,
        kind: str,
        path: str | None,
        data: JsonObject,
        *,
        policy: PolicyVerdict | None = None,
        blobs: tuple[BlobRef, ...] = (),
        cause: tuple[int, ...] = (),
        actor: str | None = None,
    ) -> Draft:
        """Any entry of this run."""
        return Draft(
            type=kind,
            run=self.run,
            path=path,
            cause=cause,
            agent=self.agent,
            actor=actor or self._actor,
            policy=policy,
            blobs=blobs,
            data=data,
        )

    def _inline(self, kind: StepKind, content: bytes, private: bool) -> bool:
        return not private and kind not in TEXT_KINDS and len(content) <= INLINE_BYTES


def content(log: Log, entry: Entry, role: str) -> Json:
    """The JSON an entry holds as `role`, inline or as a blob.

    Raises:
        JournalError: the blob was erased or lost, or holds no JSON.
    """
    if role in entry.data:
        return entry.data[role]
    for ref in entry.draft.blobs:
        if ref.role == role:
            return _parse(log.blob(ref), entry)
    raise JournalError(f"entry {entry.index} holds no {role}")


def _parse(raw: bytes, entry: Entry) -> Json:
    try:
        return cast("Json", json.loads(raw))
    except ValueError as error:
        raise JournalError(f"a blob of entry {entry.index} is not JSON") from error


def outcome_of(log: Log, entry: Entry) -> Outcome:
    """The outcome a `step.result` recorded. Raises JournalError if its value cannot be read."""
    labels = frozenset(cast("list[Label]", entry.data.get("labels") or []))
    return Outcome(
        ok=bool(entry.data.get("ok")),
        value=content(log, entry, "value"),
        usage=usage_from(entry.data.get("usage")),
        labels=labels if labels <= BOTH else BOTH,  # one of a newer version may mean any
        replayed=True,
    )


def error_of(entry: Entry) -> FreeholdError | None:
    """The error a `step.result` recorded instead of an outcome."""
    error = entry.data.get("error")
    return error_from(error) if isinstance(error, dict) else None


def error_json(error: FreeholdError) -> JsonObject:
    """An error as it is recorded; never holds arguments."""
    return {
        "type": type(error).__name__,
        "message": error.message[:MESSAGE_CHARS],
        "hint": error.hint[:MESSAGE_CHARS],
    }


def error_from(data: Mapping[str, Json]) -> FreeholdError:
    """The recorded error again, as the class of the tree that it was."""
    message, hint = str(data.get("message", "")), str(data.get("hint", ""))
    kind = getattr(errors, str(data.get("type")), None)
    if not (isinstance(kind, type) and issubclass(kind, FreeholdError)):
        return RunError(message, hint=hint)
    try:
        return kind(message, hint=hint)
    except TypeError:
        return RunError(message, hint=hint)


def needs_json(needs: Needs) -> JsonObject:
    """What an effect needs, as the log keeps it."""
    tool: JsonObject = {"tool": needs.tool} if needs.tool else {}
    return {
        **tool,
        "usage": usage_json(needs.usage),
        "capabilities": cast("list[Json]", sorted(needs.capabilities)),
        "destinations": cast("list[Json]", places_of(needs)),
        "traceless": needs.traceless,
    }


def needs_in(intent: Entry) -> Usage:
    """The most a `step.intent` let its step use."""
    needs = intent.data.get("needs")
    return usage_from(needs.get("usage") if isinstance(needs, dict) else None)


def places_of(needs: Needs) -> list[str]:
    """Where an effect can send, as the log keeps it."""
    return [place[:200] for place in needs.destinations[:50]]


def usage_json(usage: Usage) -> JsonObject:
    """The dimensions that are not zero."""
    return {name: value for name, value in vars(usage).items() if value}


def usage_from(data: object) -> Usage:
    """The usage an entry recorded; unknown dimensions are left out."""
    if not isinstance(data, dict):
        return Usage()
    return Usage(**{name: value for name, value in data.items() if name in _DIMENSIONS})
