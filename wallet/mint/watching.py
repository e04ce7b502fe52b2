"""What a MintClient can watch, as sources of changes (NUT-17): mint quotes, melt quotes, proofs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from wallet.errors import MintMisbehavedError
from wallet.mint.replies import MeltQuoteReply, MintQuoteReply, StateReply
from wallet.mint.updates import Kind, Source
from wallet.types import MeltQuote, MintQuote, ProofState

M = TypeVar("M", bound=BaseModel)


class Asked(Protocol):
    """The part of `wallet.types.MintApi` that says how things are."""

    async def mint_quote(self, quote_id: str) -> MintQuote: ...
    async def melt_quote(self, quote_id: str) -> MeltQuote: ...
    async def check(self, ys: Sequence[bytes]) -> tuple[ProofState, ...]: ...


def source(client: Asked, kind: Kind, ids: Sequence[str] | Sequence[bytes]) -> Source[Any]:
    """The source for a kind of subscription; proofs are named by their Y."""
    names = tuple(each.hex() if isinstance(each, bytes) else each for each in ids)
    match kind:
        case "bolt11_mint_quote":
            return Source(kind, names, ask=lambda: _mint_quotes(client, names), read=_mint_quote)
        case "bolt11_melt_quote":
            return Source(kind, names, ask=lambda: _melt_quotes(client, names), read=_melt_quote)
        case "proof_state":
            return Source(kind, names, ask=lambda: _proofs(client, names), read=_proof)


async def _mint_quotes(client: Asked, ids: Sequence[str]) -> list[tuple[str, MintQuote]]:
    return [(each, await client.mint_quote(each)) for each in ids]


async def _melt_quotes(client: Asked, ids: Sequence[str]) -> list[tuple[str, MeltQuote]]:
    return [(each, await client.melt_quote(each)) for each in ids]


async def _proofs(
    client: Asked, names: Sequence[str]
) -> list[tuple[str, tuple[bytes, ProofState]]]:
    ys = [bytes.fromhex(name) for name in names]
    states = await client.check(ys)
    return [(y.hex(), (y, state)) for y, state in zip(ys, states, strict=True)]


def _mint_quote(payload: object) -> tuple[str, MintQuote]:
    quote = _read(MintQuoteReply, payload).value()
    return quote.id, quote


def _melt_quote(payload: object) -> tuple[str, MeltQuote]:
    quote = _read(MeltQuoteReply, payload).value()
    return quote.id, quote


def _proof(payload: object) -> tuple[str, tuple[bytes, ProofState]]:
    reply = _read(StateReply, payload)
    y = bytes.fromhex(reply.Y)
    return y.hex(), (y, reply.state)


def _read(model: type[M], payload: object) -> M:
    try:
        return model.model_validate(payload)
    except ValidationError:
        raise MintMisbehavedError("a mint's websocket says what breaks the protocol") from None
