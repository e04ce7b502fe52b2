"""The mint client against mints that answer wrongly, at random, or out of malice."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet.errors import (
    MintError,
    MintMisbehavedError,
    OutcomeUnknownError,
    UnsupportedError,
    WalletError,
)
from wallet.mint import MintClient, wire
from wallet.mint.limits import MOST_REPLY_BYTES
from wallet.mint.testing import MemoryMint, Purse
from wallet.mint.words import printable
from wallet.protocol.curve import public
from wallet.protocol.outputs import finish
from wallet.types import (
    MAX_AMOUNT,
    BlindedMessage,
    Dleq,
    KeysetInfo,
    MeltQuote,
    Proof,
    TransportRequest,
    TransportResponse,
)

INVOICE = "lnbcrt10n1pjexample"
QUOTE = "019e6d5a-2347-7000-8322-05d51d498303"
KEYSET = "00" + "ab" * 7
POINTS = [public(bytes([number]) * 32) for number in range(1, 6)]
OUTPUTS = [BlindedMessage(1, KEYSET, POINTS[0]), BlindedMessage(2, KEYSET, POINTS[1])]
PROOF = Proof(4, KEYSET, "secret", POINTS[2])


@dataclass
class Says:
    """A mint that gives the same answer to whatever it is asked."""

    answer: TransportResponse
    asked: list[TransportRequest] = field(default_factory=list)

    async def send(self, request: TransportRequest) -> TransportResponse:
        self.asked.append(request)
        return self.answer

    async def aclose(self) -> None:
        pass


def client_of(body: object, status: int = 200) -> MintClient:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return MintClient("https://mint.example", Says(TransportResponse(status, raw)))


def signature(amount: Any = 1, **changes: object) -> dict[str, object]:
    return {"amount": amount, "id": KEYSET, "C_": POINTS[3].hex(), **changes}


def mint_quote(**changes: object) -> dict[str, object]:
    quote = {"quote": QUOTE, "request": INVOICE, "amount": 4, "unit": "sat", "state": "UNPAID"}
    return {**quote, "expiry": 1, **changes}


def melt_quote(**changes: object) -> dict[str, object]:
    return mint_quote(fee_reserve=1, **changes)


CALLS: dict[str, Callable[[MintClient], Awaitable[object]]] = {
    "info": lambda c: c.info(),
    "keysets": lambda c: c.keysets(),
    "keys": lambda c: c.keys(KeysetInfo(KEYSET, "sat")),
    "swap": lambda c: c.swap([PROOF], OUTPUTS),
    "request_mint": lambda c: c.request_mint(4, "sat", pubkey=POINTS[0]),
    "mint_quote": lambda c: c.mint_quote(QUOTE),
    "mint": lambda c: c.mint(QUOTE, OUTPUTS),
    "mint_quotes": lambda c: c.mint_quotes([QUOTE]),
    "mint_batch": lambda c: c.mint_batch({QUOTE: 3}, OUTPUTS),
    "request_melt": lambda c: c.request_melt(INVOICE, "sat"),
    "melt_quote": lambda c: c.melt_quote(QUOTE),
    "melt": lambda c: c.melt(QUOTE, [PROOF], OUTPUTS),
    "check": lambda c: c.check([POINTS[0], POINTS[1]]),
    "restore": lambda c: c.restore(OUTPUTS),
}
GOOD: dict[str, Any] = {
    "info": {"name": "a mint", "nuts": {"4": {"methods": [], "disabled": False}}},
    "keysets": {"keysets": [{"id": KEYSET, "unit": "sat", "active": True, "input_fee_ppk": 1}]},
    "swap": {"signatures": [signature(1), signature(2, dleq={"e": "ab" * 32, "s": "cd" * 32})]},
    "request_mint": mint_quote(pubkey=POINTS[0].hex()),
    "mint_quote": mint_quote(state="ISSUED", expiry=None),
    "mint": {"signatures": [signature(1), signature(2)]},
    "mint_quotes": [mint_quote()],
    "mint_batch": {"signatures": [signature(1), signature(2)]},
    "request_melt": melt_quote(),
    "melt_quote": melt_quote(state="PAID", change=[signature(1)], payment_preimage="ab" * 32),
    "melt": melt_quote(state="PAID", amount=2, change=[signature(2)]),
    "check": {
        "states": [{"Y": POINTS[n].hex(), "state": "SPENT", "witness": None} for n in (1, 0)]
    },
    "restore": {"outputs": [{"B_": POINTS[1].hex()}], "signatures": [signature(8)]},
}


@pytest.mark.parametrize("name", sorted(GOOD))
async def test_a_good_answer_is_taken(name: str) -> None:
    assert await CALLS[name](client_of(GOOD[name])) is not None


# ── answers that break the protocol, or answer another question ─────────────────────────────


WRONG: dict[str, tuple[str, Any]] = {
    "no JSON": ("swap", b"<html>"),
    "not UTF-8": ("swap", b'{"signatures": ["\xff"]}'),
    "nothing": ("swap", b""),
    "null": ("swap", None),
    "another type": ("swap", {"signatures": {"0": signature()}}),
    "fewer signatures": ("swap", {"signatures": [signature(1)]}),
    "more signatures": ("swap", {"signatures": [signature(1), signature(2), signature(4)]}),
    "another amount": ("swap", {"signatures": [signature(1), signature(4)]}),
    "another order": ("swap", {"signatures": [signature(2), signature(1)]}),
    "another keyset": ("mint", {"signatures": [signature(1), signature(2, id="00" + "cd" * 7)]}),
    "amount as text": ("swap", {"signatures": [signature(1), signature("2")]}),
    "amount as float": ("swap", {"signatures": [signature(1), signature(2.0)]}),
    "amount as bool": ("swap", {"signatures": [signature(True), signature(2)]}),
    "amount negative": ("request_mint", mint_quote(amount=-4)),
    "amount huge": ("request_mint", mint_quote(amount=MAX_AMOUNT + 1)),
    "amount with 5000 digits": ("request_mint", b'{"amount": ' + b"9" * 5000 + b"}"),
    "amount of the quote": ("request_mint", mint_quote(amount=5)),
    "unit of the quote": ("request_mint", mint_quote(unit="msat")),
    "key of the quote": ("request_mint", mint_quote(pubkey=POINTS[1].hex())),
    "no point": ("swap", {"signatures": [signature(1), signature(2, C_="05" + "ab" * 32)]}),
    "short point": ("swap", {"signatures": [signature(1), signature(2, C_="02ab")]}),
    "dleq without s": ("swap", {"signatures": [signature(1), signature(2, dleq={"e": "ab"})]}),
    "state of no kind": ("mint_quote", mint_quote(state="LOST")),
    "another mint quote": ("mint_quote", mint_quote(quote="another")),
    "other mint quotes": ("mint_quotes", [mint_quote(quote="another")]),
    "too few mint quotes": ("mint_quotes", []),
    "quote id with a line end": ("request_mint", mint_quote(quote="a\nb")),
    "quote id of dots": ("request_mint", mint_quote(quote="..")),
    "invoice with spaces": ("request_mint", mint_quote(request="ln bc")),
    "long invoice": ("request_mint", mint_quote(request="l" * 9000)),
    "another melt quote": ("melt_quote", melt_quote(quote="another")),
    "another invoice": ("request_melt", melt_quote(request="lnbcrt1another")),
    "another unit": ("request_melt", melt_quote(unit="msat")),
    "change before paying": ("request_melt", melt_quote(change=[signature(1)])),
    "change while pending": ("melt_quote", melt_quote(state="PENDING", change=[signature(1)])),
    "negative reserve": ("request_melt", melt_quote() | {"fee_reserve": -1}),
    "change for no output": ("melt", melt_quote(state="PAID", change=[signature(1)] * 3)),
    "change in another keyset": (
        "melt",
        melt_quote(state="PAID", amount=1, change=[signature(1, id="00" + "cd" * 7)]),
    ),
    "more change than paid": ("melt", melt_quote(state="PAID", amount=2, change=[signature(4)])),
    "change of nothing": ("melt", melt_quote(state="PAID", amount=2, change=[signature(0)])),
    "other proofs": ("check", {"states": [{"Y": POINTS[4].hex(), "state": "SPENT"}] * 2}),
    "one proof twice": ("check", {"states": [{"Y": POINTS[0].hex(), "state": "SPENT"}] * 2}),
    "fewer states": ("check", {"states": [{"Y": POINTS[0].hex(), "state": "SPENT"}]}),
    "an output not asked about": (
        "restore",
        {"outputs": [{"B_": POINTS[4].hex()}], "signatures": [signature(1)]},
    ),
    "an output twice": (
        "restore",
        {"outputs": [{"B_": POINTS[0].hex()}] * 2, "signatures": [signature(1)] * 2},
    ),
    "outputs without signatures": (
        "restore",
        {"outputs": [{"B_": POINTS[0].hex()}], "signatures": []},
    ),
    "a keyset twice": ("keysets", {"keysets": GOOD["keysets"]["keysets"] * 2}),
    "a negative fee": (
        "keysets",
        {"keysets": [{"id": KEYSET, "unit": "sat", "active": True, "input_fee_ppk": -1}]},
    ),
    "keys of another keyset": ("keys", {"keysets": [{"id": "00" + "cd" * 7, "keys": {}}]}),
    "keys that do not make the id": (
        "keys",
        {"keysets": [{"id": KEYSET, "keys": {"1": POINTS[0].hex()}}]},
    ),
    "keys of no amount": ("keys", {"keysets": [{"id": KEYSET, "keys": {"-1": POINTS[0].hex()}}]}),
    "more keys than there are amounts": (
        "keys",
        {"keysets": [{"id": KEYSET, "keys": {str(n + 1): POINTS[0].hex() for n in range(600)}}]},
    ),
    "depth": ("swap", b"[" * 100_000),
    "depth in a field passed over": (
        "swap",
        b'{"signatures": [], "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ),
    "length": ("swap", b" " * (MOST_REPLY_BYTES + 1)),
    "many": ("swap", {"signatures": [signature()] * 10_001}),
}


@pytest.mark.parametrize("name", sorted(WRONG))
async def test_a_wrong_answer_is_an_unknown_outcome(name: str) -> None:
    call, answer = WRONG[name]
    with pytest.raises(MintMisbehavedError) as caught:
        await CALLS[call](client_of(answer))
    assert "mint.example" in caught.value.message
    assert caught.value.hint


async def test_keysets_with_ids_of_unknown_versions_are_passed_over() -> None:
    old = {"id": "I2yN+iRYfkzT", "unit": "sat", "active": False}
    found = await client_of({"keysets": [old, *GOOD["keysets"]["keysets"]]}).keysets()
    assert [each.id for each in found] == [KEYSET]


@pytest.mark.parametrize(
    ("unit", "amount", "asked", "fits"),
    [
        ("sat", 5, 4_500, True),
        ("sat", 4, 4_500, True),
        ("sat", 6, 4_500, False),
        ("msat", 4_500, 4_500, True),
        ("msat", 4_501, 4_500, False),
    ],
)
async def test_a_part_is_quoted_for_what_was_asked(
    unit: Any, amount: int, asked: int, fits: bool
) -> None:
    for option in ("mpp_msat", "amount_msat"):
        client = client_of(melt_quote(amount=amount, unit=unit))
        work = client.request_melt(INVOICE, unit, **{option: asked})
        if fits:
            assert (await work).amount == amount
        else:
            with pytest.raises(MintMisbehavedError):
                await work


async def test_what_a_mint_does_not_announce_is_not_asked_of_it() -> None:
    mint = MemoryMint()
    mint.without |= {15, 29}
    client = MintClient(mint.url, mint)
    info = await client.info()
    before = len(mint.requests)
    with pytest.raises(UnsupportedError):
        await client.request_melt(INVOICE, "sat", mpp_msat=1)
    with pytest.raises(UnsupportedError):
        await client.request_melt(INVOICE, "sat", mpp_msat=1, amount_msat=1)
    with pytest.raises(UnsupportedError):
        await client.mint_batch({QUOTE: 1}, OUTPUTS)
    assert not info.multipath("sat")
    only = client_of({"nuts": {"5": {"methods": [{"method": "bolt11", "unit": "sat"}]}}})
    await only.info()
    with pytest.raises(UnsupportedError):
        await only.request_melt(INVOICE, "sat", amount_msat=1)
    assert len(mint.requests) == before


# ── what the mint sees ──────────────────────────────────────────────────────────────────────


async def test_a_mint_never_sees_what_would_link_a_proof_to_its_signature() -> None:
    dleq = Dleq(b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
    proof = replace(PROOF, dleq=dleq, ephemeral=POINTS[4], witness='{"signatures":[]}')
    says = Says(TransportResponse(200, json.dumps(GOOD["swap"]).encode()))
    await MintClient("https://mint.example/", says).swap([proof], OUTPUTS)
    (request,) = says.asked
    assert request.body is not None
    (sent,) = json.loads(request.body)["inputs"]
    assert set(sent) == {"amount", "id", "secret", "C", "witness"}
    for hidden in ((b"\x03" * 32).hex(), POINTS[4].hex()):
        assert hidden.encode() not in request.body


async def test_the_same_request_is_the_same_bytes() -> None:
    bodies = set()
    for _ in range(2):
        says = Says(TransportResponse(200, json.dumps(GOOD["melt"]).encode()))
        await MintClient("https://mint.example", says).melt(QUOTE, [PROOF], OUTPUTS)
        bodies.add(says.asked[0].body)
    assert len(bodies) == 1


async def test_a_quote_id_cannot_leave_its_path() -> None:
    evil = "../../v1/swap?x=#y"
    says = Says(TransportResponse(200, json.dumps(mint_quote(quote=evil)).encode()))
    await MintClient("https://mint.example", says).mint_quote(evil)
    assert says.asked[0].path == "/v1/mint/quote/bolt11/..%2F..%2Fv1%2Fswap%3Fx%3D%23y"


# ── refusals ────────────────────────────────────────────────────────────────────────────────


async def refusal(body: object, status: int = 400) -> WalletError:
    with pytest.raises(WalletError) as caught:
        await client_of(body, status).keysets()
    return caught.value


async def test_a_refusal_says_its_code_and_what_to_do() -> None:
    error = await refusal({"detail": "Token already spent.", "code": 11001})
    assert isinstance(error, MintError)
    assert (error.code, "already spent" in error.message) == (11001, True)
    assert "redeemed" in error.hint


async def test_a_refusal_repeats_no_secret_and_no_control_character() -> None:
    secret = "ab" * 32
    error = await refusal({"detail": f"\x1b[2Jproof\n{secret} unknown", "code": 0})
    assert secret not in error.message
    assert error.message.isprintable()
    assert "proof … unknown" in error.message
    assert len((await refusal({"detail": "x " * 5_000})).message) < 300


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"detail": [{"loc": ["body"], "msg": "no"}]}, MintError),
        (400, b"<html>", OutcomeUnknownError),
        (400, {"code": 11001}, OutcomeUnknownError),
        (400, {"detail": "x", "code": "11001"}, OutcomeUnknownError),
        (401, b"", MintError),
        (404, b"<html>", MintError),
        (413, b"", MintError),
        (429, {"detail": "Rate limit exceeded."}, MintError),
        (500, {"detail": "oops", "code": 11001}, OutcomeUnknownError),
        (502, b"bad gateway", OutcomeUnknownError),
        (301, b"", OutcomeUnknownError),
        (100, b"", OutcomeUnknownError),
    ],
)
async def test_statuses_tell_refused_from_unknown(
    status: int, body: object, kind: type[WalletError]
) -> None:
    error = await refusal(body, status)
    assert type(error) is kind
    assert error.hint or isinstance(body, dict)


@given(st.text(max_size=300))
def test_shown_words_are_one_printable_line(text: str) -> None:
    shown = printable(text, 50)
    assert len(shown) <= 50
    assert shown.isprintable()


# ── fuzz ────────────────────────────────────────────────────────────────────────────────────

EXAMPLES = settings(max_examples=60)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [POINTS[0].hex(), "ab" * 32, KEYSET, QUOTE, "sat", "PAID", "SPENT", "bolt11"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=6) | st.sampled_from(["4", "17", "supported"]), inner)
    ),
    max_leaves=12,
)


def run(name: str, status: int, body: bytes) -> object:
    """The result, or None where the client said what is wrong; anything else fails the test."""
    client = MintClient("https://mint.example", Says(TransportResponse(status, body)))

    async def ask() -> object:
        with contextlib.suppress(WalletError):
            return await CALLS[name](client)
        return None

    return asyncio.run(ask())


@pytest.mark.parametrize("name", sorted(CALLS))
@given(status=st.sampled_from([200, 200, 400, 500]) | st.integers(0, 999), body=st.binary())
@EXAMPLES
def test_any_bytes_are_an_answer_or_an_error(name: str, status: int, body: bytes) -> None:
    assert run(name, status, body) is None or status // 100 == 2


@st.composite
def spoiled(draw: st.DrawFn, value: Any) -> Any:
    """A good answer with one place in it replaced, dropped or added to."""
    if draw(st.booleans()) and isinstance(value, dict) and value:
        name = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 4)) == 0:
            return {key: each for key, each in value.items() if key != name}
        return {**value, name: draw(spoiled(value[name]))}
    if draw(st.booleans()) and isinstance(value, list) and value:
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], draw(spoiled(value[index])), *value[index + 1 :]]
    return draw(JSON)


@pytest.mark.parametrize("name", sorted(GOOD))
@given(data=st.data())
@EXAMPLES
def test_a_spoiled_answer_is_refused_or_still_fits(name: str, data: st.DataObject) -> None:
    answer = data.draw(spoiled(GOOD[name]))
    result = run(name, 200, json.dumps(answer).encode())
    if result is None:
        return
    if name in ("swap", "mint", "mint_batch"):
        assert isinstance(result, tuple)
        assert [(each.amount, each.id) for each in result] == [(1, KEYSET), (2, KEYSET)]
    if name == "melt":
        assert isinstance(result, MeltQuote)
        assert sum(each.amount for each in result.change) + result.amount <= 4 or (
            not result.change
        )
    if name == "request_mint":
        assert (result.amount, result.unit) == (4, "sat")  # type: ignore[attr-defined]


def test_a_whole_swap_with_any_one_field_spoiled_never_gives_other_ecash() -> None:
    """A real reply, spoiled on its way: what comes of it is the ecash that was signed, or none."""

    async def once(data: st.DataObject) -> None:
        mint = MemoryMint(bits=4)
        purse = Purse(MintClient(mint.url, mint), pay=mint.pay)
        proofs = await purse.fill(6)
        keyset = await purse.keyset()
        made = await purse.outputs(6)
        mint_reply = await mint.send(
            TransportRequest("POST", "/v1/swap", _swap_body(proofs, [o.message for o in made]))
        )
        answer = data.draw(spoiled(json.loads(mint_reply.body)))
        client = MintClient(mint.url, Says(TransportResponse(200, json.dumps(answer).encode())))
        try:
            signed = await client.swap(proofs, [o.message for o in made])
            new = finish(made, signed, keyset, require_dleq=True)
        except WalletError:
            return
        assert sum(proof.amount for proof in await purse.redeem(new)) == 6

    @given(data=st.data())
    @settings(max_examples=25)
    def check(data: st.DataObject) -> None:
        asyncio.run(once(data))

    check()


def _swap_body(proofs: tuple[Proof, ...], messages: list[BlindedMessage]) -> bytes:
    return wire.body({"inputs": wire.inputs(proofs), "outputs": wire.outputs(messages)})
