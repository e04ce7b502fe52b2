"""What a payment comes to, and whom it pays, read without asking anybody."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import PaymentError
from node.money import Bill, FeeRule, Payment
from node.money.billing import bill, is_delivered
from wallet.mint.testing import MemoryLightning
from wallet.nwc import SecretKey
from wallet.protocol import invoices, nip19
from wallet.protocol.requests import PaymentRequest, Transport, encode

NOW = 1_800_000_000.0
KEY = "02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
POST = Transport("post", "https://shop.example/pay")


def read(to: str, amount: int | None = None, *, url: str = "", now: float = NOW) -> Bill:
    return bill(Payment(to, amount, url=url), FeeRule(5, 3), now)


def lightning() -> MemoryLightning:
    return MemoryLightning(now=lambda: NOW)


def test_an_invoice_pays_the_node_that_signed_it() -> None:
    text = lightning().invoice(21_000)
    found = read(text)
    payee = invoices.read(text).payee.hex()
    assert (found.kind, found.destination) == ("invoice", f"lightning:{payee}")
    assert (found.amount_sat, found.most_fee_sat, found.most_msat) == (21, 5, 26_000)
    assert read(f"lightning:{text}").destination == found.destination
    assert read(text.upper()).destination == found.destination
    assert read(text, 21).amount_sat == 21


def test_parts_of_a_sat_count_as_whole_ones() -> None:
    assert read(lightning().invoice(21_001)).amount_sat == 22


def test_an_invoice_that_is_over_or_open_is_said_so() -> None:
    text = lightning().invoice(21_000)
    with pytest.raises(PaymentError, match="expired"):
        read(text, now=NOW + 10**6)
    with pytest.raises(PaymentError, match="asks for 21 sat, not 22"):
        read(text, 22)
    with pytest.raises(PaymentError, match="names no amount"):
        read(lightning().invoice(None))
    assert read(lightning().invoice(None), 7).amount_sat == 7


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("anna@example.org", "anna@example.org"),
        (" Anna@Example.ORG ", "anna@example.org"),
        ("lightning:anna@example.org", "anna@example.org"),
        ("a.b+c@127.0.0.1:8080", "a.b+c@127.0.0.1:8080"),
    ],
)
def test_an_address_has_one_form(text: str, address: str) -> None:
    found = read(text, 10)
    assert (found.kind, found.destination) == ("address", address)


def test_a_public_key_and_a_token_for_anybody() -> None:
    assert read(KEY, 3).destination == f"cashu:{KEY}"
    assert read("bearer", 3).kind == "bearer"
    with pytest.raises(PaymentError, match="point"):
        read("02" + "ff" * 32, 3)


@pytest.mark.parametrize("version", ["A", "B"])
def test_a_request_pays_where_it_is_delivered(version: str) -> None:
    request = PaymentRequest(amount=9, unit="sat", transports=(POST,), description="tea")
    found = read(encode(request, version))  # type: ignore[arg-type]
    assert (found.kind, found.destination) == ("request", "https://shop.example/pay")
    assert (found.amount_sat, found.description) == (9, "tea")


def test_of_several_transports_the_one_that_is_used_is_judged() -> None:
    key = SecretKey.new().public
    nostr = Transport("nostr", str(nip19.Profile(bytes.fromhex(key))), (("n", "17"),))
    old = replace(nostr, tags=(("n", "4"),))
    ftp = Transport("post", "ftp://shop.example/pay")
    for transports, place in (
        ((nostr, POST), f"nostr:{key}"),
        ((POST, nostr), POST.target),
        ((old, ftp, Transport("pigeon", "x"), POST), POST.target),
    ):
        request = PaymentRequest(amount=9, unit="sat", transports=transports)
        assert read(encode(request)).destination == place
    plain = Transport("post", "http://127.0.0.1:3338/pay")
    assert read(encode(PaymentRequest(transports=(plain,))), 4).destination == plain.target
    for wrong in (ftp, Transport("post", "https://[::1/pay")):
        with pytest.raises(PaymentError, match="no way to deliver"):
            read(encode(PaymentRequest(amount=9, unit="sat", transports=(wrong,))))
    with pytest.raises(PaymentError, match="no way to deliver"):
        read(encode(PaymentRequest(amount=9, unit="sat")))


@pytest.mark.parametrize(
    "before", ["", " " * 20, "bitcoin:?creq=", "bitcoin:BC1Q" + "A" * 38 + "?amount=0.1&creq="]
)
def test_a_request_is_one_wherever_it_stands(before: str) -> None:
    text = before + encode(PaymentRequest(amount=9, unit="sat", transports=(POST,)), "B")
    assert (read(text).kind, read(text).amount_sat) == ("request", 9)
    assert is_delivered(Payment(text))
    assert not is_delivered(Payment(text, url="https://api.example/x"))


def test_of_a_code_that_names_several_ways_the_request_or_else_the_invoice_is_paid() -> None:
    chain, text = "BITCOIN:BC1Q" + "A" * 38 + "?AMOUNT=0.00000021", lightning().invoice(21_000)
    found = read(f"{chain}&LIGHTNING={text.upper()}")
    assert found == read(text)
    assert not is_delivered(Payment(f"{chain}&lightning={text}"))
    request = encode(PaymentRequest(amount=9, unit="sat", transports=(POST,)), "B")
    assert read(f"{chain}&lightning={text}&creq={request}").kind == "request"
    for wrong in (f"{text}&lightning={text}", KEY, "someone@pay.example", "lnbc", ""):
        with pytest.raises(PaymentError, match="no Cashu payment request"):
            read(f"{chain}&lightning={wrong}", 21)


def test_an_address_on_the_chain_is_told_to_be_none_of_ours() -> None:
    with pytest.raises(PaymentError, match="no Cashu payment request") as caught:
        read("bitcoin:bc1q" + "a" * 38, 5)
    assert "on the chain" in caught.value.hint


def test_a_price_pays_the_url_that_named_it() -> None:
    request = PaymentRequest(amount=9, unit="sat", transports=(POST,))
    for url in ("https://api.example/x", "https://api.example/x?of=whom"):
        found = read(encode(request), url=url)
        assert (found.kind, found.destination) == ("paywall", "https://api.example/x")


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (PaymentRequest(amount=9, unit="usd", transports=(POST,)), "asks for 'usd'"),
        (PaymentRequest(unit="sat", transports=(POST,)), "names no amount"),
    ],
)
def test_what_cannot_be_paid_in_sat_is_refused(request_: PaymentRequest, why: str) -> None:
    with pytest.raises(PaymentError, match=why):
        read(encode(request_))


def test_what_is_no_amount_and_what_is_too_long_is_refused() -> None:
    with pytest.raises(PaymentError, match="0 sat is no amount"):
        read(KEY, 0)
    with pytest.raises(PaymentError, match="longer than anything"):
        read("lnbc1" + "q" * 8_188, 5)


def test_fees_are_the_greater_of_both_bounds() -> None:
    rule = FeeRule(5, 3)
    assert [rule.most(amount) for amount in (1, 166, 167, 1_000, 1_001)] == [5, 5, 6, 30, 31]


@given(st.one_of(st.text(max_size=60), st.sampled_from(["lnbc1", "creqA", "creqB1", "a@b", KEY])))
def test_whatever_it_is_the_error_is_ours(text: str) -> None:
    for url in ("", "https://a.example/"):
        try:
            found = read(text, 5, url=url)
        except PaymentError:
            continue
        assert found.amount_sat == 5
        assert found.destination


@given(st.binary(max_size=200))
def test_hostile_requests_end_in_our_error(raw: bytes) -> None:
    import base64

    text = "creqA" + base64.urlsafe_b64encode(raw).decode()
    try:
        found = read(text, 5)
    except PaymentError:
        return
    assert found.destination
