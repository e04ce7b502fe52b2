"""Tells whoever started the daemon that it is ready, without anyone polling.

Two ways, both from outside conventions: systemd's sd_notify(3) datagram on `$NOTIFY_SOCKET`, and
an inherited pipe named by `$FREEHOLD_READY_FD` that gets one line when the daemon is ready and
end-of-file if it never will be (as in s6's notification-fd).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

READY_FD = "FREEHOLD_READY_FD"


class Readiness:
    """The notifications one process owes. Takes its variables out of `env`, for children's sake."""

    def __init__(self, env: MutableMapping[str, str]) -> None:
        self._systemd = env.pop("NOTIFY_SOCKET", "")
        descriptor = env.pop(READY_FD, "")
        self._pipe: int | None = int(descriptor) if descriptor.isdigit() else None
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.set_inheritable(self._pipe, False)

    def ready(self) -> None:
        """The control socket answers."""
        self._datagram("READY=1")
        if self._pipe is not None:
            with contextlib.suppress(OSError):  # the starter may have gone away
                os.write(self._pipe, b"ready\n")
            with contextlib.suppress(OSError):
                os.close(self._pipe)
            self._pipe = None

    def stopping(self) -> None:
        """Shutdown has begun."""
        self._datagram("STOPPING=1")

    def _datagram(self, message: str) -> None:
        if not self._systemd.startswith(("/", "@")):
            return
        address = self._systemd.replace("@", "\0", 1) if self._systemd[0] == "@" else self._systemd
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        ):
            sender.sendto(message.encode(), address)
