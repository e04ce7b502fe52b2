"""Signed notes (C2SP signed-note) and checkpoints (C2SP tlog-checkpoint), Ed25519.

A commit of the log is a checkpoint with one or two extension lines:

    prev <base64 of SHA-256 of the commit line before>      always
    next <vkey>                                             in a sealing checkpoint

`prev` chains the commit lines, so that one signature at the end of a segment vouches for all of
the lines before it and a verifier need not check each. `next` hands over to the next epoch's key.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64decode
from binascii import b2a_base64
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from node.errors import JournalDamagedError, JournalError

_ED25519 = b"\x01"
_DASH = "\N{EM DASH} "
_MAX_NOTE = 128 * 1024  # 16 signatures of almost 5 kB, as C2SP asks
_MAX_SIZE = 1 << 62
_NAME = re.compile(r"[!-*,-~]{1,128}\Z")  # ASCII that can be seen, but for "+"
_SEAL_LINES = 2  # `prev` and `next`
_NO_NAME = re.compile(r"[\s+]")  # what no other signer's has, either
_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})\Z")


def to_base64(raw: bytes) -> str:
    """Standard base64, padded."""
    return b2a_base64(raw, newline=False).decode()


def unbase64(text: str) -> bytes:
    """Bytes of canonical standard base64. Raises JournalDamagedError."""
    try:
        raw = b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise JournalDamagedError(f"not base64: {text[:40]!r}") from error
    if to_base64(raw) != text:
        raise JournalDamagedError(f"not canonical base64: {text[:40]!r}")
    return raw


def key_id(name: str, public: bytes) -> bytes:
    """The four bytes by which signature lines name a key."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


@dataclass(frozen=True)
class VerifierKey:
    """A vkey: name, and 32 bytes of Ed25519 public key."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """From `name+hex id+base64 key`. Raises JournalError."""
        parts = text.split("+", 2)
        if len(parts) != 3 or not _NAME.match(parts[0]):
            raise JournalError(f"not a verifier key: {text[:80]!r}", hint=_VKEY_HINT)
        try:
            raw = unbase64(parts[2])
        except JournalDamagedError as error:
            raise JournalError(f"not a verifier key: {error.message}", hint=_VKEY_HINT) from error
        if len(raw) != 33 or raw[:1] != _ED25519:
            raise JournalError("the verifier key is not an Ed25519 key", hint=_VKEY_HINT)
        key = cls(parts[0], raw[1:])
        if key.id.hex() != parts[1]:
            raise JournalError("the verifier key's id is not that of its key", hint=_VKEY_HINT)
        return key

    @property
    def id(self) -> bytes:
        """Four bytes."""
        return key_id(self.name, self.public)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{to_base64(_ED25519 + self.public)}"

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Whether the 64-byte signature is this key's over the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


_VKEY_HINT = "A key looks like example.org/log+0123abcd+AWx5...; the log's is in log.vkey."


class Signer:
    """An Ed25519 secret that signs notes under a name."""

    def __init__(self, name: str, seed: bytes) -> None:
        if not _NAME.match(name):
            raise JournalError(
                f"not an origin: {name!r}",
                hint="Use a URL without scheme: ASCII, no spaces, no plus, at most 128 characters.",
            )
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = VerifierKey(name, self._private.public_key().public_bytes_raw())
        self._line = f"\n{_DASH}{name} ".encode()
        self._id = self.key.id

    def sign(self, text: bytes) -> bytes:
        """The note: text, blank line, signature line. `text` ends in a newline."""
        signature = self._id + self._private.sign(text)
        return b"%s%s%s" % (text, self._line, b2a_base64(signature))


@dataclass(frozen=True)
class Note:
    """A note taken apart; nothing of it is verified yet."""

    text: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @classmethod
    def parse(cls, raw: bytes) -> Note:
        """Raises JournalDamagedError where the bytes are not a signed note."""
        if len(raw) > _MAX_NOTE:
            raise JournalDamagedError(f"a note of {len(raw)} bytes is too long")
        try:
            whole = raw.decode()
        except UnicodeDecodeError as error:
            raise JournalDamagedError("a note is not UTF-8") from error
        if any(c < " " and c != "\n" for c in whole):
            raise JournalDamagedError("a note holds control characters")
        text, blank, lines = whole.rpartition("\n\n")
        if not blank or not text or not lines.endswith("\n"):
            raise JournalDamagedError("a note has no signature block")
        signatures = tuple(map(_signature, lines[:-1].split("\n")))
        return cls(f"{text}\n".encode(), signatures)

    def signed_by(self, key: VerifierKey) -> bool:
        """Whether `key` signed. False also where one of its signatures is not valid."""
        raw = key.id
        mine = [sig[4:] for name, sig in self.signatures if name == key.name and sig[:4] == raw]
        return bool(mine) and all(key.verifies(self.text, sig) for sig in mine)


@dataclass(frozen=True)
class Checkpoint:
    """A tree head, and the note it came in. `extra` are the extension lines."""

    origin: str
    size: int
    root: bytes
    extra: tuple[str, ...] = ()
    note: bytes = b""

    @classmethod
    def parse(cls, note: bytes) -> Checkpoint:
        """From a signed note; its signatures are not verified. Raises JournalDamagedError."""
        lines = Note.parse(note).text.decode()[:-1].split("\n")
        if len(lines) < 3 or not all(lines) or not _SIZE.match(lines[1]):
            raise JournalDamagedError("a note is not a checkpoint")
        root = unbase64(lines[2])
        if len(root) != 32 or int(lines[1]) > _MAX_SIZE:
            raise JournalDamagedError("a checkpoint's root or size is not one")
        return cls(lines[0], int(lines[1]), root, tuple(lines[3:]), note)

    def signed_by(self, key: VerifierKey) -> bool:
        """Whether the note holds this key's valid signature."""
        return self.origin == key.name and Note.parse(self.note).signed_by(key)

    def extension(self, name: str) -> str | None:
        """What stands after `name ` on the first extension line that starts so."""
        found = (x[len(name) + 1 :] for x in self.extra if x.startswith(name + " "))
        return next(found, None)


def commit_text(
    origin: str, size: int, root: bytes, previous: bytes, following: VerifierKey | None = None
) -> bytes:
    """The text of a commit's note: a checkpoint, `prev`, and in a seal `next`."""
    seal = f"next {following}\n" if following else ""
    return f"{origin}\n{size}\n{to_base64(root)}\nprev {to_base64(previous)}\n{seal}".encode()


def commit_line(note: bytes) -> bytes:
    """The line of the segment file that carries a note, without its newline."""
    return b"=" + b2a_base64(note, newline=False)


def handed_over(seal: Checkpoint, key: VerifierKey) -> VerifierKey:
    """The next epoch's key, which `key` names in a seal. Raises JournalDamagedError."""
    following = seal.extension("next")
    if following is None or len(seal.extra) != _SEAL_LINES or not seal.signed_by(key):
        raise JournalDamagedError(f"the seal at entry {seal.size} is not its epoch key's")
    try:
        parsed = VerifierKey.parse(following)
    except JournalError as error:
        raise JournalDamagedError(f"the seal at {seal.size} names no key") from error
    if parsed.name != key.name:
        raise JournalDamagedError(f"the seal at {seal.size} names a key of {parsed.name!r}")
    return parsed


def _signature(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not name or _NO_NAME.search(name):
        raise JournalDamagedError("a note's signature line is not one")
    raw = unbase64(encoded)
    if len(raw) < 5:
        raise JournalDamagedError("a note's signature is too short")
    return name, raw
