"""The official vectors of BIP-340 and NIP-44, and events made by nostr-tools."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from wallet.errors import ParseError, UnsupportedError, VerificationError, WalletError
from wallet.nwc import giftwrap, nip44
from wallet.nwc.events import Event
from wallet.nwc.keys import SecretKey, verify

FOLDER = Path(__file__).parents[3] / "shared" / "vectors"
ABSENT = f"no vectors: {FOLDER} does not exist"


def rows(name: str) -> list[Any]:
    path = FOLDER / name
    if not path.exists():
        return []
    if path.suffix == ".csv":
        return list(csv.DictReader(path.read_text().splitlines()))
    found = json.loads(path.read_text())
    return [found] if isinstance(found, dict) else list(found)


def cases(items: list[Any], name: str) -> list[Any]:
    if not items:
        return [pytest.param(None, marks=pytest.mark.skip(reason=ABSENT), id=name)]
    return [pytest.param(item, id=f"{name}[{at}]") for at, item in enumerate(items)]


def nip44_cases(*path: str) -> list[Any]:
    found: Any = (rows("nip44.vectors.json") or [None])[0]
    for step in ("v2", *path):
        found = found[step] if found else []
    return cases(found, "nip44/" + "/".join(path))


BIP340 = cases(rows("bip340_test_vectors.csv"), "bip340")
TOOLS: Any = (rows("nostr_tools_interop.json") or [{}])[0]
MADE = cases([*TOOLS.get("ids", {}).values(), *([TOOLS["wrap"]] if TOOLS else [])], "nostr-tools")
AGENT = cases(rows("agent_events.json"), "agent_events")


@pytest.mark.parametrize("row", BIP340)
def test_bip340(row: dict[str, str]) -> None:
    message, signature = bytes.fromhex(row["message"]), bytes.fromhex(row["signature"])
    right = verify(bytes.fromhex(row["public key"]), message, signature)
    assert right == (row["verification result"] == "TRUE")
    if row["secret key"]:
        key = SecretKey(bytes.fromhex(row["secret key"]))
        assert key.public == row["public key"].lower()
        if len(message) == 32:  # what is signed here is always a digest
            assert key.sign(message, bytes.fromhex(row["aux_rand"])) == signature


@pytest.mark.parametrize("row", nip44_cases("valid", "get_conversation_key"))
def test_conversation_key(row: dict[str, str]) -> None:
    key = nip44.conversation_key(SecretKey(bytes.fromhex(row["sec1"])), row["pub2"])
    assert key.hex() == row["conversation_key"]


@pytest.mark.parametrize("row", nip44_cases("invalid", "get_conversation_key"))
def test_no_conversation_key(row: dict[str, str]) -> None:
    with pytest.raises(ParseError):
        nip44.conversation_key(SecretKey(bytes.fromhex(row["sec1"])), row["pub2"])


@pytest.mark.parametrize("row", nip44_cases("valid", "get_message_keys", "keys"))
def test_message_keys(row: dict[str, str]) -> None:
    shared = rows("nip44.vectors.json")[0]["v2"]["valid"]["get_message_keys"]["conversation_key"]
    keys = nip44.message_keys(bytes.fromhex(shared), bytes.fromhex(row["nonce"]))
    assert keys.chacha_key.hex() == row["chacha_key"]
    assert keys.chacha_nonce.hex() == row["chacha_nonce"]
    assert keys.hmac_key.hex() == row["hmac_key"]


@pytest.mark.parametrize("row", nip44_cases("valid", "calc_padded_len"))
def test_padded_length(row: list[int]) -> None:
    assert nip44.padded_length(row[0]) == row[1]


@pytest.mark.parametrize("row", nip44_cases("valid", "encrypt_decrypt"))
def test_both_ways(row: dict[str, str]) -> None:
    one, two = SecretKey(bytes.fromhex(row["sec1"])), SecretKey(bytes.fromhex(row["sec2"]))
    shared = nip44.conversation_key(one, two.public)
    assert shared.hex() == row["conversation_key"]
    assert shared == nip44.conversation_key(two, one.public)
    nonce = bytes.fromhex(row["nonce"])
    assert nip44.encrypt(row["plaintext"], shared, nonce=nonce) == row["payload"]
    assert nip44.decrypt(row["payload"], shared) == row["plaintext"]


@pytest.mark.parametrize("row", nip44_cases("valid", "encrypt_decrypt_long_msg"))
def test_long_text(row: dict[str, Any]) -> None:
    text, shared = row["pattern"] * row["repeat"], bytes.fromhex(row["conversation_key"])
    assert hashlib.sha256(text.encode()).hexdigest() == row["plaintext_sha256"]
    payload = nip44.encrypt(text, shared, nonce=bytes.fromhex(row["nonce"]))
    assert hashlib.sha256(payload.encode()).hexdigest() == row["payload_sha256"]
    assert nip44.decrypt(payload, shared) == text


@pytest.mark.parametrize("row", nip44_cases("invalid", "encrypt_msg_lengths"))
def test_length_that_cannot_be(row: int) -> None:
    with pytest.raises(ParseError):
        nip44.encrypt("x" * row, bytes(31) + b"\1")


@pytest.mark.parametrize("row", nip44_cases("invalid", "decrypt"))
def test_payload_refused(row: dict[str, str]) -> None:
    kinds = {"unknown": UnsupportedError, "invalid MAC": VerificationError}
    wanted = next((kind for note, kind in kinds.items() if note in row["note"]), ParseError)
    with pytest.raises(WalletError) as caught:
        nip44.decrypt(row["payload"], bytes.fromhex(row["conversation_key"]))
    assert type(caught.value) is wanted


@pytest.mark.parametrize("row", cases([TOOLS["wrap"]] if TOOLS else [], "nostr-tools/wrap"))
def test_a_gift_wrap_of_nostr_tools(row: dict[str, Any]) -> None:
    """Its sender and reader have the secrets 0x11... and 0x22...."""
    rumor = giftwrap.unwrap(SecretKey(b"\x22" * 32), Event.parse(row))
    assert rumor.pubkey == SecretKey(b"\x11" * 32).public
    assert (rumor.kind, rumor.content) == (14, "hello from nostr-tools 🙂")


@pytest.mark.parametrize("row", [*MADE, *AGENT])
def test_event_of_others(row: dict[str, Any]) -> None:
    event = Event.parse(row)
    assert event.to_json() == {**row, "tags": tuple(map(tuple, row["tags"]))}
    with pytest.raises(VerificationError):
        Event.parse({**row, "content": row["content"] + " "})


# SHA-256 of payloads the NIP itself gives for the edge between its two forms of length
@pytest.mark.parametrize(
    ("length", "digest"),
    [
        (65_535, "6d8c2810d1e870fbaa1f0a0937126cca837a15f9260e27060c331d70a3c0bc84"),
        (65_536, "b7b4edb36ba92e267d322d56d9aebc22e7fa96ff52e3c12adc07f07a43cbc616"),
        (65_537, "eeb7c7c5373894ea2c1547cfd3ccb15d5a0b2d619da852e5c79df792dcc9e435"),
    ],
)
def test_extended_length(length: int, digest: str) -> None:
    key = bytes.fromhex("c41c775356fd92eadc63ff5a0dc1da211b268cbea22316767095b2871ea1412d")
    payload = nip44.encrypt("a" * length, key, nonce=bytes(31) + b"\1", limit=100_000)
    assert hashlib.sha256(payload.encode()).hexdigest() == digest
    assert nip44.decrypt(payload, key, limit=100_000) == "a" * length
