"""A verifier written from docs/journal.md alone: it shares no code with the journal's own."""

from __future__ import annotations

import asyncio
import hashlib
import json
from base64 import b64decode, b64encode
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from node.journal import Draft, Journal, PolicyVerdict

KEYS = ["v", "i", "ts", "boot", "mono", "type", "run", "path", "cause"]
KEYS += ["agent", "actor", "policy", "blobs", "data"]


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha(b"")
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha(b"\x01" + root(leaves[:half]) + root(leaves[half:]))


def check_signature(note: bytes, vkey: str) -> None:
    name, key_id, key = vkey.split("+", 2)
    public = b64decode(key)
    assert public[0] == 1
    assert sha(name.encode() + b"\n" + public)[:4].hex() == key_id
    text, _, signature = note.rpartition(b"\n\n")
    dash, signer, encoded = signature.decode().strip().split(" ")
    raw = b64decode(encoded)
    assert (dash, signer, raw[:4].hex()) == ("\u2014", name, key_id)
    Ed25519PublicKey.from_public_bytes(public[1:]).verify(raw[4:], text + b"\n")


def verify(folder: Path) -> int:
    """Raises if anything is not as the page says; returns the number of entries."""
    vkey = (folder / "log.vkey").read_text().removesuffix("\n")
    origin, leaves, previous = vkey.split("+")[0], [], bytes(32)
    paths = sorted(folder.glob("*.jsonl"))
    for path in paths:
        assert path.stem == f"{len(leaves):012d}"
        raw = path.read_bytes()
        if path == paths[-1]:
            assert len(raw) - len(raw.rstrip(b"\0")) <= 262_144
            raw = raw.rstrip(b"\0")
        lines = raw.split(b"\n")
        assert lines.pop() == b""
        note, following = b"", []
        for line in lines:
            assert not following
            if not line.startswith(b"="):
                assert line.startswith(b'{"v":1,"i":%d,"ts":' % len(leaves))
                assert len(line) <= 65_535
                assert list(json.loads(line)) == KEYS
                leaves.append(sha(b"\x00" + line))
                continue
            note = b64decode(line[1:], validate=True)
            assert b64encode(note) == line[1:]
            text = note.rpartition(b"\n\n")[0].decode().split("\n")
            assert text[:2] == [origin, str(len(leaves))]
            assert text[2] == b64encode(root(leaves)).decode()
            assert text[3] == f"prev {b64encode(previous).decode()}"
            following, previous = text[4:], sha(line)
        assert lines[-1].startswith(b"=")
        check_signature(note, vkey)
        if path != paths[-1]:
            (sealed,) = following
            vkey = sealed.removeprefix("next ")
    return len(leaves)


def content(folder: Path, identity: str) -> bytes | None:
    """A blob, or None where it was erased."""
    for keys in (folder / "blobs").glob("*.keys"):
        raw = keys.read_bytes()
        for slot in (raw[at : at + 128] for at in range(0, len(raw), 128)):
            if slot[:32].hex() != identity:
                continue
            salt, key = slot[32:64], slot[64:96]
            at, length = (int.from_bytes(slot[n : n + 8], "big") for n in (96, 104))
            assert slot[112:120] == sha(slot[:32] + slot[96:112])[:8]
            if salt + key == bytes(64):
                return None
            assert slot[120:128] == sha(salt + key)[:8]
            sealed = keys.with_suffix(".pack").read_bytes()[at : at + length]
            assert sha(salt + sealed).hex() == identity
            return ChaCha20Poly1305(key).decrypt(bytes(12), sealed, None)
    raise AssertionError(f"no slot of {identity}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    async def write() -> None:
        journal = await Journal.open(tmp_path / "journal", origin="a.example/log")
        for number in range(3):
            kept, gone = (journal.put_blob(b"%d" % number, role) for role in ("kept", "gone"))
            draft = Draft(
                "a.b", run="r\u00e4", blobs=(kept, gone), policy=PolicyVerdict("p", "allow")
            )
            await journal.append(draft, Draft("a.c", cause=(-1,), data={"text": 'a\n"b"'}))
            await journal.erase(gone)
            await journal.rotate()
        await journal.append(Draft("a.d"))
        await journal.aclose()

    asyncio.run(write())
    return tmp_path / "journal"


def test_the_page_describes_the_log(folder: Path) -> None:
    assert verify(folder) == 10
    entries = [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
        if line.startswith(b"{")
    ]
    found = [(ref["role"], content(folder, ref["id"])) for e in entries for ref in e["blobs"]]
    assert found == [
        pair for number in range(3) for pair in (("kept", b"%d" % number), ("gone", None))
    ]


def test_room_that_a_writer_made_ahead_is_none_of_it(folder: Path) -> None:
    with closing(Journal.open_sync(folder, origin="a.example/log")) as journal:
        journal.append_sync(Draft("a.e"))
        assert sorted(folder.glob("*.jsonl"))[-1].read_bytes().endswith(b"\0")
        assert verify(folder) == 11


def test_it_sees_what_is_changed(folder: Path) -> None:
    path = sorted(folder.glob("*.jsonl"))[1]
    good = path.read_bytes()
    for at in range(0, len(good), 11):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises((AssertionError, ValueError, InvalidSignature)):
            verify(folder)
