"""A mint over HTTP, once and within bounds.

What separates the errors is what became of the request: where no connection came about, nothing
was sent; after that nobody knows. So connecting is told apart from all else, nothing is repeated
here, redirects are not followed, and replies are read raw (no decompression), up to a size, until
a deadline that dripping bytes do not move. It speaks to httpx's transport, not to its client: what
that adds (redirects, cookies, authentication) is not wanted, and is a fifth of a payment's CPU.
httpx and websockets are loaded on first use: whoever only reads a balance does not wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wallet import network
from wallet.errors import MintUnreachableError, OutcomeUnknownError
from wallet.mint import limits
from wallet.mint.limits import PATIENCE, Patience
from wallet.mint.urls import mint_url, websocket_url
from wallet.types import TransportRequest, TransportResponse

if TYPE_CHECKING:
    import ssl

    import httpx

    from wallet.mint.updates import Socket

_WAITS_FOR_PAYMENT = "/v1/melt/bolt11"
_KEEP_ALIVE_S = 4.0  # below the 5 s after which uvicorn, and so Nutshell, closes
_MOST_MESSAGE_BYTES = 2**18
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "freehold",
}
_HEADERS_WITH_BODY = _HEADERS | {"Content-Type": "application/json"}
_NEVER_SENT = "Nothing was sent. Is the address right, and is the mint up?"
_UNKNOWN = "The mint may have done it. The operation stays pending and is settled later."


class HttpTransport:
    """The Transport to a mint's URL.

    Args:
        transport: httpx transport to use instead of one of its own, for instance
            `httpx.AsyncHTTPTransport(proxy=...)`; it is closed with this. Without one an onion
            service is asked in plain only where its name leads to no public address, as Tor's own
            resolver has it: against networks that answer for all names, not against forgers.
        public: goes to public addresses only, for a URL that a stranger gave. They are looked up
            before each request; a name that leads inside a moment later gets no further than a
            TLS handshake that fails.

    Raises:
        ParseError, RefusedError: see `wallet.mint.urls.mint_url`.
    """

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        patience: Patience = PATIENCE,
        public: bool = False,
        resolve: network.Resolve = network.look_up,
    ) -> None:
        self.url = mint_url(url)
        self._patience = patience
        self._public, self._resolve = public, resolve
        host = urlsplit(self.url).hostname or ""
        self._onion = transport is None and self.url.startswith("http:") and host.endswith(".onion")
        self._opened = transport
        wait_s = patience.connect_s
        self._timeouts = {"connect": wait_s, "pool": wait_s, "read": None, "write": None}

    async def send(self, request: TransportRequest) -> TransportResponse:
        """See `wallet.types.Transport`."""
        waits = request.method == "POST" and request.path == _WAITS_FOR_PAYMENT
        limit_s = self._patience.melt_s if waits else self._patience.ask_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._exchange(request)
        except TimeoutError:
            raise OutcomeUnknownError(
                f"mint {self.url} did not answer within {limit_s:g} s", hint=_UNKNOWN
            ) from None

    @contextlib.asynccontextmanager
    async def socket(self) -> AsyncIterator[Socket]:
        """A websocket for updates (NUT-17), closed at the block's end.

        Raises:
            MintUnreachableError: there is none, or it closed.
        """
        from websockets.exceptions import WebSocketException

        address = websocket_url(self.url)
        try:
            await self._looked_at()
            async with await network.websocket(
                *(address, *network.place(address)),
                open_timeout=self._patience.connect_s,
                close_timeout=1,
                max_size=_MOST_MESSAGE_BYTES,
                max_queue=16,
            ) as socket:
                yield socket
        except (WebSocketException, OSError, TimeoutError) as error:
            raise MintUnreachableError(
                f"mint {self.url} gives no updates by websocket ({type(error).__name__})"
            ) from None

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._opened is not None:
            await self._opened.aclose()

    async def _exchange(self, request: TransportRequest) -> TransportResponse:
        import httpx

        try:
            await self._looked_at()
        except OSError as error:
            raise MintUnreachableError(
                f"mint {self.url} is not asked: {_cause(error)}", hint=_NEVER_SENT
            ) from None
        sent = httpx.Request(
            request.method,
            self.url + request.path,
            headers=_HEADERS if request.body is None else _HEADERS_WITH_BODY,
            content=request.body,
            extensions={"timeout": self._timeouts},
        )
        try:
            response = await self._transport().handle_async_request(sent)
            try:
                return TransportResponse(response.status_code, await self._read(response))
            finally:
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as e:
            raise MintUnreachableError(
                f"mint {self.url} cannot be reached: {_cause(e)}", hint=_NEVER_SENT
            ) from e
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise OutcomeUnknownError(
                f"mint {self.url} broke off without an answer ({type(error).__name__})",
                hint=_UNKNOWN,
            ) from error

    async def _looked_at(self) -> None:
        """Raises OSError where a URL of a stranger's leads inside, an onion service's in plain into
        the world, or nobody says where."""
        if not (self._public or self._onion):
            return
        host, port = network.place(self.url)
        look = network.addresses if self._public else network.tor_addresses
        try:
            async with asyncio.timeout(self._patience.connect_s):
                await look(host, port, resolve=self._resolve)
        except TimeoutError:
            raise OSError("its name could not be looked up in time") from None

    async def _read(self, response: httpx.Response) -> bytes:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise self._senseless("sent an answer in an encoding it was not asked for")
        size, parts = 0, []
        async for part in response.aiter_raw():
            size += len(part)
            if size > limits.MOST_REPLY_BYTES:
                raise self._senseless(f"sent over {limits.MOST_REPLY_BYTES} bytes")
            parts.append(part)
        return b"".join(parts)

    def _transport(self) -> httpx.AsyncBaseTransport:
        import httpx

        if self._opened is None:
            self._opened = httpx.AsyncHTTPTransport(
                verify=_trust(self.url),
                trust_env=False,
                limits=httpx.Limits(max_connections=32, keepalive_expiry=_KEEP_ALIVE_S),
            )
        return self._opened

    def _senseless(self, what: str) -> OutcomeUnknownError:
        return OutcomeUnknownError(f"mint {self.url} {what}", hint=_UNKNOWN)


def _trust(url: str) -> ssl.SSLContext:
    """Whom TLS believes; for plain HTTP nobody, which is quick."""
    import ssl

    if url.startswith("http:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return network.trust()


def _cause(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__
