"""HTTP to servers that strangers name: a Lightning address's, a payee's.

Such a URL must not become a way into the payer's own network, so a name is looked up once, every
address it has must be public, and the connection goes to the address that was looked at. https
everywhere; plain http only to .onion and, where `loopback` says so (tests, a payee on the same
machine), to this machine. Redirects are answers like any other and are not followed; replies are
read raw, up to a size, until one deadline for all of it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlsplit

from wallet.errors import OutcomeUnknownError, ParseError, RefusedError, UnreachableError

if TYPE_CHECKING:
    import httpcore

MAX_URL = 2_000  # characters
MAX_REPLY = 512 * 1024  # bytes: LNURL's metadata may hold an image of 136,536 characters
EXCHANGE_S = 20.0
_TRIED = 4  # addresses of a name
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 behind NAT64 (RFC 6052)
_NOWHERE = "Nothing was sent. Is the address right, and the server up?"

Resolve = Callable[[str, int], Awaitable[Iterable[str]]]


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
    here = _is_here(host)
    if here and not loopback:
        raise RefusedError(f"an address leads to this machine ({host})")
    if parts.scheme == "http" and not here and not host.endswith(".onion"):
        raise RefusedError(
            f"{host} would be spoken to without encryption", hint="Ask for its https:// address."
        )
    return url


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_connect(address: str, *, loopback: bool = False) -> bool:
    """Whether an IP address is out in the world (or, with `loopback`, this machine)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return may_connect(str(inner), loopback=loopback)
    if parsed.is_loopback:
        return loopback
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


async def _look_up(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


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
        resolve: Resolve = _look_up,
    ) -> None:
        self.loopback, self._timeout_s, self._resolve = loopback, timeout_s, resolve
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def send(self, request: WebRequest) -> WebReply:
        """See `Web`."""
        host = urlsplit(check_url(request.url, loopback=self.loopback)).hostname
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(request, str(host))
        except TimeoutError:
            raise OutcomeUnknownError(
                f"{host} did not answer within {self._timeout_s:g} s"
            ) from None

    async def _exchange(self, request: WebRequest, host: str) -> WebReply:
        import httpcore

        headers = [("Accept", "application/json"), ("Accept-Encoding", "identity")]
        if request.body is not None:
            headers.append(("Content-Type", "application/json"))
        try:
            async with self._connections().stream(
                request.method, request.url, headers=headers, content=request.body
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
            import certifi
            import httpcore

            from wallet.lightning.guard import Guard

            trust = ssl.create_default_context()
            trust.load_verify_locations(certifi.where())
            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=trust,
                max_connections=16,
                max_keepalive_connections=0,  # an address is looked at anew for each request
                network_backend=Guard(self._addresses),
            )
        return self._pool

    async def _addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a name, all of them fit to connect to. Raises OSError."""
        if host.endswith(".onion"):
            raise OSError("onion services need a proxy, and none is set")
        found = list(await self._resolve(host, port))
        if not found:
            raise OSError("the name has no address")
        if not all(may_connect(address, loopback=self.loopback) for address in found):
            raise OSError("it leads into a private network")
        return found[:_TRIED]

    async def aclose(self) -> None:
        """Lets go of connections."""
        if self._pool is not None:
            await self._pool.aclose()


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
