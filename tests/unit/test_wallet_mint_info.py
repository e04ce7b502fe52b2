"""What a mint says of itself (NUT-06), however it writes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet.mint import FOREVER, Method, MintInfo
from wallet.mint.info import InfoReply, read_info

BOLT11 = {"method": "bolt11", "unit": "sat"}
FULL: dict[str, Any] = {
    "name": "Bob's mint",
    "pubkey": "02" + "ab" * 32,
    "version": "Nutshell/0.21.0",
    "description": "short",
    "description_long": "long " * 1_000,
    "contact": [{"method": "email", "info": "a@b.example"}, ["old", "form"]],
    "motd": "hello",
    "icon_url": "https://mint.example/icon.png",
    "urls": ["https://mint.example", 5],
    "time": 1_725_304_480,
    "tos_url": "https://mint.example/tos",
    "nuts": {
        "4": {
            "methods": [
                {**BOLT11, "min_amount": 1, "max_amount": 100, "options": {"description": True}},
                {"method": "bolt12", "unit": "sat"},
            ],
            "disabled": False,
        },
        "5": {"methods": [{**BOLT11, "options": {"amountless": True}}], "disabled": False},
        "7": {"supported": True},
        "8": {"supported": False},
        "11": {"supported": "yes"},
        "15": {"methods": [BOLT11]},
        "17": {"supported": [{**BOLT11, "commands": ["proof_state"]}]},
        "19": {"ttl": 60, "cached_endpoints": [{"method": "POST", "path": "/v1/swap"}]},
        "20": {"supported": True},
        "21": {"protected_endpoints": []},
        "29": {"max_batch_size": 50, "methods": ["bolt11"]},
    },
}


def info(**nuts: Any) -> MintInfo:
    return read_info(InfoReply.model_validate({"nuts": {k[1:]: v for k, v in nuts.items()}}))


def test_all_that_is_announced_is_read() -> None:
    full = read_info(InfoReply.model_validate(FULL))
    assert (full.name, full.version, full.motd) == ("Bob's mint", "Nutshell/0.21.0", "hello")
    assert full.contact == (("email", "a@b.example"),)
    assert full.urls == ("https://mint.example",)
    assert full.time == 1_725_304_480
    assert full.supported == frozenset({4, 5, 7, 15, 17, 19, 20, 21, 29})
    assert full.needs_auth
    assert full.mint_method("sat") == Method("sat", 1, 100, description=True)
    assert full.melt_method("sat") == Method("sat", amountless=True)
    assert full.mint_method("usd") is None
    assert full.multipath("sat")
    assert not full.multipath("msat")
    assert full.updates("sat") == {"proof_state"}
    assert full.tells("proof_state")
    assert not full.tells("bolt11_mint_quote")
    assert full.replays("POST", "/v1/swap") == 60
    assert full.replays("POST", "/v1/melt/bolt11") is None
    assert full.batch_size == 50


def test_a_mint_that_says_nothing_offers_nothing() -> None:
    bare = read_info(InfoReply())
    assert bare == MintInfo()
    assert bare.replays("POST", "/v1/swap") is None
    assert not bare.needs_auth


def test_limits_bound_what_a_method_takes() -> None:
    method = Method("sat", 2, 8)
    assert [method.takes(amount) for amount in (1, 2, 8, 9)] == [False, True, True, False]
    assert Method("sat").takes(10**12)


def test_settings_have_defaults() -> None:
    assert info(n19={"cached_endpoints": [{"method": "POST", "path": "/x"}]}).replays(
        "POST", "/x"
    ) == (FOREVER)
    assert info(n29={}).batch_size == 100
    assert info(n29={"methods": ["bolt12"]}).batch_size is None
    assert info(n4={"methods": [BOLT11], "disabled": True}).mint_method("sat") is None
    assert info(n5={"methods": [{**BOLT11, "max_amount": 0}]}).melt_method("sat") == Method("sat")


@pytest.mark.parametrize(
    "nuts",
    [
        {"n4": []},
        {"n4": {"methods": [{**BOLT11, "min_amount": -1}]}},
        {"n15": [BOLT11]},
        {"n17": {"supported": True}},
        {"n19": {"ttl": "60", "cached_endpoints": []}},
        {"n29": {"max_batch_size": 0}},
        {"n20": True},
    ],
)
def test_a_setting_that_cannot_be_read_is_not_offered(nuts: dict[str, Any]) -> None:
    assert info(**nuts, n7={"supported": True}).supported == {7}


def test_text_is_fit_to_be_shown() -> None:
    shown = read_info(InfoReply.model_validate({"name": "a\x1b[2Jb\n" + "c" * 999, "motd": 5}))
    assert shown.name.isprintable()
    assert len(shown.name) == 256
    assert shown.motd == ""


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["methods", "supported", "ttl", "cached_endpoints", "method", "unit"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(FULL)), ANY), st.dictionaries(st.text(), ANY))
@settings(max_examples=50)
def test_whatever_a_mint_says_of_itself_is_read(fields: dict[str, Any], nuts: Any) -> None:
    read = read_info(InfoReply.model_validate({**fields, "nuts": {**FULL["nuts"], **nuts}}))
    assert isinstance(read.supported, frozenset)
    assert all(isinstance(each, str) for each in (read.name, read.motd, *read.urls))
