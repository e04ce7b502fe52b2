"""Who is at the other end of a UNIX socket, as the kernel says it.

The socket file is 0600 in a 0700 folder already; this check holds even where somebody widened
those, and gives every request an actor for the journal. Linux: SO_PEERCRED (unix(7)); macOS:
LOCAL_PEERCRED, a `struct xucred` (sys/ucred.h).
"""

from __future__ import annotations

import os
import socket
import struct
import sys

_UCRED = struct.Struct("iII")  # pid, uid, gid
_XUCRED = struct.Struct("@IIh16I")  # version, uid, ngroups, 16 groups; aligned as C does
_XUCRED_VERSION = 0
_SOL_LOCAL = 0
_LOCAL_PEERCRED = 1


def peer_uid(connection: socket.socket) -> int | None:
    """The uid of the process that connected, None where the platform cannot say."""
    try:
        if sys.platform == "linux":
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            return int(_UCRED.unpack(raw)[1])
        if sys.platform == "darwin":
            return xucred_uid(connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size))
    except (OSError, struct.error):
        return None
    return None


def xucred_uid(raw: bytes) -> int | None:
    """The effective uid in a `struct xucred`, None if it is of a version we do not know.

    Raises:
        struct.error: it is not one.
    """
    version, uid, *_ = _XUCRED.unpack(raw)
    return int(uid) if version == _XUCRED_VERSION else None


def allowed(uid: int | None) -> bool:
    """Whether that user may control the node: the one it runs as, and root."""
    return uid is not None and uid in {0, os.geteuid()}
