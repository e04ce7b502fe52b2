"""Proofs that stand alone: an entry is in the log; an older log is a prefix of a newer.

Inclusion proofs are C2SP tlog-proof. Their `extra` is base64 of a JSON object {"entry": the line,
"seals": [base64 notes], "paths": [[base64 hashes]]}: the entry itself, the seals that lead from the
log's first key to the key that signed the checkpoint, so that whoever knows any epoch's key can
check the proof, and how the entry is in each seal that ended after it. None of it is believed for
standing there: the entry is hashed, the seals are verified, and the first of them that covers the
entry must hold it. So a key stolen today proves nothing of an epoch that ended before.

C2SP has no file form for consistency; the proof is the body that a witness is sent to add a
checkpoint (C2SP tlog-witness): `old N`, the hashes, an empty line, the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from node.errors import JournalDamagedError, JournalError, JournalVersionError
from node.journal.entry import MAX_ENTRY_BYTES, is_later, parse
from node.journal.hashes import HashFiles
from node.journal.note import Checkpoint, VerifierKey, handed_over, to_base64, unbase64
from node.journal.tree import (
    Subtree,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proofs,
    leaf_hash,
)
from node.journal.types import Entry

_FORM = "c2sp.org/tlog-proof@"
_HEADER = f"{_FORM}v1"
_MAX_PROOF = 8 * 1024 * 1024


@dataclass(frozen=True)
class Proof:
    """An inclusion proof taken apart; nothing of it is verified yet."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: Checkpoint
    leaf: bytes
    seals: tuple[Checkpoint, ...]
    paths: tuple[tuple[bytes, ...], ...]

    @classmethod
    def parse(cls, raw: bytes) -> Proof:
        """Raises JournalDamagedError where the bytes are not such a proof, and JournalVersionError
        where they may be one of another version of C2SP's."""
        head, blank, note = raw.partition(b"\n\n")
        lines = _ascii(head).split("\n")
        if lines[0] != _HEADER and lines[0].startswith(_FORM):
            raise JournalVersionError(
                f"this proof is {lines[0][:40]}, and not {_HEADER}",
                hint="Check it with the version of Freehold, or the tool, that made it.",
            )
        whole = len(raw) <= _MAX_PROOF and blank and len(lines) >= 3 and lines[0] == _HEADER
        if not whole or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
            raise JournalDamagedError("this is not an inclusion proof of an entry")
        path = tuple(map(_hash, lines[3:]))
        point, extra = Checkpoint.parse(note), _extra(unbase64(lines[1][6:]))
        return cls(_number(lines[2][6:]), path, point, *extra)

    def check(self, key: VerifierKey) -> Entry:
        """Verifies the proof under any epoch's key of the log.

        Returns:
            The entry that was proved to be in the log.

        Raises:
            JournalDamagedError: it does not prove that.
            JournalVersionError: it proves an entry that this version cannot read.
        """
        keys, seals = _followed(key, self.seals)
        if not any(self.checkpoint.signed_by(one) for one in keys):
            raise JournalDamagedError("the proof's checkpoint is not signed by the log's key")
        if not self._leads_to(self.checkpoint, self.path):
            raise JournalDamagedError(f"the proof does not lead from entry {self.index} to the log")
        paths = dict(zip(_covering(self.seals, self.index), self.paths, strict=False))
        for seal in _covering(seals, self.index)[:1]:
            if not self._leads_to(seal, paths.get(seal, ())):
                raise JournalDamagedError(
                    f"the proof does not lead from entry {self.index} to the seal of its epoch"
                )
        if is_later(self.leaf):
            raise JournalVersionError(
                f"entry {self.index} is in the log, and of a newer version of Freehold",
                hint="Use that version to see what it says.",
            )
        return parse(self.leaf, self.index)

    def _leads_to(self, point: Checkpoint, path: Sequence[bytes]) -> bool:
        return check_inclusion(leaf_hash(self.leaf), self.index, point.size, path, point.root)


def check_proof(raw: bytes, key: VerifierKey) -> Entry:
    """The entry that an inclusion proof proves under a key. Raises JournalDamagedError."""
    return Proof.parse(raw).check(key)


def prove(
    index: int, leaf: bytes, point: Checkpoint, subtree: Subtree, seals: Sequence[Checkpoint]
) -> bytes:
    """The proof that a line is entry `index` of the log at a checkpoint.

    Raises:
        JournalError: there is no such entry, or the stored hashes do not fit the checkpoint.
    """
    if not 0 <= index < point.size:
        raise JournalError(f"there is no entry {index} in a log of {point.size}")
    covering = [point, *_covering(seals, index)]
    path, *paths = inclusion_proofs(index, [one.size for one in covering], subtree)
    if not check_inclusion(leaf_hash(leaf), index, point.size, path, point.root):
        raise _stale()
    about = {
        "entry": leaf.decode(),
        "seals": [to_base64(seal.note) for seal in seals],
        "paths": [list(map(to_base64, hashes)) for hashes in paths],
    }
    extra = json.dumps(about, ensure_ascii=False)
    head = [_HEADER, f"extra {to_base64(extra.encode())}", f"index {index}", *map(to_base64, path)]
    return "\n".join(head).encode() + b"\n\n" + point.note


def prove_consistency(old: int, point: Checkpoint, hashes: HashFiles) -> bytes:
    """The proof that the log at `old` entries is a prefix of the log at a checkpoint.

    Raises:
        JournalError: the log is shorter, or the stored hashes do not fit the checkpoint.
    """
    if not 0 <= old <= point.size:
        raise JournalError(f"the log has {point.size} entries, not {old}")
    path = consistency_proof(old, point.size, hashes.subtree) if old else []
    if old and not check_consistency(old, point.size, hashes.root(old), point.root, path):
        raise _stale()
    return "\n".join([f"old {old}", *map(to_base64, path)]).encode() + b"\n\n" + point.note


def check_extension(raw: bytes, old: Checkpoint, key: VerifierKey) -> Checkpoint:
    """Verifies a consistency proof from an older checkpoint, which is believed as it is.

    Returns:
        The newer checkpoint.

    Raises:
        JournalDamagedError: it does not prove that.
    """
    head, blank, note = raw.partition(b"\n\n")
    lines = _ascii(head).split("\n")
    if not blank or not lines[0].startswith("old ") or _number(lines[0][4:]) != old.size:
        raise JournalDamagedError("this is not a consistency proof from that checkpoint")
    point, path = Checkpoint.parse(note), list(map(_hash, lines[1:]))
    if not point.signed_by(key):
        raise JournalDamagedError("the proof's checkpoint is not signed by the log's key")
    prefix = not path if not old.size else False
    if prefix or check_consistency(old.size, point.size, old.root, point.root, path):
        return point
    raise JournalDamagedError("the older log is not a prefix of the newer")


def _followed(
    key: VerifierKey, seals: Sequence[Checkpoint]
) -> tuple[list[VerifierKey], list[Checkpoint]]:
    """The key and those the seals lead to from it, and the seals that do."""
    keys, followed = [key], []
    for seal in seals:
        if seal.signed_by(keys[-1]):
            keys.append(handed_over(seal, keys[-1]))
            followed.append(seal)
    return keys, followed


def _covering(seals: Sequence[Checkpoint], index: int) -> list[Checkpoint]:
    return [seal for seal in seals if seal.size > index]


def _extra(raw: bytes) -> tuple[bytes, tuple[Checkpoint, ...], tuple[tuple[bytes, ...], ...]]:
    try:
        value = json.loads(raw)
        leaf = value["entry"].encode()
        seals = tuple(Checkpoint.parse(unbase64(seal)) for seal in value["seals"])
        paths = tuple(tuple(map(_hash, path)) for path in value.get("paths", ()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise JournalDamagedError("the proof holds no entry") from error
    if len(leaf) > MAX_ENTRY_BYTES:
        raise JournalDamagedError("the proof's entry is too long")
    return leaf, seals, paths


def _ascii(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise JournalDamagedError("a proof holds bytes that are not ASCII") from error


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 19 or text != str(int(text)):
        raise JournalDamagedError(f"not an index: {text[:40]!r}")
    return int(text)


def _hash(text: str) -> bytes:
    raw = unbase64(text)
    if len(raw) != 32:
        raise JournalDamagedError(f"not a hash: {text[:60]!r}")
    return raw


def _stale() -> JournalError:
    return JournalError(
        "the stored tile hashes do not fit the signed checkpoint",
        hint="Delete the journal's tree folder; it is rebuilt when the log is opened.",
    )
