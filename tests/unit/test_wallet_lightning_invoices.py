"""Invoices: BOLT 11's own examples, and what is refused."""

from __future__ import annotations

import contextlib
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet.errors import ParseError, UnsupportedError
from wallet.mint.testing import make_invoice
from wallet.protocol import bech32, invoices

NOW = 1_700_000_000
PREIMAGE = b"\5" * 32

# of BOLT 11: all have this payment hash, and are signed by this node
HASH = "0001020304050607080900010203040506070809000102030405060708090102"
NODE = "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad"
CREATED = 1_496_314_658
SECRET = "sp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs"
PAID = "pp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypq"
DONATION = (
    f"lnbc1pvjluez{SECRET}{PAID}dpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq"
    "9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls087fxdwk8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7ml"
    "cwspyetp5h2tztugp9lfyql"
)
COFFEE = (
    f"lnbc2500u1pvjluez{SECRET}{PAID}dq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpm"
    "dla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh"
)
LIST = (
    f"lnbc20m1pvjluez{SECRET}{PAID}hp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqs9qrsgq7e"
    "a976txfraylvgzuxs8kgcw23ezlrszfnh8r6qtfpr6cxga50aj6txm9rxrydzd06dfeawfk6swupvz4erwnyutnjq7x39"
    "ymw6j38gp7ynn44"
)
BEANS = (
    f"lnbc25m1pvjluez{PAID}dq5vdhkven9v5sxyetpdees{SECRET}9q5sqqqqqqqqqqqqqqqqsgq2a25dxl5hrntdtn6zv"
    "ydt7d66hyzsyhqs4wdynavys42xgl6sgx9c4g7me86a27t07mdtfry458rtjr0v92cnmswpsjscgt2vcse3sgpz3uapa"
)
PICO = (
    "lnbc9678785340p1pwmna7lpp5gc3xfm08u9qy06djf8dfflhugl6p7lgza6dsjxq454gxhj9t7a0sd8dgfkx7cmtwd68"
    "yetpd5s9xar0wfjn5gpc8qhrsdfq24f5ggrxdaezqsnvda3kkum5wfjkzmfqf3jkgem9wgsyuctwdus9xgrcyqcjcgpzg"
    "fskx6eqf9hzqnteypzxz7fzypfhg6trddjhygrcyqezcgpzfysywmm5ypxxjemgw3hxjmn8yptk7untd9hxwg3q2d6xjc"
    f"mtv4ezq7pqxgsxzmnyyqcjqmt0wfjjq6t5v4khx{SECRET}xqyjw5qcqp2rzjq0gxwkzc8w6323m55m4jyxcjwmy7stt9"
    "hwkwe2qxmy8zpsgg7jcuwz87fcqqeuqqqyqqqqlgqqqqn3qq9q9qrsgqrvgkpnmps664wgkp43l22qsgdw4ve24aca4ny"
    "mnxddlnp8vh9v2sdxlu5ywdxefsfvm0fq3sesf08uf6q9a2ke0hc9j6z6wlxg5z5kqpu2v9wz"
)
UNKNOWN_FEATURE = (
    f"lnbc25m1pvjluez{PAID}dq5vdhkven9v5sxyetpdees{SECRET}9q4psqqqqqqqqqqqqqqqqsgqtqyx5vggfcsll4wu2"
    "46hz02kp85x4katwsk9639we5n5yngc3yhqkm35jnjw4len8vrnqnf5ejh0mzj9n3vz2px97evektfm2l6wqccp3y7372"
)
SIGNED = (
    "9qrsgqwgt7mcn5yqw3yx0w94pswkpq6j9uh6xfqqqtsk4tnarugeektd4hg5975x9am52rz4qskukxdmjemg92vvqz"
)
BAD = {
    "checksum": COFFEE[:-1] + "q",
    "no 1": COFFEE.replace("1", ""),
    "mixed case": "LNBC2500u" + COFFEE[9:],
    "not recoverable": f"lnbc2500u1pvjluez{PAID}dq5xysxxatsyp3k7enxv4jsxqzpu{SECRET}{SIGNED}"
    "8nvmsye63r5ykel43pgz7zq0g2",
    "too short": "lnbc1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5s"
    "xxmmwwd5kgetjypeh2ursdae8g6na6hlh",
    "unknown multiplier": f"lnbc2500x1pvjluez{PAID}dq5xysxxatsyp3k7enxv4jsxqzpu{SECRET}9qrsgqrrzc4c"
    "vfue4zp3hggxp47ag7xnrlr8vgcmkjxk3j5jqethnumgkpqp23z9jclu3v0a7e0aruz366e9wqdykw6dxhdzcjjhldxq0w"
    "6wgqcnu43j",
    "below a msat": f"lnbc2500000001p1pvjluez{PAID}dq5xysxxatsyp3k7enxv4jsxqzpu{SECRET}9qrsgq0lzc2"
    "36j96a95uv0m3umg28gclm5lqxtqqwk32uuk4k6673k6n5kfvx3d2h8s295fad45fdhmusm8sjudfhlf6dcsxmfvkeywmj"
    "dkxcp99202x",
    "no payment secret": f"lnbc20m1pvjluez{PAID}hp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2a"
    "hrqs9qrsgq7ea976txfraylvgzuxs8kgcw23ezlrszfnh8r6qtfpr6cxga50aj6txm9rxrydzd06dfeawfk6swupvz4er"
    "wnyutnjq7x39ymw6j38gp49qdkj",
}


@pytest.mark.parametrize(
    ("text", "amount_msat", "description", "expiry_s"),
    [
        (DONATION, None, "Please consider supporting this project", 3_600),
        (COFFEE, 250_000_000, "1 cup coffee", 60),
        (LIST, 2_000_000_000, None, 3_600),
        (BEANS, 2_500_000_000, "coffee beans", 3_600),
        (BEANS.upper(), 2_500_000_000, "coffee beans", 3_600),
    ],
    ids=["donation", "coffee", "list", "beans", "BEANS"],
)
def test_examples_of_bolt11(
    text: str, amount_msat: int | None, description: str | None, expiry_s: int
) -> None:
    invoice = invoices.read(text)
    assert invoice == invoices.Bolt11(
        text.lower(),
        "mainnet",
        amount_msat,
        bytes.fromhex(HASH),
        bytes.fromhex(NODE),
        CREATED,
        CREATED + expiry_s,
        description,
        None if description else invoice.description_hash,
    )
    if description is None:
        assert (invoice.description_hash or b"").hex()[:8] == "3925b6f6"


def test_an_amount_in_pico() -> None:
    invoice = invoices.read(PICO)
    assert invoice.amount_msat == 967_878_534
    assert invoice.expires - invoice.created == 7 * 24 * 3_600


@pytest.mark.parametrize("name", BAD)
def test_invalid_examples_of_bolt11(name: str) -> None:
    with pytest.raises(ParseError):
        invoices.read(BAD[name])


def test_a_feature_nobody_knows() -> None:
    with pytest.raises(UnsupportedError, match="100"):
        invoices.read(UNKNOWN_FEATURE)


@pytest.mark.parametrize(
    ("human", "amount_msat"),
    [
        ("lnbc", None),
        ("lntb1m", 100_000_000),
        ("lntbs1u", 100_000),
        ("lnbcrt1n", 100),
        ("lnbc10p", 1),
        ("lnbc21000000", invoices.MAX_MSAT),
        ("lnbc1p", "whole"),
        ("lnbc9p", "whole"),
        ("lnbc21000001", "paid"),
        ("lnbc" + "9" * 20, "no Lightning"),
        ("lnbc0", "no Lightning"),
        ("lnbc01m", "no Lightning"),
        ("lnbc1.5m", "no Lightning"),
        ("lnbc-1m", "no Lightning"),
        ("lnbcm", "no Lightning"),
        ("lnxx1m", "no Lightning"),
        ("lno", "no Lightning"),
        ("lnurl", "no Lightning"),
        ("", "no Lightning"),
    ],
)
def test_the_human_readable_part(human: str, amount_msat: int | str | None) -> None:
    if isinstance(amount_msat, str):
        with pytest.raises(ParseError):
            invoices._human(human)
    else:
        assert invoices._human(human)[1] == amount_msat


@given(
    st.none() | st.integers(1, 10**14 - 1),  # above, bolt11 loses a unit when it writes
    st.text(st.characters(codec="utf-8"), max_size=40) | st.binary(min_size=32, max_size=32),
    st.integers(1, 10**8),
)
@settings(max_examples=25)
def test_what_is_made_is_read(
    amount_msat: int | None, description: str | bytes, expiry_s: int
) -> None:
    text = make_invoice(
        amount_msat,
        preimage=PREIMAGE,
        created=NOW,
        description=description,
        expiry_s=expiry_s,
        node=b"\3" * 32,
    )
    invoice = invoices.read(f" lightning:{text}\n")
    assert invoice.text == text
    assert (invoice.network, invoice.amount_msat) == ("regtest", amount_msat)
    assert description in (invoice.description, invoice.description_hash)
    assert (invoice.created, invoice.expires) == (NOW, NOW + expiry_s)
    assert invoice.payment_hash == sha256(PREIMAGE).digest()
    assert invoice.proven_by(PREIMAGE)
    assert not invoice.proven_by(bytes(32))
    assert not invoice.expired(NOW + expiry_s - 1)
    assert invoice.expired(NOW + expiry_s)


def test_too_long_is_not_even_decoded() -> None:
    with pytest.raises(ParseError, match="long"):
        invoices.read("lnbc1" + "q" * 5_000)


def test_an_expiry_out_of_bounds() -> None:
    with pytest.raises(ParseError, match="expiry"):
        invoices.read(make_invoice(1, preimage=PREIMAGE, created=NOW, expiry_s=2**58))


@given(st.text(max_size=80))
def test_invoices_of_anything(text: str) -> None:
    with pytest.raises(ParseError):
        invoices.read(text)


@given(
    st.sampled_from(["lnbc", "lnbc2500u", "lntb20m", "lnbcrt10p", "ln", "lnbc5x"]),
    st.binary(max_size=160),
)
@settings(max_examples=60)
def test_invoices_with_any_data(human: str, data: bytes) -> None:
    """The checksum is right; what it protects is noise."""
    with contextlib.suppress(ParseError, UnsupportedError):
        invoice = invoices.read(bech32.encode(human, data, bech32.Variant.BECH32))
        assert len(invoice.payment_hash) == 32


@given(st.integers(0, 10**6), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l1B\u00e9 "))
@settings(max_examples=60)
def test_one_letter_wrong(place: int, letter: str) -> None:
    at = place % len(COFFEE)
    altered = COFFEE[:at] + letter + COFFEE[at + 1 :]
    if altered.strip() != COFFEE:
        with pytest.raises(ParseError):
            invoices.read(altered)
