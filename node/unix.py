"""HTTP over a UNIX socket, for httpx.

httpcore's own connection leaks its socket where connecting fails (a daemon that is just going
down), so the connection is made here: every way out of `connect_unix_socket` closes it or hands
it on.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpcore
import httpx

LOOK_EVERY_S = 0.05


class UnixTransport(httpx.HTTPTransport):
    """httpx's transport to the socket at `path`."""

    def __init__(self, path: Path) -> None:
        no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one reads all CA files
        super().__init__(uds=str(path), verify=no_tls)
        self._pool = httpcore.ConnectionPool(uds=str(path), network_backend=UnixBackend())


class UnixBackend(httpcore.NetworkBackend):
    """Connects, and closes what it could not connect."""

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> UnixStream:
        try:
            return UnixStream(connected(path, timeout or 0))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error


def connected(path: str, timeout_s: float) -> socket.socket:
    """A connection to the socket at `path`.

    Raises:
        TimeoutError: somebody listens there, and has not taken those who came before.
        OSError: there can be none.
    """
    until = time.monotonic() + timeout_s
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            connection.connect(path)
            return connection
        except BlockingIOError as error:  # its queue is full; who has a timeout does not wait there
            connection.close()
            if time.monotonic() > until:
                raise TimeoutError("it takes no connections just now") from error
            time.sleep(LOOK_EVERY_S)
        except BaseException:
            connection.close()
            raise


class UnixStream(httpcore.NetworkStream):
    """One connection, as httpcore reads and writes it. Timeouts in seconds, None for none."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What came, at most `max_bytes`; empty at the end."""
        try:
            self._socket.settimeout(timeout)
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends all of it."""
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        """`is_readable`: whether an idle connection has something to read, as when it ended."""
        if info != "is_readable":
            return None
        if self._socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))
