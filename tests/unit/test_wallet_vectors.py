"""The official vectors of the NUTs, one test an entry of `cashu_nuts.json`.

The test's id is the NUT, the entry's place and its title. An entry that belongs to a mint's side is
skipped and says so; one that nobody claimed fails.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest

from wallet.errors import ParseError, VerificationError
from wallet.protocol import (
    blindkeys,
    curve,
    dleq,
    keysets,
    nip19,
    outputs,
    p2pk,
    proofs,
    quotes,
    requests,
    tokens,
    witness,
)
from wallet.protocol.derivation import Seed
from wallet.types import BlindedMessage, Dleq, KeysetInfo, Proof, Token

FILE = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "cashu_nuts.json"
NUTS = ("00", "01", "02", "11-test", "12", "13", "18", "20-test", "26-test", "28", "29")
VECTORS: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_text()) if FILE.exists() else {}
CHECKS: dict[tuple[str, int], Callable[[], None]] = {}
MINTS_SIDE = {
    ("29", 1): "a mint's answer, with placeholders for its points",
    ("29", 2): "a mint refuses quotes that it does not know",
    ("29", 3): "a mint refuses quotes that it does not know",
    ("29", 4): "a mint refuses a batch with one quote that it does not know",
    ("29", 7): "a mint refuses quotes of another method",
}
H = bytes.fromhex


def vector(nut: str, *places: int) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(check: Callable[[], None]) -> Callable[[], None]:
        CHECKS.update(dict.fromkeys(((nut, place) for place in places), check))
        return check

    return register


def data(nut: str, place: int) -> Any:
    return VECTORS[nut][place]["data"]


def entries() -> list[Any]:
    found = [(nut, place) for nut in NUTS for place in range(len(VECTORS.get(nut, ())))]
    return [
        pytest.param(
            *entry, id=f"NUT-{entry[0][:2]}-{entry[1]}-{VECTORS[entry[0]][entry[1]]['case']}"
        )
        for entry in found
    ]


@pytest.mark.skipif(not VECTORS, reason="no ../shared/vectors beside this checkout")
@pytest.mark.parametrize(("nut", "place"), entries())
def test_vector(nut: str, place: int) -> None:
    if (nut, place) in MINTS_SIDE:
        pytest.skip(MINTS_SIDE[nut, place])
    CHECKS[nut, place]()


def labelled(text: str, *names: str) -> list[tuple[str, ...]]:
    """The values of `name: value` lines, in the order they come."""
    columns = [re.findall(rf"^{name}:\s+\"?([0-9a-f]+)", text, re.M) for name in names]
    return list(zip(*columns, strict=True))


def keys_of(value: dict[str, str]) -> dict[int, bytes]:
    return {int(amount): H(key) for amount, key in value.items()}


# ── NUT-00 ──────────────────────────────────────────────────────────────────────────────────


@vector("00", 0)
def hash_to_curve() -> None:
    found = labelled(data("00", 0), "Message", "Point")
    assert len(found) == 3
    for message, point in found:
        assert curve.hash_to_curve(H(message)) == H(point)


@vector("00", 1)
def blinded_messages() -> None:
    found = labelled(data("00", 1), "x", "r", "B_")
    assert len(found) == 2
    for x, r, b in found:
        made = curve.add(curve.hashed(H(x)), curve.generated(H(r)))
        assert curve.to_bytes(made) == H(b)


@vector("00", 2)
def blind_signatures() -> None:
    found = labelled(data("00", 2), "mint private key", "B_", "C_")
    assert len(found) == 2
    for private, b, c in found:
        assert curve.sign(H(b), H(private)) == H(c)


@vector("00", 3, 4)
def token_v3() -> None:
    value, text = data("00", 3), data("00", 4)
    token = tokens.decode(text)
    assert token == Token(
        "https://8333.space:3338",
        "sat",
        proofs.list_from_json(value["token"][0]["proofs"]),
        "Thank you.",
    )
    assert tokens.encode(token, version=3) == text


@vector("00", 5)
def token_v3_wrong_prefixes() -> None:
    texts = [line for line in data("00", 5).splitlines() if line and not line.startswith("#")]
    assert len(texts) == 2
    for text in texts:
        with pytest.raises(ParseError):
            tokens.decode(text)


@vector("00", 6)
def token_v3_again() -> None:
    assert tokens.decode(data("00", 6)).amount == 10


@vector("00", 7)
def token_v3_padding() -> None:
    padded, bare = [line for line in data("00", 7).splitlines() if line.startswith("cashu")]
    assert padded.endswith("=")
    assert tokens.decode(padded) == tokens.decode(bare)
    assert tokens.encode(tokens.decode(padded), version=3) == bare


def diagnostic(text: str) -> Any:
    """CBOR's diagnostic notation, as far as the vectors use it."""
    return json.loads(re.sub(r",(\s*[}\]])", r"\1", re.sub(r"h'(\w*)'", r'"\1"', text)))


def same_token(token: Token, value: dict[str, Any]) -> None:
    assert (token.mint, token.unit, token.memo) == (value["m"], value["u"], value.get("d"))
    assert token.proofs == tuple(
        Proof(proof["a"], group["i"], proof["s"], H(proof["c"]))
        for group in value["t"]
        for proof in group["p"]
    )


@vector("00", 8, 9)
def token_v4_one_keyset() -> None:
    token = tokens.decode(data("00", 9))
    same_token(token, diagnostic(data("00", 8)))
    assert tokens.encode(token) == data("00", 9).rstrip("=")


@vector("00", 10, 11)
def token_v4_keysets() -> None:
    token = tokens.decode(data("00", 11))
    same_token(token, diagnostic(data("00", 10)))
    assert tokens.encode(token) == data("00", 11)


@vector("00", 12)
def token_v4_raw() -> None:
    value = diagnostic(data("00", 12))
    binary = {**value, "t": [dict(group) for group in value["t"]]}
    for group in binary["t"]:
        group["i"] = H(group["i"])
        group["p"] = [{**proof, "c": H(proof["c"])} for proof in group["p"]]
    raw = b"crawB" + cbor2.dumps(binary)
    token = tokens.decode_raw(raw)
    same_token(token, value)
    assert tokens.encode_raw(token) == raw


# ── NUT-01, NUT-02 ──────────────────────────────────────────────────────────────────────────


def info(keyset: str, **more: Any) -> KeysetInfo:
    return KeysetInfo(keyset, "sat", **more)


@vector("01", 0)
@vector("01", 1)
def keys_refused() -> None:
    for place in (0, 1):
        keys = keys_of(data("01", place))
        honest = info(keysets.keyset_id(keys, unit="sat", version=1))
        with pytest.raises(VerificationError, match="a key that is none"):
            keysets.checked(honest, keys)


@vector("01", 2, 3)
def keys_accepted() -> None:
    for place in (2, 3):
        keys = keys_of(data("01", place))
        for version in (1, 2):
            keyset = keysets.keyset_id(keys, unit="sat", version=version)
            assert keysets.checked(info(keyset), keys).keys == keys
    assert max(keys) == 2**63


KEYSETS: dict[int, KeysetInfo] = {
    0: info("00456a94ab4e1c46"),
    1: info("000f01df73ea149a"),
    2: info(
        "015ba18a8adcd02e715a58358eb618da4a4b3791151a4bee5e968bb88406ccf76a",
        input_fee_ppk=100,
        final_expiry=2059210353,
    ),
    3: info(
        "01ab6aa4ff30390da34986d84be5274b48ad7a74265d791095bfc39f4098d9764f",
        final_expiry=2059210353,
    ),
    4: info("012fbb01a4e200c76df911eeba3b8fe1831202914b24664f4bccbd25852a6708f8"),
}


def keyset_id(place: int) -> Callable[[], None]:
    def check() -> None:
        keys = keys_of(data("02", place))
        assert keysets.checked(KEYSETS[place], keys).id == KEYSETS[place].id
        with pytest.raises(VerificationError):
            keysets.checked(KEYSETS[place], {**keys, 1: keys[2]})

    return check


for _place in KEYSETS:
    vector("02", _place)(keyset_id(_place))


# ── NUT-11, NUT-14 ──────────────────────────────────────────────────────────────────────────

NOW = 1_790_000_000


def proof(value: dict[str, Any]) -> Proof:
    return proofs.from_json(value)


def message(value: dict[str, Any]) -> BlindedMessage:
    return BlindedMessage(value["amount"], value["id"], H(value["B_"]))


def opened(place: int, now: float = NOW) -> None:
    """The proof, swap or melt of an entry, as a mint checks it."""
    value = data("11-test", place)
    whole = "inputs" in value
    witness.check(
        [proof(each) for each in value["inputs"]] if whole else [proof(value)],
        [message(each) for each in value["outputs"]] if whole else [],
        now=now,
        quote=value.get("quote"),
    )


@vector("11-test", 0)
def multisig_lock() -> None:
    lock = p2pk.lock_of(data("11-test", 0)["secret"])
    assert lock is not None
    assert (len(lock.keys), lock.n_sigs, lock.locktime) == (3, 2, 21)
    assert (len(lock.refund), lock.n_sigs_refund, lock.sig_all) == (2, 1, False)
    with pytest.raises(VerificationError):
        opened(0)


@vector("11-test", 1)
def locktime_multisig() -> None:
    opened(1)
    opened(1, now=20)


@vector("11-test", 2)
def refund_multisig() -> None:
    opened(2)
    with pytest.raises(VerificationError):
        opened(2, now=21)


def valid(place: int) -> Callable[[], None]:
    return lambda: opened(place)


def invalid(place: int) -> Callable[[], None]:
    def check() -> None:
        with pytest.raises(VerificationError):
            opened(place)

    return check


for _place in (3, 5, 7, 9, 11, 13, 14, 15, 17, 18, 20, 21):
    vector("11-test", _place)(valid(_place))
for _place in (4, 6, 8, 12, 16):
    vector("11-test", _place)(invalid(_place))


def message_for_all(place: int, request: int, digest: str) -> Callable[[], None]:
    def check() -> None:
        value = data("11-test", request)
        text = witness.message_for_all(
            [proof(each) for each in value["inputs"]],
            [message(each) for each in value["outputs"]],
            value.get("quote"),
        )
        assert text == data("11-test", place).strip()
        assert hashlib.sha256(text.encode()).hexdigest() == digest

    return check


vector("11-test", 10)(
    message_for_all(10, 9, "de7f9e3ca0fcc5ed3258fcf83dbf1be7fa78a5ed6da7bf2aa60d61e9dc6eb09a")
)
vector("11-test", 19)(
    message_for_all(19, 18, "9efa1067cc7dc870f4074f695115829c3cd817a6866c3b84e9814adf3c3cf262")
)


# ── NUT-12 ──────────────────────────────────────────────────────────────────────────────────


def dleq_of(value: dict[str, str]) -> Dleq:
    return Dleq(H(value["e"]), H(value["s"]), H(value["r"]) if "r" in value else None)


@vector("12", 0, 1)
def challenge() -> None:
    points = re.findall(r'"([0-9a-f]{66})"', data("12", 0))
    assert len(points) == 4
    (expected,) = re.findall(r'"([0-9a-f]{64})"', data("12", 1))
    assert dleq.hash_e(*(curve.point(H(point)) for point in points)).hex() == expected


@vector("12", 2, 3)
def deterministic_nonce() -> None:
    ((a, key, b, c_),) = labelled(data("12", 2), "a", "A", "B_", "C_")
    ((e, s),) = labelled(data("12", 3), "e", "s")
    assert curve.public(H(a)) == H(key)
    assert curve.sign(H(b), H(a)) == H(c_)
    assert dleq.prove(H(a), H(b)) == Dleq(H(e), H(s))
    assert dleq.verify_signature(H(key), H(b), H(c_), Dleq(H(e), H(s)))


@vector("12", 4, 5)
def signature_dleq() -> None:
    ((key, b),) = labelled(data("12", 4), "A", "B_")
    value = data("12", 5)
    holds = dleq_of(value["dleq"])
    assert dleq.verify_signature(H(key), H(b), H(value["C_"]), holds)
    assert not dleq.verify_signature(H(key), H(b), H(value["C_"]), Dleq(holds.s, holds.e))


@vector("12", 6, 7)
def proof_dleq() -> None:
    ((key,),) = labelled(data("12", 6), "A")
    assert dleq.verify_proof(H(key), proof(data("12", 7)))
    other = proof({**data("12", 7), "secret": "00" * 32})
    assert not dleq.verify_proof(H(key), other)


# ── NUT-13 ──────────────────────────────────────────────────────────────────────────────────


@vector("13", 0)
def keyset_as_number() -> None:
    value = data("13", 0)
    assert int(value["keyset_id"], 16) % (2**31 - 1) == value["keyest_id_int"]
    derived(2, 3, value["keyset_id"])


def derived(secrets: int, scalars: int, keyset: str) -> None:
    seed = Seed.from_words(data("13", 1)["mnemonic"])
    for counter in range(5):
        secret, r = seed.derive(keyset, counter)
        assert secret == data("13", secrets)[f"secret_{counter}"]
        assert r.hex() == data("13", scalars)[f"r_{counter}"]


@vector("13", 1, 2, 3, 4)
def version_1() -> None:
    derived(2, 3, "009a1f293253e41e")


@vector("13", 5, 6, 7)
def version_2() -> None:
    derived(6, 7, "015ba18a8adcd02e715a58358eb618da4a4b3791151a4bee5e968bb88406ccf76a")


# ── NUT-18, NUT-26 ──────────────────────────────────────────────────────────────────────────


def by_key(request: requests.PaymentRequest) -> list[Any]:
    """With Nostr targets read: an npub and an nprofile without relays say the same."""
    ways: list[Any] = [
        (way.kind, nip19.read(way.target) if way.kind == "nostr" else way.target, way.tags)
        for way in request.transports
    ]
    return [*({**vars(request), "transports": ways}.items())]


def request(nut: str, place: int, version: Any) -> Callable[[], None]:
    def check() -> None:
        asked, text = requests.from_value(data(nut, place)), data(nut, place + 1)
        found = requests.decode(text)
        assert requests.decode(requests.encode(asked, version)).id == asked.id
        if version == "B":
            assert by_key(found) == by_key(asked)
            assert requests.encode(asked, "B") == text
            assert requests.decode(text.lower()) == found
            assert requests.decode(f"bitcoin:?creq={text}") == found
        else:
            assert found == asked
            assert requests.decode(requests.encode(asked)) == asked

    return check


@vector("18", 0, 1)
def basic_request() -> None:
    """The two halves of this entry name another mint and key: the rest must be the same."""
    asked, found = requests.from_value(data("18", 0)), requests.decode(data("18", 1))
    assert (found.id, found.amount, found.unit) == (asked.id, asked.amount, asked.unit)
    assert found.mints == ("https://nofees.testnut.cashu.space",)
    assert found.transports[0].tags == asked.transports[0].tags == (("n", "17"),)
    assert nip19.read(asked.transports[0].target).relays[0].startswith("wss://relay")


for _nut, _last, _version in (("18", 12, "A"), ("26-test", 32, "B")):
    for _place in range(2 if _nut == "18" else 0, _last, 2):
        vector(_nut, _place, _place + 1)(request(_nut, _place, _version))


# ── NUT-20, NUT-29 ──────────────────────────────────────────────────────────────────────────

QUOTE_KEY = H("03d56ce4e446a85bbdaa547b4ec2b073d40ff802831352b8272b7dd7a4de5a7cac")


def quote_signed(place: int) -> bool:
    value = data("20-test", place)
    made = [message(each) for each in value["outputs"]]
    return quotes.verify(value["quote"], made, value["signature"], QUOTE_KEY)


@vector("20-test", 0)
def quote_signature() -> None:
    assert quote_signed(0)


@vector("20-test", 1)
def quote_message() -> None:
    value = data("20-test", 0)
    made = [message(each) for each in value["outputs"]]
    assert quotes.message(value["quote"], made) == bytes(data("20-test", 1))


@vector("20-test", 2)
def quote_signature_wrong() -> None:
    assert not quote_signed(2)


def batch(place: int) -> None:
    value = data("29", place)
    made = [BlindedMessage(each["amount"], each["id"], b"") for each in value["outputs"]]
    quotes.check_batch(value["quotes"], made, value.get("signatures"), value.get("quote_amounts"))


def batch_refused(place: int, why: str) -> Callable[[], None]:
    def check() -> None:
        with pytest.raises(ParseError, match=why):
            batch(place)

    return check


vector("29", 0)(lambda: batch(0))
vector("29", 5)(batch_refused(5, "0 quotes"))
vector("29", 6)(batch_refused(6, "twice"))
vector("29", 8)(batch_refused(8, "2 quotes come with 1 signatures"))


@vector("29", 9, 10)
def batch_signature() -> None:
    """This entry's quote got another id after it was signed: its signature is `locked-quote`'s."""
    value, quote = data("29", 10), "locked-quote"
    made = [message(each) for each in value["outputs"]]
    ((key, _),) = labelled(data("29", 9), "pubkey", "msg_hash")
    (signature,) = value["signatures"]
    assert quotes.verify(quote, made, signature, H(key))
    assert not quotes.verify(quote, made[::-1], signature, H(key))
    assert not quotes.verify(value["quotes"][0], made, signature, H(key))
    framed = hashlib.sha256(quotes.framed_message(quote, made)).hexdigest()
    assert framed.startswith("03dc68d6")  # the entry as the amended NUT-29 has it
    own = quotes.sign(quote, made, bytes(31) + b"\1", framed=True)
    assert quotes.verify(quote, made, own, H(key))


# ── NUT-28 ──────────────────────────────────────────────────────────────────────────────────


def p2bk(name: str) -> bytes:
    (found,) = re.findall(rf'^{name}: "([0-9a-f]+)"', data("28", 0), re.M)
    return H(found)


def slots(place: int, part: str = "") -> list[bytes]:
    text = data("28", place)
    text = text[text.index(part) :].split("\n\n")[0]
    return [H(found) for found in re.findall(r'^r?\d+:? "([0-9a-f]+)"', text, re.M)]


@vector("28", 0, 2)
def shared_secret() -> None:
    (shared,) = re.findall(r'Zx: "([0-9a-f]+)"', data("28", 2))
    assert curve.public(p2bk("e")) == p2bk("E")
    assert blindkeys.shared_secret(p2bk("e"), p2bk("P")).hex() == shared
    assert blindkeys.shared_secret(p2bk("p"), p2bk("E")).hex() == shared


@vector("28", 1)
def blinded_proof() -> None:
    found = proof(data("28", 1))
    assert found.ephemeral == p2bk("E")
    lock = p2pk.lock_of(found.secret)
    assert lock is not None
    (key,) = blindkeys.private_keys(lock, found.ephemeral, [p2bk("p")])
    assert curve.public(key) == lock.keys[0]
    (signed,) = witness.sign([found], [], [p2bk("p")])
    assert signed.ephemeral is None
    witness.check([signed], [], now=NOW)


@vector("28", 3)
def blinding_scalars() -> None:
    shared = blindkeys.shared_secret(p2bk("e"), p2bk("P"))
    assert [blindkeys.scalar(shared, slot) for slot in range(11)] == slots(3)


def in_slot(slot: int, key: bytes) -> p2pk.Lock:
    """A lock whose key number `slot` is `key`, beside keys of nobody."""
    others = [curve.public(bytes(31) + bytes([n + 1])) for n in range(slot)]
    return p2pk.Lock((*others, key))


@vector("28", 4)
def blinded_keys() -> None:
    found = [blindkeys.blind(in_slot(n, p2bk("P")), p2bk("e")).keys[n] for n in range(11)]
    assert found == slots(4)


@vector("28", 5)
def derived_keys() -> None:
    """P is -pG, so the negated keys are those that sign; the standard ones belong to pG."""
    standard, negated = slots(5, "# skStd"), slots(5, "# skNeg")
    for own, expected in ((p2bk("P"), negated), (curve.public(p2bk("p")), standard)):
        for slot in range(11):
            lock = blindkeys.blind(in_slot(slot, own), p2bk("e"))
            found = blindkeys.private_keys(lock, p2bk("E"), [p2bk("p")])
            assert found == (expected[slot],)


@vector("28", 6)
def parity() -> None:
    natural, actual = re.findall(r'"([0-9a-f]{66})"', data("28", 6))
    assert curve.public(p2bk("p")) == H(natural)
    assert p2pk.same_key(H(natural), H(actual))
    assert natural != actual


# ── what the vectors leave open ─────────────────────────────────────────────────────────────


def test_every_entry_is_claimed() -> None:
    claimed = CHECKS.keys() | MINTS_SIDE.keys()
    found = {(nut, place) for nut in NUTS for place in range(len(VECTORS.get(nut, ())))}
    assert found <= claimed
    assert not CHECKS.keys() & MINTS_SIDE.keys()


def test_unblinding_undoes_blinding() -> None:
    private, r = bytes(31) + b"\7", bytes(31) + b"\5"
    made = outputs.output(8, "00456a94ab4e1c46", "secret", r)
    c_ = curve.sign(made.message.b, private)
    assert curve.unblind(c_, r, curve.public(private)) == curve.sign(curve.y_of("secret"), private)
