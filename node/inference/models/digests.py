"""Files found to be what their pins say.

Hashing 20 GB takes a minute, so the digest is remembered beside the identity of the file it was
taken from (device, inode, size, mtime and ctime in nanoseconds); whatever changes the bytes changes
one of these.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from node.clock import Clock
from node.disk import write_private
from node.errors import ModelError
from node.inference.models.files import Identity, Progress, digest, identity
from node.inference.models.pins import Pin

DIGESTS_FILE: Final = ".digests.json"
_CHANGED_HINT = "Restore the file; or, if the change is yours, remove the model and add it."
_SHIPPED_HINT = (
    "Install Freehold again. Who has trained the model anew pins it by "
    "python -c 'from node.inference import pin_shipped; pin_shipped()'"
)
_SETTLED_S = 2.0  # a file written less than this before it was hashed is hashed again next time


@dataclass(frozen=True)
class CheckedFile:
    """A file that was just found to be what its pin says."""

    pin: Pin
    path: Path
    identity: Identity


class Digests:
    """What files had when they were hashed last, kept in `folder`; nothing is without it."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    def check(self, pin: Pin, path: Path, progress: Progress | None = None) -> CheckedFile:
        """The file, hashed only if it may have changed since last time.

        Raises:
            ModelError: it is missing, or differs from its pin.
        """
        with opened(path, pin.name) as file:
            now = identity(os.fstat(file.fileno()))
            if self._remembered().get(str(path)) == [*now, pin.sha256]:
                return CheckedFile(pin, path, now)
            return self._hash(pin, path, file, progress)

    def verify(self, pin: Pin, path: Path, progress: Progress | None = None) -> CheckedFile:
        """The file, hashed whatever is remembered. Raises ModelError as `check`."""
        with opened(path, pin.name) as file:
            return self._hash(pin, path, file, progress)

    def _hash(self, pin: Pin, path: Path, file: BinaryIO, progress: Progress | None) -> CheckedFile:
        before, started = identity(os.fstat(file.fileno())), self._clock.wall()
        sha256, size = digest(file, progress)
        if identity(os.fstat(file.fileno())) != before:
            raise ModelError(f"{path} changed while it was read", hint="Try again.")
        if sha256 != pin.sha256:
            raise ModelError(
                f"the file of the model {pin.name!r} is not what was pinned: {path} has SHA-256 "
                f"{sha256} and {size} bytes, its pin says {pin.sha256} and {pin.size} bytes",
                hint=_SHIPPED_HINT if pin.shipped else _CHANGED_HINT,
            )
        if started - max(before[3:]) / 1e9 > _SETTLED_S:
            self._remember(str(path), [*before, sha256])
        return CheckedFile(pin, path, before)

    def _remembered(self) -> dict[str, Any]:
        """Digests taken before. A cache: whatever is wrong with it, it is only empty."""
        try:
            value = json.loads((self._folder / DIGESTS_FILE).read_text())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _remember(self, path: str, entry: Any) -> None:
        if not self._folder.is_dir():
            return
        entries = {**self._remembered(), path: entry}
        with contextlib.suppress(OSError):
            write_private(self._folder / DIGESTS_FILE, json.dumps(entries).encode())


@contextlib.contextmanager
def opened(path: Path, name: str) -> Iterator[BinaryIO]:
    """The file of the model `name`. Raises ModelError where it cannot be read."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        if error.filename not in (None, str(path)):  # of its copy
            raise
        raise ModelError(
            f"the file of the model {name!r} cannot be read: {path}: {error.strerror}",
            hint="Restore it, or remove the model and add it again.",
        ) from error
