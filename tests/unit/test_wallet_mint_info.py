"""What a mint says of itself (NUT-06), however it writes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet.mint import MintInfo
from wallet.mint.info import InfoReply, Method, read_info

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
    assert full.name == "Bob's mint"
    assert full.supported == frozenset({7, 20, 21})
    assert full.needs_auth
    assert full.melt_method("sat") == Method("sat", amountless=True)
    assert full.melt_method("usd") is None
    assert full.multipath("sat")
    assert not full.multipath("msat")
    assert full.updates == {"proof_state"}
    assert full.cached == {("POST", "/v1/swap")}
    assert full.batch_size == 50


def test_a_mint_that_says_nothing_offers_nothing() -> None:
    bare = read_info(InfoReply())
    assert bare == MintInfo()
    assert not bare.needs_auth


def test_settings_have_defaults() -> None:
    assert info(n19={"cached_endpoints": [{"method": "POST", "path": "/x"}]}).cached == {
        ("POST", "/x")
    }
    assert info(n29={}).batch_size == 100
    assert info(n29={"methods": ["bolt12"]}).batch_size is None
    assert info(n5={"methods": [BOLT11], "disabled": True}).melt_method("sat") is None
    assert info(n5={"methods": [{**BOLT11, "max_amount": 0}]}).melt_method("sat") == Method("sat")


@pytest.mark.parametrize(
    "nuts",
    [
        {"n5": []},
        {"n5": {"methods": [{"unit": "sat"}]}},
        {"n15": [BOLT11]},
        {"n17": {"supported": True}},
        {"n19": {"ttl": "60", "cached_endpoints": [{"method": "POST", "path": "/x"}]}},
        {"n29": {"max_batch_size": 0}},
        {"n20": True},
    ],
)
def test_a_setting_that_cannot_be_read_is_not_offered(nuts: dict[str, Any]) -> None:
    assert info(**nuts, n7={"supported": True}) == info(n7={"supported": True})


def test_the_name_is_fit_to_be_shown() -> None:
    shown = read_info(InfoReply.model_validate({"name": "a\x1b[2Jb\n" + "c" * 999}))
    assert shown.name.isprintable()
    assert len(shown.name) == 256
    assert read_info(InfoReply.model_validate({"name": 5})).name == ""


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
    assert isinstance(read.name, str)
