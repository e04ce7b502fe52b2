"""Changes of a mint quote as they happen: by websocket (NUT-17), else by asking.

A subscription is a convenience, never the truth: what it says is parsed as strictly as any answer,
and when it is silent, or breaks, the state is asked for. So a mint that loses a notification, as
Nutshell does for an invoice that is paid at once, delays a wallet by seconds, and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Final, Protocol, runtime_checkable

from pydantic import ValidationError

from wallet.errors import MintMisbehavedError, MintUnreachableError, OutcomeUnknownError
from wallet.mint.limits import Patience
from wallet.mint.replies import MintQuoteReply, SocketReply
from wallet.types import MintQuote

KIND: Final = "bolt11_mint_quote"  # of subscription
_MOST_NEWS_WITHOUT_CHANGE = 10_000  # notifications; whoever floods is asked instead

Ask = Callable[[], Awaitable[MintQuote]]
Sleep = Callable[[float], Awaitable[None]]


class Socket(Protocol):
    """An open websocket."""

    async def send(self, message: str, /) -> None:
        """Sends a text message."""
        ...

    async def recv(self) -> str | bytes:
        """The next message."""
        ...


@runtime_checkable
class Subscribes(Protocol):
    """A Transport that has a websocket too."""

    def socket(self) -> AbstractAsyncContextManager[Socket]:
        """Opens one; raises MintUnreachableError where that fails or it breaks off."""
        ...


async def changes(
    quote_id: str, ask: Ask, transport: Subscribes | None, *, patience: Patience, sleep: Sleep
) -> AsyncGenerator[MintQuote, None]:
    """The state of a quote, and then each change of it, without end: the caller stops.

    Args:
        ask: gives the present state; raises as `wallet.mint.MintClient` does.
        transport: whose websocket to use; None: only ask.

    Raises:
        MintError, MintMisbehavedError: asked, the mint said no, or what cannot be.
    """
    last: MintQuote | None = None
    if transport is not None:
        with contextlib.suppress(MintUnreachableError, MintMisbehavedError):
            async with (
                transport.socket() as socket,
                aclosing(_told(quote_id, ask, socket, patience)) as news,
            ):
                quiet = 0
                async for quote in news:
                    quiet = quiet + 1 if quote == last else 0
                    if quiet > _MOST_NEWS_WITHOUT_CHANGE:
                        break
                    if not quiet:
                        last = quote
                        yield quote
    wait_s = patience.poll_s
    while True:
        asked = await _asked(ask)
        if asked is not None and asked != last:
            last, wait_s = asked, patience.poll_s
            yield asked
        await sleep(wait_s)
        wait_s = min(wait_s * 1.5, patience.slowest_poll_s)


async def _told(
    quote_id: str, ask: Ask, socket: Socket, patience: Patience
) -> AsyncGenerator[MintQuote, None]:
    """What the mint says by itself, and what it says when asked since it was silent for long."""
    subscription = str(uuid.uuid4())
    await socket.send(_subscribe(quote_id, subscription))
    silent_s = patience.silent_s
    while True:
        try:
            async with asyncio.timeout(silent_s):
                message = await socket.recv()
        except TimeoutError:
            silent_s = min(silent_s * 2, patience.slowest_silent_s)
            if (asked := await _asked(ask)) is not None:
                yield asked
            continue
        quote = _quote(message, subscription)
        if quote is not None and quote.id == quote_id:
            yield quote


async def _asked(ask: Ask) -> MintQuote | None:
    """The present state; None while the mint cannot be reached."""
    try:
        return await ask()
    except MintMisbehavedError:
        raise
    except (MintUnreachableError, OutcomeUnknownError):
        return None


def _subscribe(quote_id: str, subscription: str) -> str:
    params = {"kind": KIND, "subId": subscription, "filters": [quote_id]}
    return json.dumps({"jsonrpc": "2.0", "method": "subscribe", "params": params, "id": 0})


def _quote(message: str | bytes, subscription: str) -> MintQuote | None:
    """The quote of a notification; None for the answer to our command, or news for another.

    Raises:
        MintMisbehavedError: it is none of NUT-17's messages, or refuses the subscription.
    """
    try:
        read = SocketReply.model_validate_json(message)
        if read.error is not None:
            raise MintMisbehavedError("a mint's websocket refuses a subscription it announced")
        if read.params is None or read.params.subscription != subscription:
            return None
        return MintQuoteReply.model_validate(read.params.payload).value()
    except ValidationError:
        raise MintMisbehavedError("a mint's websocket says what breaks the protocol") from None
