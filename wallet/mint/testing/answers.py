"""Answers of the mint in memory, as JSON values (NUT-00 to 09, 17, 19, 20, 23, 29)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from wallet.mint.testing.ledger import SecretKeyset
from wallet.mint.testing.quotes import MOST_BATCH, MeltPromise, MintPromise
from wallet.types import BlindedMessage, BlindSignature

CACHE_TTL_S = 3600
KEPT = ("/v1/mint/bolt11", "/v1/mint/bolt11/batch", "/v1/melt/bolt11", "/v1/swap")
_FLAGS = (7, 8, 9, 10, 11, 12, 14, 20)
_KINDS = ["bolt11_mint_quote", "bolt11_melt_quote", "proof_state"]


def blind_signature(signature: BlindSignature) -> dict[str, Any]:
    """NUT-00, with its DLEQ proof (NUT-12)."""
    answer: dict[str, Any] = {
        "amount": signature.amount,
        "id": signature.id,
        "C_": signature.c.hex(),
    }
    if signature.dleq is not None:
        answer["dleq"] = {"e": signature.dleq.e.hex(), "s": signature.dleq.s.hex()}
    return answer


def signatures(given: Iterable[BlindSignature]) -> dict[str, Any]:
    """NUT-03, NUT-04, NUT-29."""
    return {"signatures": [blind_signature(each) for each in given]}


def output(message: BlindedMessage) -> dict[str, Any]:
    """NUT-00."""
    return {"amount": message.amount, "id": message.id, "B_": message.b.hex()}


def keyset(secret: SecretKeyset, *, keys: bool = False) -> dict[str, Any]:
    """NUT-01 with keys, NUT-02 without."""
    info = secret.info
    answer: dict[str, Any] = {
        "id": info.id,
        "unit": info.unit,
        "active": info.active,
        "input_fee_ppk": info.input_fee_ppk,
        "final_expiry": info.final_expiry,
    }
    if keys:
        answer["keys"] = {str(amount): key.hex() for amount, key in secret.public.items()}
    return answer


def mint_quote(quote: MintPromise) -> dict[str, Any]:
    """NUT-23, NUT-20."""
    return {
        "quote": quote.id,
        "request": quote.request,
        "amount": quote.amount,
        "unit": quote.unit,
        "state": quote.state.value,
        "expiry": quote.expiry,
        "pubkey": quote.pubkey.hex() if quote.pubkey and quote.shows_key else "",  # as Nutshell
    }


def melt_quote(quote: MeltPromise) -> dict[str, Any]:
    """NUT-23, NUT-08."""
    return {
        "quote": quote.id,
        "request": quote.request,
        "amount": quote.amount,
        "unit": quote.unit,
        "fee_reserve": quote.fee_reserve,
        "state": quote.state.value,
        "expiry": quote.expiry,
        "payment_preimage": quote.preimage,
        "change": [blind_signature(each) for each in quote.change] or None,
    }


def announced(name: str, without: Collection[int], units: Iterable[str]) -> dict[str, Any]:
    """NUT-06."""
    methods = [{"method": "bolt11", "unit": unit} for unit in dict.fromkeys(units)]
    bolt11 = [
        {**each, "min_amount": 1, "max_amount": 2**40, "options": options}
        for each in methods
        for options in [{"description": True, "amountless": True}]
    ]
    nuts: dict[str, Any] = {
        "4": {"methods": bolt11, "disabled": False},
        "5": {"methods": bolt11, "disabled": False},
        **{str(flag): {"supported": True} for flag in _FLAGS},
        "15": {"methods": methods},
        "17": {"supported": [{**each, "commands": _KINDS} for each in methods]},
        "19": {
            "ttl": CACHE_TTL_S,
            "cached_endpoints": [{"method": "POST", "path": path} for path in KEPT],
        },
        "29": {"max_batch_size": MOST_BATCH, "methods": ["bolt11"]},
    }
    return {
        "name": f"mint in memory {name}",
        "version": "MemoryMint/1",
        "nuts": {nut: value for nut, value in nuts.items() if int(nut) not in without},
    }
