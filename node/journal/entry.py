"""Entries as bytes: one JSON line each, hashed as written.

The bytes of a line are the leaf of the tree, so there is no canonical form to agree on: who reads
the log hashes what is there. Keys come in one fixed order, so that `{"v":1,"i":N,` at the start of
a line can be checked without parsing it; verification leans on that to stay fast.

A draft is encoded where it was made (its faults are its author's), all but what only the commit
knows: index, time, and the causes that point at drafts of the same call.
"""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring
from typing import Any, NamedTuple, cast

from node.errors import JournalDamagedError, JournalError
from node.journal.types import BlobRef, Draft, Entry, PolicyVerdict
from node.types import JSON_DEPTH, JsonObject, deeper

MAX_ENTRY_BYTES = 65_535
"""Longest entry line, newline not counted: the limit of a tlog-tiles entry bundle."""
MAX_DEPTH = JSON_DEPTH + 32
"""Deepest nesting of `data`: a value and what an entry puts around it."""

_TYPE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*\Z")
_BLOB_ID = re.compile(r"[0-9a-f]{64}\Z")
_LATER = re.compile(rb'\{"v":(?!1,)[1-9][0-9]*,')
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SPACE = re.compile(rb"\s")
_KEYS = ["v", "i", "ts", "boot", "mono", "type", "run", "path", "cause"]
_KEYS += ["agent", "actor", "policy", "blobs", "data"]
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode  # what is circular ends in RecursionError, without a table of all that was seen
_known_types: set[str] = set()


class Prepared(NamedTuple):
    """A draft encoded up to what the commit adds. `before` and `after` surround the causes."""

    before: bytes
    cause: tuple[int, ...]
    after: bytes
    blobs: tuple[BlobRef, ...]


def prepare(draft: Draft) -> Prepared:
    """Encodes a draft.

    Raises:
        JournalError: a field is not what it must be, or the entry would be over 65,535 bytes.
    """
    _check_type(draft.type)
    try:
        policy = draft.policy and _policy(draft.policy)
        before = f'"type":"{draft.type}","run":{_text(draft.run)},"path":{_text(draft.path)},'
        after = (
            f'"agent":{_text(draft.agent)},"actor":{encode_basestring(draft.actor)},'
            f'"policy":{policy or "null"},"blobs":[{",".join(map(_blob, draft.blobs))}],'
            f'"data":{_encode(draft.data) if draft.data else "{}"}}}'
        )
        made = Prepared(before.encode(), draft.cause, after.encode(), draft.blobs)
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(
            f"an entry of type {draft.type} is not JSON: {error}",
            hint="data holds only objects, lists, text, finite numbers, booleans and null.",
        ) from error
    if deeper(made.after[:-1], MAX_DEPTH):  # without the brace that ends the entry
        raise JournalError(
            f"an entry of type {draft.type} is nested over {MAX_DEPTH} deep",
            hint="Keep deep content as a blob and refer to it.",
        )
    if len(made.before) + len(made.after) + 24 * len(draft.cause) + 160 > MAX_ENTRY_BYTES:
        raise JournalError(
            f"an entry of type {draft.type} would be over {MAX_ENTRY_BYTES} bytes",
            hint="Keep large content as a blob and refer to it.",
        )
    return made


def stamp(ts: int, boot: str, mono: int) -> bytes:
    """What all entries of a commit say of their time."""
    return b'"ts":%d,"boot":"%s","mono":%d,' % (ts, boot.encode(), mono)


def line(made: Prepared, index: int, times: bytes) -> bytes:
    """The entry's line without its newline: the leaf. `times` is the commit's `stamp`."""
    before, cause, after, _ = made
    if not cause:
        return b'{"v":1,"i":%d,%s%s"cause":[],%s' % (index, times, before, after)
    named = ",".join([str(c if c >= 0 else index + c) for c in cause]).encode()
    return b'{"v":1,"i":%d,%s%s"cause":[%s],%s' % (index, times, before, named, after)


def parse(raw: bytes, index: int | None = None, *, thorough: bool = False) -> Entry:
    """An entry from its line.

    Args:
        raw: the line without its newline.
        index: the position it was read from, when known; must be what the entry says.
        thorough: whether to check also what no reader here needs, but that all read the same.

    Raises:
        JournalDamagedError: the line is not an entry, or not this one.
    """
    try:
        once = _once if thorough else None
        text = raw.decode()
        entry = _entry(json.loads(text, parse_constant=_no_constant, object_pairs_hook=once))
        if thorough:
            _check_form(raw, entry)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        where = "an entry" if index is None else f"entry {index}"
        raise JournalDamagedError(f"{where} cannot be read: {error}") from error
    if index is not None and entry.index != index:
        raise JournalDamagedError(f"entry {index} says that it is entry {entry.index}")
    return entry


def is_later(raw: bytes) -> bool:
    """Whether a line is an entry of a later version of the format."""
    return _LATER.match(raw) is not None


def entry_json(entry: Entry) -> JsonObject:
    """An entry as the JSON object that its line holds."""
    raw = line(prepare(entry.draft), entry.index, stamp(entry.ts, entry.boot, entry.mono))
    return cast("JsonObject", json.loads(raw))


def _check_type(name: str) -> None:
    if name in _known_types:
        return
    if not isinstance(name, str) or not _is_type(name):
        raise JournalError(f"not an entry type: {name!r}", hint="Use dotted lower case, a.b")
    if len(_known_types) < 1000:
        _known_types.add(name)


def _is_type(name: str) -> bool:
    return len(name) <= 64 and _TYPE.match(name) is not None


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)


def _policy(policy: PolicyVerdict) -> str:
    rule, verdict = encode_basestring(policy.rule), encode_basestring(policy.verdict)
    return f'{{"rule":{rule},"verdict":{verdict}}}'


def _blob(ref: BlobRef) -> str:
    if not _BLOB_ID.match(ref.id):
        raise ValueError(f"not a blob id: {ref.id!r}")
    return f'{{"id":"{ref.id}","len":{ref.size:d},"role":{encode_basestring(ref.role)}}}'


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object in it names a key twice")
    return found


def _check_form(raw: bytes, entry: Entry) -> None:
    if _SPACE.search(_STRING.sub(b"", raw)):
        raise ValueError("there is space between its parts")
    if not _is_type(entry.type):
        raise ValueError(f"its type is {entry.type[:80]!r}")
    if not all(0 <= cause < entry.index for cause in entry.draft.cause):
        raise ValueError("a cause of it is no earlier entry")


def _entry(value: Any) -> Entry:
    if not isinstance(value, dict) or list(value) != _KEYS or value["v"] != 1:
        raise ValueError("not an entry of version 1")
    draft = Draft(
        type=_typed(value, "type", str),
        run=_optional(value, "run"),
        path=_optional(value, "path"),
        cause=tuple(_typed(c, None, int) for c in _typed(value, "cause", list)),
        agent=_optional(value, "agent"),
        actor=_typed(value, "actor", str),
        policy=_policy_of(value["policy"]),
        blobs=tuple(map(_blob_of, _typed(value, "blobs", list))),
        data=_typed(value, "data", dict),
    )
    index, ts, mono = (_typed(value, key, int) for key in ("i", "ts", "mono"))
    return Entry(index, ts, _typed(value, "boot", str), mono, draft)


def _typed(value: Any, key: str | None, kind: type) -> Any:
    found = value if key is None else value[key]
    if type(found) is not kind:
        raise ValueError(f"{key or 'cause'} is not {kind.__name__}")
    return found


def _optional(value: Any, key: str) -> str | None:
    return None if value[key] is None else str(_typed(value, key, str))


def _policy_of(value: Any) -> PolicyVerdict | None:
    if value is None:
        return None
    if not isinstance(value, dict) or list(value) != ["rule", "verdict"]:
        raise ValueError("policy is not {rule, verdict}")
    return PolicyVerdict(_typed(value, "rule", str), _typed(value, "verdict", str))


def _blob_of(value: Any) -> BlobRef:
    if not isinstance(value, dict) or list(value) != ["id", "len", "role"]:
        raise ValueError("a blob is not {id, len, role}")
    identity = _typed(value, "id", str)
    if not _BLOB_ID.match(identity):
        raise ValueError("a blob's id is not 64 hex digits")
    return BlobRef(identity, _typed(value, "len", int), _typed(value, "role", str))
