"""HTTP to servers that strangers name: a Lightning address's, a payee's.

Such a URL must not become a way into the payer's own network (see `wallet.network`). https
everywhere; plain http only to .onion and, where `loopback` says so (tests, a payee on the same
machine), to this machine. Redirects are answers like any other and are not followed; replies are
read raw, up to a size, until one deadline for all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlsplit

from wallet import network
from wallet.errors import OutcomeUnknownError, ParseError, RefusedError, UnreachableError

if TYPE_CHECKING:
    import httpcore

MAX_URL = 2_000  # characters
MAX_REPLY = 512 * 1024  # bytes: LNURL's metadata may hold an image of 136,536 characters
EXCHANGE_S = 20.0
_SHARES = 6  # of that time, one for each silent address: the last, and TLS, have some left
_SENDING = "http11.send_request_headers.started"
_NOWHERE = "Nothing was sent. Is the address right, and the server up?"


@dataclass(frozen=True)
class WebRequest:
    """One HTTP exchange. `body` may be ecash."""

    method: Literal["GET", "POST"]
    url: str
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class WebReply:
    """Status and bytes; nothing in it is trusted."""

    status: int
    body: bytes = field(default=b"", repr=False)


class Web(Protocol):
    """The way to servers. Real: `HttpWeb`; double: `wallet.lightning.testing.MemoryWeb`.

    `loopback`: whether this machine may be asked, and without encryption.
    """

    @property
    def loopback(self) -> bool: ...

    async def send(self, request: WebRequest) -> WebReply:
        """Sends it once.

        Raises:
            ParseError, RefusedError: not a URL this may go to; nothing was sent.
            UnreachableError: nothing was sent.
            OutcomeUnknownError: it may have arrived; the answer did not.
        """
        ...

    async def aclose(self) -> None:
        """Lets go of connections."""
        ...


def check_url(url: str, *, loopback: bool = False) -> str:
    """The URL itself, once it is one that may be asked.

    Raises:
        ParseError: it is no URL, or has parts it must not have.
        RefusedError: it is not encrypted, or leads to this machine.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ParseError("an address cannot be read") from None
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise ParseError("an address is not of the form https://HOST")
    if "@" in parts.netloc or parts.fragment or len(url) > MAX_URL:
        raise ParseError("an address has a password or fragment, or is too long")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ParseError("an address has signs in it that no address has")
    here = network.is_here(host)
    if here and not loopback:
        raise RefusedError(f"an address leads to this machine ({host})")
    if parts.scheme == "http" and not here and not host.endswith(".onion"):
        raise RefusedError(
            f"{host} would be spoken to without encryption", hint="Ask for its https:// address."
        )
    return url


class HttpWeb:
    """Servers over HTTP.

    Args:
        loopback: whether this machine may be asked, for tests and payees on it.
        timeout_s: for a whole exchange, however the reply drips in.
        resolve: the addresses of a name; raises OSError.
    """

    def __init__(
        self,
        *,
        loopback: bool = False,
        timeout_s: float = EXCHANGE_S,
        resolve: network.Resolve = network.look_up,
    ) -> None:
        self.loopback, self._timeout_s, self._resolve = loopback, timeout_s, resolve
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def send(self, request: WebRequest) -> WebReply:
        """See `Web`."""
        host = urlsplit(check_url(request.url, loopback=self.loopback)).hostname
        seen: set[str] = set()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(request, str(host), seen)
        except TimeoutError:
            late = f"{host} did not answer within {self._timeout_s:g} s"
            if _SENDING not in seen:
                raise UnreachableError(late, hint=_NOWHERE) from None
            raise OutcomeUnknownError(late) from None

    async def _exchange(self, request: WebRequest, host: str, seen: set[str]) -> WebReply:
        """`seen` gets the stages that httpcore has begun."""
        import httpcore

        async def see(stage: str, _facts: object) -> None:
            seen.add(stage)

        headers = [("Accept", "application/json"), ("Accept-Encoding", "identity")]
        if request.body is not None:
            headers.append(("Content-Type", "application/json"))
        try:
            async with self._connections().stream(
                *(request.method, request.url),
                headers=headers,
                content=request.body,
                extensions={"trace": see},
            ) as response:
                return WebReply(response.status, await _read(response, host))
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            raise UnreachableError(f"{host} cannot be reached: {error}", hint=_NOWHERE) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise OutcomeUnknownError(
                f"{host} broke off without an answer ({type(error).__name__})"
            ) from None

    def _connections(self) -> httpcore.AsyncConnectionPool:
        if self._pool is None:
            import httpcore

            from wallet.lightning.guard import Guard

            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=network.trust(),
                max_connections=16,
                max_keepalive_connections=0,  # an address is looked at anew for each request
                network_backend=Guard(self._addresses, silent_s=self._timeout_s / _SHARES),
            )
        return self._pool

    async def _addresses(self, host: str, port: int) -> list[str]:
        resolve, loopback = self._resolve, self.loopback
        return await network.addresses(host, port, loopback=loopback, resolve=resolve)

    async def aclose(self) -> None:
        """Lets go of connections."""
        if self._pool is not None:
            await self._pool.aclose()


@contextlib.asynccontextmanager
async def reaching(web: Web | None) -> AsyncIterator[Web]:
    """The way that was given, or one over HTTP for as long as it is needed."""
    if web is not None:
        yield web
        return
    opened = HttpWeb()
    try:
        yield opened
    finally:
        await opened.aclose()


async def _read(response: Any, host: str) -> bytes:
    encodings = [value for name, value in response.headers if name.lower() == b"content-encoding"]
    if any(value.lower() != b"identity" for value in encodings):
        raise OutcomeUnknownError(f"{host} answered in an encoding it was not asked for")
    size, parts = 0, []
    async for part in response.aiter_stream():
        size += len(part)
        if size > MAX_REPLY:
            raise OutcomeUnknownError(f"{host} sent over {MAX_REPLY} bytes")
        parts.append(part)
    return b"".join(parts)
