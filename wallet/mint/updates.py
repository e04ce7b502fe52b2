"""Changes of quotes and proofs as they happen: by websocket (NUT-17), else by asking.

A subscription is a convenience, never the truth: what it says is parsed as strictly as any answer,
and when it is silent, or breaks, the state is asked for. So a mint that loses a notification, as
Nutshell does for an invoice that is paid at once, delays a wallet by seconds, and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import ValidationError

from wallet.errors import MintMisbehavedError, MintUnreachableError, OutcomeUnknownError
from wallet.mint.limits import PATIENCE, Patience
from wallet.mint.replies import SocketReply

Kind = Literal["bolt11_mint_quote", "bolt11_melt_quote", "proof_state"]
T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]
_MOST_NEWS_WITHOUT_CHANGE = 10_000  # notifications; whoever floods is asked instead


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


@dataclass(frozen=True)
class Source(Generic[T]):
    """What is watched, and the two ways to learn of it.

    `ask` gives the present state of each filter; `read` takes one notification's payload. Both say
    whose state it is, in the filter's words, and raise as `wallet.mint.MintClient` does.
    """

    kind: Kind
    filters: tuple[str, ...]
    ask: Callable[[], Awaitable[Sequence[tuple[str, T]]]]
    read: Callable[[object], tuple[str, T]]


async def changes(
    source: Source[T],
    transport: Subscribes | None,
    *,
    patience: Patience = PATIENCE,
    sleep: Sleep = asyncio.sleep,
) -> AsyncGenerator[T, None]:
    """The state of each filter, and then each change of it, without end: the caller stops.

    Args:
        transport: whose websocket to use; None: only ask.

    Raises:
        MintError, MintMisbehavedError: asked, the mint said no, or what cannot be.
    """
    seen: dict[str, T] = {}
    if transport is not None:
        with contextlib.suppress(MintUnreachableError, MintMisbehavedError):
            async with (
                transport.socket() as socket,
                aclosing(_told(source, socket, patience)) as news,
            ):
                quiet = 0
                async for key, state in news:
                    quiet = quiet + 1 if seen.get(key) == state else 0
                    if quiet > _MOST_NEWS_WITHOUT_CHANGE:
                        break
                    if not quiet:
                        seen[key] = state
                        yield state
    wait_s = patience.poll_s
    while True:
        for key, state in await _asked(source):
            if seen.get(key) != state:
                seen[key], wait_s = state, patience.poll_s
                yield state
        await sleep(wait_s)
        wait_s = min(wait_s * 1.5, patience.slowest_poll_s)


async def _told(
    source: Source[T], socket: Socket, patience: Patience
) -> AsyncGenerator[tuple[str, T], None]:
    """What the mint says by itself, and what it says when asked since it was silent for long."""
    subscription = str(uuid.uuid4())
    await socket.send(_subscribe(source, subscription))
    silent_s = patience.silent_s
    while True:
        try:
            async with asyncio.timeout(silent_s):
                message = await socket.recv()
        except TimeoutError:
            silent_s = min(silent_s * 2, patience.slowest_silent_s)
            for answer in await _asked(source):
                yield answer
            continue
        payload = _payload(message, subscription)
        if payload is not None:
            key, state = source.read(payload)
            if key in source.filters:
                yield key, state


async def _asked(source: Source[T]) -> Sequence[tuple[str, T]]:
    """The present states; nothing while the mint cannot be reached."""
    try:
        return await source.ask()
    except MintMisbehavedError:
        raise
    except (MintUnreachableError, OutcomeUnknownError):
        return ()


def _subscribe(source: Source[T], subscription: str) -> str:
    params = {"kind": source.kind, "subId": subscription, "filters": list(source.filters)}
    return json.dumps({"jsonrpc": "2.0", "method": "subscribe", "params": params, "id": 0})


def _payload(message: str | bytes, subscription: str) -> object | None:
    """What a notification is about; None for the answer to our command.

    Raises:
        MintMisbehavedError: it is none of NUT-17's messages, or refuses the subscription.
    """
    try:
        read = SocketReply.model_validate_json(message)
    except ValidationError:
        raise MintMisbehavedError("a mint's websocket says what is no message") from None
    if read.error is not None:
        raise MintMisbehavedError("a mint's websocket refuses a subscription it announced")
    if read.params is None or read.params.subscription != subscription:
        return None
    return read.params.payload
