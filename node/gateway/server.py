"""Serves the control API on the home's UNIX socket and, if asked, on TCP.

uvicorn's own UNIX socket handling widens the file's mode to 0666 and its main loop wakes ten times
a second, so the sockets are bound here and the loop waits for an event instead. Signals belong to
the daemon, not to uvicorn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from node.errors import ConfigError, DaemonRunningError, RequestError
from node.gateway.http import error_response
from node.gateway.peer import allowed, peer_uid
from node.home import NO_DISK

BACKLOG = 64
KEEP_ALIVE_S = 30
CLOSE_WITHIN_S = 2
TCP_MAX = 64
"""Connections over TCP at once. Who has no token can hold some of them, and not the files that the
log and the wallet need."""
FIRST_REQUEST_S = 20
NO_HTTP = "The control API speaks HTTP/1.1; in an address, all but ASCII is percent-encoded."

log = logging.getLogger("freehold.control")


class PeerProtocol(H11Protocol):
    """HTTP/1.1 that asks the kernel who connected before it reads a byte.

    A UNIX peer appears in the ASGI scope as client `("uid:1000", 0)`. One over TCP is a stranger
    until its first request has come, and has little time for that.
    """

    is_tcp = False
    _first: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connection = transport.get_extra_info("socket")
        if connection.family != socket.AF_UNIX:
            if sum(getattr(other, "is_tcp", False) for other in self.connections) >= TCP_MAX:
                transport.abort()
                return
            super().connection_made(transport)
            self.is_tcp = True
            self._first = self.loop.call_later(FIRST_REQUEST_S, self._too_late)
            return
        uid = peer_uid(connection)
        if not allowed(uid):
            log.warning("refused a control connection from uid %s", uid)
            transport.abort()
            return
        super().connection_made(transport)
        self.client = (f"uid:{uid}", 0)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._first is not None:
            self._first.cancel()
        if self.transport is not None:
            super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Says in the one form of all errors that this is no HTTP; where an answer is under way, or
        was given before its request had ended, there is only hanging up."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # it is not answered a second time
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            reply = error_response(RequestError(msg, hint=NO_HTTP), 400)
            headers = [*reply.raw_headers, (b"connection", b"close")]
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=bytes(reply.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _too_late(self) -> None:
        if self.cycle is None:
            self.transport.close()


class ControlServer(uvicorn.Server):
    """uvicorn on sockets that are bound already, until `stop` is called."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=PeerProtocol,
                ws="none",
                lifespan="off",
                workers=1,  # else WEB_CONCURRENCY is read, a web application's
                proxy_headers=False,  # who asks is what the kernel says, never a header
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=CLOSE_WITHIN_S,
            )
        )
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Lets `serve` end: no new connections, two seconds for those there are."""
        self.should_exit = True
        self._stop.set()

    async def main_loop(self) -> None:
        await self._stop.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind_unix(path: Path) -> socket.socket:
    """A listening socket at `path`, 0600; a file left by a dead process gives way.

    Raises:
        DaemonRunningError: somebody answers there.
        ConfigError: something that is not a socket stands there, or there can be none.
    """
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o177)  # the file is never there with a wider mode
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(mask)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:  # which does not say of what file
        listener.close()
        raise ConfigError(f"cannot make {path}: {error.strerror or error}", hint=NO_DISK) from error
    except BaseException:
        listener.close()
        raise
    return listener


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} is not a socket", hint="Move it away and start again.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ConfigError(
                f"cannot tell who holds {path}: {error}", hint="Stop that process first."
            ) from error
    raise DaemonRunningError(
        f"a daemon already answers on {path}", hint="`freehold status` shows it."
    )


def bind_tcp(address: tuple[str, int]) -> socket.socket:
    """A listening TCP socket. Raises ConfigError if the address cannot be had."""
    host, port = address
    try:
        found: list[Any] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.create_server(found[0][4][:2], family=found[0][0], backlog=BACKLOG)
    except (OSError, UnicodeError) as error:  # a host that cannot be a name in DNS is the latter
        said = error.strerror if isinstance(error, OSError) else "that is no host"
        raise ConfigError(
            f"control.bind = {host}:{port}: {said or error}",
            hint="Choose another port, or leave control.bind out.",
        ) from error
    # what it accepts has it, too: a follower that lost its network would keep its place for ever
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setblocking(False)
    return listener
