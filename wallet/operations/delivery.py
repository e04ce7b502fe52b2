"""The ways a payment gets to the payee who asked for it (NUT-18): HTTP POST, Nostr (NIP-17).

Both carry the same payload. What is handed over twice is the same ecash, so a way that surely
brought nothing is followed by the next; one of which nobody knows is not, and the caller asks
again with the same key.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wallet.errors import (
    OutcomeUnknownError,
    ParseError,
    PayeeError,
    RefusedError,
    RelayError,
    UnreachableError,
    UnsupportedError,
    WalletError,
)
from wallet.lightning import Web, WebRequest, check_url, reaching
from wallet.protocol import nip19, requests
from wallet.protocol.requests import PaymentPayload, PaymentRequest, Transport

if TYPE_CHECKING:
    from wallet.nwc import Dial

MOST_RELAYS = 4
_AGAIN = "Pay again with the same key: it hands over the same ecash. Or take it back: `reclaim`."


def check(request: PaymentRequest, *, loopback: bool = False) -> None:
    """Whether there is a way to deliver at all; asked before any ecash is made.

    Raises:
        UnsupportedError: the request has none, or none that this wallet knows.
        ParseError, RefusedError: it has, but the place it names must not be asked.
    """
    if not request.transports:
        raise UnsupportedError(
            "the request names no way to deliver the payment: it goes back the way it came",
            hint="Make a token for it, and hand that over.",
        )
    problems: list[WalletError] = []
    for way in request.transports:
        try:
            _check(way, loopback)
        except (ParseError, RefusedError, UnsupportedError) as error:
            problems.append(error)
        else:
            return
    raise problems[0]


async def deliver(
    request: PaymentRequest,
    payload: PaymentPayload,
    *,
    web: Web | None,
    dial: Dial | None,
    now: float,
) -> str:
    """Hands a payment over by the first of the request's ways that works; returns its kind.

    Raises:
        UnreachableError: by none of them: the payee surely has nothing.
        PayeeError: the payee does not take it.
        OutcomeUnknownError: it may have arrived.
    """
    text = requests.payload_to_json(payload)
    problem: WalletError = UnsupportedError("the request names no way to deliver the payment")
    async with reaching(web) as opened:
        for way in request.transports:
            try:
                _check(way, opened.loopback)
                if way.kind == "post":
                    await _post(opened, way.target, text)
                else:
                    await _message(way, text, dial, now)
            except (ParseError, RefusedError, UnsupportedError, UnreachableError) as error:
                problem = error
            else:
                return way.kind
    raise UnreachableError(f"the payment was not handed over: {problem.message}", hint=_AGAIN)


def _check(way: Transport, loopback: bool) -> None:
    if way.kind == "post":
        check_url(way.target, loopback=loopback)
    elif way.kind == "nostr" and "17" in way.values("n"):
        _recipient(way)
    else:
        raise UnsupportedError(
            f"deliveries by {way.kind[:20]!r} are not supported yet",
            hint="HTTP POST and Nostr messages (NIP-17) are.",
        )


async def _post(web: Web, url: str, text: str) -> None:
    reply = await web.send(WebRequest("POST", url, text.encode()))
    if 200 <= reply.status < 300:
        return
    if reply.status >= 500 or reply.status < 200:
        raise OutcomeUnknownError(f"the payee's server answered {reply.status}", hint=_AGAIN)
    from wallet.mint.words import quoted  # loads what reading a request does not need

    said = quoted(reply.body[:400].decode("utf-8", "replace"))
    raise PayeeError(f"the payee's server answered {reply.status}: {said}", hint=_AGAIN)


def _recipient(way: Transport) -> tuple[str, tuple[str, ...]]:
    from wallet.nwc.keys import check_public
    from wallet.nwc.websocket import check_url as check_relay

    profile = nip19.read(way.target)
    if not profile.relays:
        raise UnsupportedError("the request names a Nostr key and no relay to reach it by")
    relays = tuple(check_relay(url) for url in profile.relays[:MOST_RELAYS])
    return check_public(profile.pubkey.hex()), relays


async def _message(way: Transport, text: str, dial: Dial | None, now: float) -> None:
    """A direct message to every relay of the payee, by a key that nobody can link to anything."""
    from wallet.nwc import Relay, SecretKey, dial_public, giftwrap

    reader, urls = _recipient(way)
    event = giftwrap.message(SecretKey.new(), reader, text, now=now)
    relays = [Relay(url, dial=dial or dial_public) for url in urls]
    try:
        told = await asyncio.gather(
            *(relay.publish(event) for relay in relays), return_exceptions=True
        )
    finally:
        for relay in relays:
            await relay.aclose()
    if None in told:
        return
    for error in told:
        if not isinstance(error, RelayError):
            raise error if isinstance(error, BaseException) else AssertionError(error)
    raise UnreachableError(f"no relay of the payee took the message: {told[0]}")
