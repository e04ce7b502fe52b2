"""Where a passphrase comes from when a node starts, and nobody types one into it.

In this order: an inherited pipe (`freehold up --detach` asked a person), the variable
FREEHOLD_PASSPHRASE, a systemd credential (systemd.exec(5), `LoadCredential=`). The variables are
taken out of the environment, so that no process of the node inherits them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "FREEHOLD_PASSPHRASE"
PIPE = "FREEHOLD_PASSPHRASE_FD"
CREDENTIALS = "CREDENTIALS_DIRECTORY"
CREDENTIAL = "freehold-passphrase"
MOST_BYTES = 4096
"""Of a passphrase: what comes after them in a pipe or a file is not read."""


def from_environment(env: MutableMapping[str, str]) -> str | None:
    """The passphrase this process was started with; None where it was given none."""
    piped, said = env.pop(PIPE, ""), _unicode(env.pop(VARIABLE, ""))
    if piped.isdigit():
        with contextlib.suppress(OSError), open(int(piped), "rb") as pipe:
            said = _text(pipe.read(MOST_BYTES)) or said
    return said or _credential(env.get(CREDENTIALS, "")) or None


def is_given(env: MutableMapping[str, str]) -> bool:
    """Whether a node that is started with this environment has one without being asked."""
    return bool(env.get(VARIABLE) or _credential(env.get(CREDENTIALS, "")))


def _credential(folder: str) -> str:
    if not folder:
        return ""
    try:
        descriptor = os.open(Path(folder) / CREDENTIAL, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(descriptor, "rb") as file:
        return _text(file.read(MOST_BYTES))


def _unicode(said: str) -> str:
    """A variable's value without what is not UTF-8, which no passphrase has: it is a wrong one."""
    return said.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace").rstrip("\r\n")
