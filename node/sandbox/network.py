"""The network as the `http` capability sees it: names resolved once, connections by address.

A connection is one stream with one deadline: every read, write and handshake gets the time that is
left, so that a peer that sends a byte now and then cannot hold a call.
"""

from __future__ import annotations

import functools
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from queue import Empty, Queue
from typing import Any, Protocol

import certifi
import httpcore

_RESOLVERS = 8
_TRIED = 4


class Network(Protocol):
    """Where a guest's requests go; tests have their own."""

    def resolve(self, host: str, port: int, timeout_s: float) -> list[str]:
        """The addresses of a name. Raises OSError."""
        ...

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        """A TCP connection. Raises OSError."""
        ...

    def tls(self) -> ssl.SSLContext:
        """What to trust."""
        ...


_resolving = threading.BoundedSemaphore(_RESOLVERS)


def _look_up(host: str, port: int, found: Queue[list[str] | OSError]) -> None:
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found.put(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))
    except (OSError, UnicodeError) as error:
        found.put(OSError(str(error)))
    finally:
        _resolving.release()


@functools.cache
def _trusted() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # python.org's Python for macOS has no others
    return context


class SystemNetwork:
    """The machine's own network.

    Looking up a name has a thread, since nothing can end its wait; a daemon thread, so that it
    does not hold the node up when it stops.
    """

    def resolve(self, host: str, port: int, timeout_s: float) -> list[str]:
        """The addresses the system knows for a name. Raises OSError."""
        if not _resolving.acquire(timeout=timeout_s):
            raise TimeoutError("too many names are being looked up")
        found: Queue[list[str] | OSError] = Queue()
        try:
            threading.Thread(target=_look_up, args=(host, port, found), daemon=True).start()
        except RuntimeError as error:  # no more threads: nobody will give the turn back
            _resolving.release()
            raise OSError(str(error)) from error
        try:
            answer = found.get(timeout=timeout_s)
        except Empty:
            raise TimeoutError(f"looking up {host} took too long") from None
        if isinstance(answer, OSError):
            raise answer
        return answer

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        """A TCP connection. Raises OSError."""
        return socket.create_connection((address, port), timeout_s)

    def tls(self) -> ssl.SSLContext:
        """The system's certificate authorities, and Mozilla's."""
        return _trusted()


class Stream(httpcore.NetworkStream):
    """A connection that counts what it sends and ends at a deadline."""

    def __init__(
        self, connection: socket.socket, remaining_s: Callable[[], float], count: Count
    ) -> None:
        self._socket, self._remaining_s, self._count = connection, remaining_s, count

    def _arm(self, error: type[Exception]) -> None:
        left = self._remaining_s()
        if left <= 0:
            raise error("out of time")
        self._socket.settimeout(left)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What came, at most `max_bytes`; empty at the end."""
        self._arm(httpcore.ReadTimeout)
        try:
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from None
        except OSError as error:
            raise httpcore.ReadError(str(error)) from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends all of it; counted first, so that a limit stops it before a byte has left."""
        self._count(len(buffer))
        view = memoryview(buffer)
        while view:
            self._arm(httpcore.WriteTimeout)
            try:
                sent = self._socket.send(view)
            except TimeoutError as error:
                raise httpcore.WriteTimeout(str(error)) from None
            except OSError as error:
                raise httpcore.WriteError(str(error)) from None
            view = view[sent:]

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> Stream:
        """The same connection under TLS; the certificate must be for `server_hostname`."""
        self._arm(httpcore.ConnectTimeout)
        try:
            wrapped = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from None
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from None
        return Stream(wrapped, self._remaining_s, self._count)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for: the TLS object, which settles the protocol."""
        return (
            self._socket
            if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket)
            else None
        )


Count = Callable[[int], None]


class Pinned(httpcore.NetworkBackend):
    """Connects to addresses that were checked, whatever name it is asked for."""

    def __init__(
        self,
        network: Network,
        addresses: Iterable[str],
        remaining_s: Callable[[], float],
        count: Count,
    ) -> None:
        self._network, self._addresses = network, tuple(addresses)[:_TRIED]
        self._remaining_s, self._count = remaining_s, count

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Stream:
        """A connection to the first of the addresses that answers."""
        reason: OSError | None = None
        for tried, address in enumerate(self._addresses):
            share = self._remaining_s() / (len(self._addresses) - tried)
            try:
                connection = self._network.connect(address, port, max(share, 0.001))
            except OSError as error:
                reason = error
            else:
                return Stream(connection, self._remaining_s, self._count)
        raise httpcore.ConnectError(str(reason or "there is no address to connect to"))
