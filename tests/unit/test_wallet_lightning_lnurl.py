"""Lightning addresses and LNURL-pay against a payee in memory that may lie."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet.errors import (
    ParseError,
    PayeeError,
    RefusedError,
    UnreachableError,
    UnsupportedError,
    WalletError,
)
from wallet.lightning import WebReply, fetch_invoice, fetch_terms, url_of
from wallet.lightning.testing import MemoryPayee, MemoryWeb
from wallet.mint.testing import MemoryLightning
from wallet.protocol import bech32
from wallet.types import CLOCK_S

NOW = 1_700_000_000
# of LUD-01
LUD01 = (
    "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NY"
    "D3HXQURZEPEXEJXXEPNXSCRVWFNV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS"
)
LUD01_URL = (
    "https://service.com/api?q=3fc3645b439ce8e7f2553a69e5267081d96dcd340693afabe04be7b0ccd178df"
)


def lnurl(url: str) -> str:
    return bech32.encode("lnurl", url.encode(), bech32.Variant.BECH32)


@pytest.fixture
def payee() -> MemoryPayee:
    return MemoryPayee("ada@pay.example", MemoryLightning(now=lambda: NOW))


@pytest.fixture
def web(payee: MemoryPayee) -> MemoryWeb:
    made = MemoryWeb()
    made.hosts["pay.example"] = payee
    return made


# ── what is an address ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (LUD01, LUD01_URL),
        (LUD01.lower(), LUD01_URL),
        (f"lightning:{LUD01}", LUD01_URL),
        (f"LIGHTNING://{LUD01}", LUD01_URL),
        (f"https://service.com/giftcard/redeem?id=123&lightning={LUD01}", LUD01_URL),
        ("satoshi@bitcoin.org", "https://bitcoin.org/.well-known/lnurlp/satoshi"),
        ("Satoshi@Bitcoin.org ", "https://bitcoin.org/.well-known/lnurlp/satoshi"),
        ("a.b-c_d+e@x.example:8443", "https://x.example:8443/.well-known/lnurlp/a.b-c_d%2Be"),
        ("ada@abcdef.onion", "http://abcdef.onion/.well-known/lnurlp/ada"),
        ("lnurlp://domain.com/path?x=1", "https://domain.com/path?x=1"),
        ("lnurlp:domain.com/path", "https://domain.com/path"),
        ("LNURLP://abc.onion/path", "http://abc.onion/path"),
    ],
)
def test_addresses(text: str, url: str) -> None:
    assert url_of(text) == url


@pytest.mark.parametrize("text", ["lnbc1pvjluez", "creqA1", "cashuBabc", "https://a.example", ""])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ParseError):
        url_of(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", ParseError),
        ("ada", ParseError),
        ("@pay.example", ParseError),
        ("..@pay.example", ParseError),
        ("a/b@pay.example", ParseError),
        ("a@b@pay.example", ParseError),
        ("ada@pay.example/x", ParseError),
        ("ada@pay.example:0", ParseError),
        ("ada@pay.example:99999", ParseError),
        ("a@" + "x" * 300, ParseError),
        (LUD01[:-1] + "Q", ParseError),
        (LUD01[:-1].lower() + "S", ParseError),
        (LUD01 * 30, ParseError),
        (bech32.encode("lnurl", b"https://a.example", bech32.Variant.BECH32M), ParseError),
        (lnurl("no url"), ParseError),
        (lnurl("https://ä.example"), ParseError),
        (lnurl("https://u:p@a.example"), ParseError),
        (lnurl("https://a.example/#x"), ParseError),
        (lnurl("https://a.example/" + "x" * 2_000), ParseError),
        (lnurl("http://a.example"), RefusedError),
        (lnurl("https://127.0.0.1"), RefusedError),
        (lnurl("http://localhost"), RefusedError),
        (lnurl("https://[::1]/x"), RefusedError),
        (lnurl("https://a.example?tag=login&k1=00"), UnsupportedError),
        ("keyauth://a.example", UnsupportedError),
        ("lnurlw://a.example", UnsupportedError),
        ("lnurlp://[", ParseError),
        ("https://a.example", ParseError),
        ("https://a.example?lightning=lnbc1", ParseError),
        ("https://a.example?" + "&".join(f"lightning={LUD01}" for _ in range(2)), ParseError),
        ("https://a.example?" + "&a=1" * 60, ParseError),
    ],
)
def test_addresses_that_are_refused(text: str, error: type[WalletError]) -> None:
    with pytest.raises(error):
        url_of(text)


def test_this_machine_only_where_a_switch_says_so() -> None:
    with pytest.raises(RefusedError):
        url_of("ada@127.0.0.1:8080")
    at = "127.0.0.1:8080/.well-known/lnurlp/ada"
    assert url_of("ada@127.0.0.1:8080", loopback=True) == f"http://{at}"
    assert url_of(lnurl(f"http://{at}"), loopback=True) == f"http://{at}"
    assert url_of("lnurlp://localhost/x", loopback=True) == "http://localhost/x"
    with pytest.raises(RefusedError):  # it opens this machine, not the rest of the network
        url_of(lnurl("http://192.168.0.1"), loopback=True)


@given(
    st.text(max_size=60)
    | st.binary(max_size=80).map(lambda raw: bech32.encode("lnurl", raw, bech32.Variant.BECH32))
)
def test_addresses_of_anything(text: str) -> None:
    with contextlib.suppress(ParseError, RefusedError, UnsupportedError):
        assert url_of(text).startswith("http")


# ── two questions ───────────────────────────────────────────────────────────────────────────


async def test_an_invoice_for_an_amount(web: MemoryWeb, payee: MemoryPayee) -> None:
    terms = await fetch_terms(web, "ada@pay.example")
    assert (terms.domain, terms.description) == ("pay.example", "To Ada")
    assert (terms.min_msat, terms.max_msat, terms.comment) == (1_000, 100_000_000, 32)
    invoice = await fetch_invoice(web, terms, 21_000, now=NOW, comment="für & dich")
    assert invoice.text == payee.issued[0]
    assert invoice.amount_msat == 21_000
    assert payee.comments == ["für & dich"]


async def test_a_callback_with_parameters_of_its_own(web: MemoryWeb, payee: MemoryPayee) -> None:
    payee.terms["callback"] = "https://pay.example/callback?id=7&"
    terms = await fetch_terms(web, lnurl("https://pay.example/.well-known/lnurlp/ada"))
    await fetch_invoice(web, terms, 1_000, now=NOW)
    assert web.requests[-1].url == "https://pay.example/callback?id=7&amount=1000"


@pytest.mark.parametrize("amount_msat", [999, 100_000_001, 0, -1])
async def test_amounts_out_of_range(web: MemoryWeb, amount_msat: int) -> None:
    terms = await fetch_terms(web, "ada@pay.example")
    with pytest.raises(RefusedError, match="1000 to 100000000"):
        await fetch_invoice(web, terms, amount_msat, now=NOW)
    assert len(web.requests) == 1


async def test_comments_that_are_too_long(web: MemoryWeb, payee: MemoryPayee) -> None:
    terms = await fetch_terms(web, "ada@pay.example")
    with pytest.raises(RefusedError, match="32"):
        terms.check(1_000, "x" * 33)
    for value in (None, -1, True, "9", 10**9):
        payee.terms["commentAllowed"] = value
        assert (await fetch_terms(web, "ada@pay.example")).comment == 0


async def test_servers_that_are_not_there(web: MemoryWeb) -> None:
    with pytest.raises(UnreachableError):
        await fetch_terms(web, "ada@else.example")
    web.lose = 1
    with pytest.raises(UnreachableError, match="broke off"):  # a lost question loses nothing
        await fetch_terms(web, "ada@pay.example")


async def test_a_server_that_says_no(web: MemoryWeb, payee: MemoryPayee) -> None:
    with pytest.raises(PayeeError, match="nobody of that name"):
        await fetch_terms(web, "bob@pay.example")
    payee.reply = WebReply(200, b'{"status": "error", "reason": "\\u001b[2J no"}')
    with pytest.raises(PayeeError, match="no") as caught:
        await fetch_terms(web, "ada@pay.example")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_refused(web: MemoryWeb, payee: MemoryPayee, status: int) -> None:
    payee.reply = WebReply(status, b'{"tag": "payRequest"}')
    with pytest.raises(PayeeError, match="redirect"):
        await fetch_terms(web, "ada@pay.example")


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"nope", b"[" * 100_000, b"1" * 5_000])
async def test_replies_that_are_no_object(web: MemoryWeb, payee: MemoryPayee, body: bytes) -> None:
    payee.reply = WebReply(200, body)
    with pytest.raises(PayeeError):
        await fetch_terms(web, "ada@pay.example")


PLAIN = ["text/plain", "To Ada"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"tag": None},
        {"tag": "other"},
        {"callback": None},
        {"callback": 5},
        {"callback": "http://pay.example/callback"},
        {"callback": "https://127.0.0.1/callback"},
        {"callback": "ftp://pay.example"},
        {"minSendable": 0},
        {"minSendable": 1.5},
        {"minSendable": "1000"},
        {"minSendable": True},
        {"minSendable": 2**63},
        {"maxSendable": None},
        {"maxSendable": 999},
        {"metadata": None},
        {"metadata": [PLAIN]},
        {"metadata": "no json"},
        {"metadata": "[" * 100_000},
        {"metadata": "{}"},
        {"metadata": "[]"},
        {"metadata": "[1]"},
        {"metadata": "[[]]"},
        {"metadata": json.dumps([["text/plain"]])},
        {"metadata": json.dumps([["text/plain", 5]])},
        {"metadata": json.dumps([PLAIN, PLAIN])},
        {"metadata": json.dumps([PLAIN] + [["x", "y"]] * 64)},
        {"metadata": '[["text/plain", "\ud800"]]'},
    ],
)
async def test_terms_that_make_no_sense(
    web: MemoryWeb, payee: MemoryPayee, wrong: dict[str, object]
) -> None:
    payee.terms.update(wrong)
    with pytest.raises(PayeeError):
        await fetch_terms(web, "ada@pay.example")


async def test_an_lnurl_for_something_else(web: MemoryWeb, payee: MemoryPayee) -> None:
    payee.terms["tag"] = "withdrawRequest"
    with pytest.raises(UnsupportedError, match="withdrawRequest"):
        await fetch_terms(web, "ada@pay.example")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ({"off_by_msat": 1}, "21001 msat"),
        ({"off_by_msat": -21_000}, "None msat"),
        ({"commits": False}, "commit"),
        ({"expiry_s": 1}, "expired"),
    ],
)
async def test_invoices_that_are_not_what_was_asked_for(
    web: MemoryWeb, payee: MemoryPayee, spoil: dict[str, object], why: str
) -> None:
    terms = await fetch_terms(web, "ada@pay.example")
    for name, value in spoil.items():
        setattr(payee, name, value)
    with pytest.raises(PayeeError, match=why):
        await fetch_invoice(web, terms, 21_000, now=NOW + 3_000 + CLOCK_S)


async def test_metadata_that_changed_meanwhile(web: MemoryWeb, payee: MemoryPayee) -> None:
    terms = await fetch_terms(web, "ada@pay.example")
    payee.metadata = payee.metadata.replace("Ada", "Eve")
    with pytest.raises(PayeeError, match="commit"):
        await fetch_invoice(web, terms, 21_000, now=NOW)


@pytest.mark.parametrize("pr", [None, 5, "", "lnbc1", "x" * 10_000])
async def test_no_invoice(web: MemoryWeb, payee: MemoryPayee, pr: object) -> None:
    terms = await fetch_terms(web, "ada@pay.example")
    payee.reply = WebReply(200, json.dumps({"pr": pr, "routes": []}).encode())
    with pytest.raises(PayeeError, match="invoice"):
        await fetch_invoice(web, terms, 21_000, now=NOW)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([[]])
FIELDS = ["tag", "callback", "minSendable", "maxSendable", "metadata", "commentAllowed", "status"]


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1))
async def test_terms_of_anything(changes: dict[str, object]) -> None:
    payee, web = MemoryPayee("ada@pay.example", MemoryLightning(now=lambda: NOW)), MemoryWeb()
    payee.terms, web.hosts["pay.example"] = changes, payee
    with contextlib.suppress(PayeeError, RefusedError, UnsupportedError):
        terms = await fetch_terms(web, "ada@pay.example")
        assert 1 <= terms.min_msat <= terms.max_msat


@given(
    st.binary(max_size=60) | st.dictionaries(st.just("pr"), VALUES).map(json.dumps).map(str.encode)
)
async def test_invoice_replies_of_anything(body: bytes) -> None:
    payee, web = MemoryPayee("ada@pay.example", MemoryLightning(now=lambda: NOW)), MemoryWeb()
    web.hosts["pay.example"] = payee
    terms = await fetch_terms(web, "ada@pay.example")
    payee.reply = WebReply(200, body)
    with pytest.raises(PayeeError):
        await fetch_invoice(web, terms, 1_000, now=NOW)
