"""The real way to a relay: a websocket with bounded frames and time-outs."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wallet import network
from wallet.errors import ParseError, RelayError, RelayLostError
from wallet.nwc.relay import Socket

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

MAX_FRAME = 512 * 1024  # bytes
_OPEN_S, _CLOSE_S, _PING_S = 10.0, 2.0, 20.0


def check_url(url: str) -> str:
    """The address itself, once it is one a relay may have.

    `wss` everywhere; `ws` only to this machine, to addresses of the same network, and to .onion,
    which encrypts by itself.

    Raises:
        ParseError: it is not.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ParseError("a relay's address cannot be read") from None
    if parts.scheme not in ("ws", "wss") or not host or port == 0 or "@" in parts.netloc:
        raise ParseError("a relay's address is not of the form wss://HOST")
    if parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ParseError("a relay's address has signs in it that no address has")
    if parts.scheme == "ws" and not _near(host):
        raise ParseError(
            f"the relay at {host} would be spoken to without encryption",
            hint="Use its wss:// address.",
        )
    return url


def _near(host: str) -> bool:
    if network.is_here(host) or host.endswith((".onion", ".local")):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


async def dial(url: str) -> Socket:
    """A websocket to a relay of the user's own choice.

    Raises:
        RelayError: there is no connection.
        ParseError: `url` is not a relay's address.
    """
    return await _connect(url, *network.place(check_url(url)))


async def dial_public(
    url: str, *, loopback: bool = False, resolve: network.Resolve = network.look_up
) -> Socket:
    """A websocket to a relay that a stranger named: out in the world, or (with `loopback`, for
    tests) on this machine.

    Raises:
        RelayError: there is no connection, or it would lead inside.
        ParseError: `url` is not a relay's address.
    """
    host, port = network.place(check_url(url))
    try:
        found = await network.addresses(host, port, loopback=loopback, resolve=resolve)
    except OSError as error:
        raise RelayError(f"no connection to {url}: {error}") from None
    for address in found[:-1]:  # a silent one leaves time for the next
        with suppress(RelayError):
            return await _connect(url, address, port, _OPEN_S / (len(found) + 1))
    return await _connect(url, found[-1], port)


async def _connect(url: str, host: str, port: int, open_s: float = _OPEN_S) -> Socket:
    from websockets.exceptions import WebSocketException

    try:
        connection = await network.websocket(
            *(url, host, port),
            open_timeout=open_s,
            close_timeout=_CLOSE_S,
            ping_interval=_PING_S,
            ping_timeout=_PING_S,
            max_size=MAX_FRAME,
        )
    except (OSError, TimeoutError, WebSocketException) as error:
        raise RelayError(
            f"no connection to {url}: {type(error).__name__}", hint="Is the relay running?"
        ) from None
    return _WebSocket(connection, url)


class _WebSocket:
    def __init__(self, connection: ClientConnection, url: str) -> None:
        self._connection, self._url = connection, url

    async def send(self, text: str) -> None:
        from websockets.exceptions import WebSocketException

        try:
            await self._connection.send(text)
        except (OSError, WebSocketException):
            raise RelayLostError(f"the connection to {self._url} broke") from None

    async def receive(self) -> str:
        from websockets.exceptions import WebSocketException

        try:
            while not isinstance(frame := await self._connection.recv(), str):
                pass  # a binary frame means nothing on a relay
        except (OSError, WebSocketException):
            raise RelayLostError(f"the connection to {self._url} broke") from None
        return frame

    async def aclose(self) -> None:
        await self._connection.close()
