"""httpcore's connections, made only to addresses that were looked at."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpcore

Addresses = Callable[[str, int], Awaitable[list[str]]]


class Guard(httpcore.AsyncNetworkBackend):
    """Asks `addresses` for where a name may be reached, and goes there and nowhere else. TLS is
    still checked against the name.

    One that says nothing for `silent_s` is left for the next.
    """

    def __init__(self, addresses: Addresses, *, silent_s: float) -> None:
        self._addresses, self._silent_s = addresses, silent_s
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first of the addresses that answers."""
        try:
            addresses = await self._addresses(host, port)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from None
        for address in addresses[:-1]:
            try:
                return await self._connected(address, port, self._silent_s, local_address)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._connected(addresses[-1], port, timeout, local_address)

    async def _connected(self, *where: Any) -> _Plain:
        return _Plain(await self._inner.connect_tcp(*where))


class _Plain(httpcore.AsyncNetworkStream):
    """A connection before TLS. httpcore leaves it open where who waits for TLS is cancelled, and
    nobody else knows of it."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self.read, self.write, self.aclose = inner.read, inner.write, inner.aclose  # type: ignore[method-assign]
        self.get_extra_info = inner.get_extra_info  # type: ignore[method-assign]

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        """The same connection under TLS, or closed."""
        try:
            return await self._inner.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self._inner.aclose()
            raise
