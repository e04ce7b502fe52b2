"""Where a connection to a name that strangers gave may lead: out into the world, not inside.

A name is looked up once, every address it has must be public, and the connection goes to an
address that was looked at, whatever the name would mean a moment later.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_TRIED = 4  # addresses of a name
_NEXT_S = 0.25  # of silence, and the next address is tried, too (RFC 8305)
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 behind NAT64 (RFC 6052)
# what Python's own list, which depends on its version, may take for global: addresses of protocols,
# of tunnels and of examples, and the one by which a cloud talks to its machines from within
_INSIDE = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"),
        *("::/96", "64:ff9b:1::/48", "2001::/32", "3fff::/20", "fec0::/10"),
    )
)

Resolve = Callable[[str, int], Awaitable[Iterable[str]]]


@functools.cache
def trust() -> ssl.SSLContext:
    """Whom TLS believes: the system's certificates and Mozilla's. Reading them takes a while."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def is_here(host: str) -> bool:
    """Whether a host name or address says that it is this machine."""
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
    if any(parsed in network for network in _INSIDE):
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def place(url: str) -> tuple[str, int]:
    """The host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme in ("https", "wss") else 80)


async def websocket(url: str, host: str, port: int, **options: Any) -> ClientConnection:
    """A websocket at that place; it is not followed to another that it is redirected to.

    Raises:
        OSError, WebSocketException: there is none.
    """
    from websockets.asyncio.client import connect

    tls = None if urlsplit(url).scheme == "ws" else trust()
    options |= {"proxy": None, "happy_eyeballs_delay": _NEXT_S}
    options["compression"] = None  # a small frame could grow into a large message
    try:
        return await connect(url, host=host, port=port, ssl=tls, **options)
    except ValueError as error:  # a redirect that leads elsewhere, a name that cannot be in DNS
        raise OSError(str(error)) from None


async def look_up(host: str, port: int) -> list[str]:
    """The addresses the system knows for a name. Raises OSError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:  # as of a label of 64 characters
        raise OSError("the name cannot be looked up") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def tor_addresses(host: str, port: int, *, resolve: Resolve = look_up) -> list[str]:
    """What Tor's resolver answers for an onion service: nothing that is out in the world.

    Raises:
        OSError: another one answered, as of a network that has one answer for all names.
    """
    found = list(await resolve(host, port))
    if not found or any(may_connect(address) for address in found):
        raise OSError("its name does not lead into Tor: is Tor's resolver in use here?")
    return found


async def addresses(
    host: str, port: int, *, loopback: bool = False, resolve: Resolve = look_up
) -> list[str]:
    """Addresses of a name to connect to.

    Raises:
        OSError: it has none, or one that leads inside.
    """
    if host.endswith(".onion"):
        raise OSError("onion services need a proxy, and none is set")
    found = list(await resolve(host, port))
    if not found:
        raise OSError("the name has no address")
    if not all(may_connect(address, loopback=loopback) for address in found):
        raise OSError("it leads into a private network")
    return found[:_TRIED]
