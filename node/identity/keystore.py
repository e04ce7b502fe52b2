"""Named secrets, one file each: 0600, in a folder that is 0700.

Files, not a database or a desktop keyring: a node runs headless, and one home makes one backup.
What is too widely readable is refused and not silently repaired, since somebody may already have
read it; `freehold doctor --fix` repairs it once a person has seen that. What is replaced or removed
is overwritten, which is as good as the disk's own erasure.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from node.disk import listed, sync, sync_folder, write_private
from node.errors import IdentityError

NAME = re.compile(r"\A[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?\Z")
SUFFIX = ".secret"
SECRET_MAX_BYTES = 65_536


class KeyStore:
    """The secrets of one home, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> bytes:
        """The secret's bytes.

        Raises:
            IdentityError: there is none of that name, or others can read or replace it.
        """
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                for wrong in (self._wide(self._folder), _judge(path, os.fstat(file.fileno()))):
                    if wrong:
                        raise IdentityError(wrong, hint="`freehold doctor --fix` repairs it.")
                return file.read(SECRET_MAX_BYTES + 1)
        except FileNotFoundError:
            raise IdentityError(
                f"there is no secret named {name}",
                hint=f"`freehold secret set {name}` makes it.",
            ) from None
        except OSError as error:
            raise _refused("read", path, error) from error

    def set(self, name: str, secret: bytes) -> None:
        """Keeps the secret, in place of any of that name. At once and durably, or not at all.

        Raises:
            IdentityError: the name is not allowed, or the secret is empty or over 64 KiB.
        """
        path = self._path(name)
        if not 0 < len(secret) <= SECRET_MAX_BYTES:
            raise IdentityError(
                f"a secret has 1 to {SECRET_MAX_BYTES} bytes, this one {len(secret)}",
                hint="Give the value on standard input.",
            )
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with _overwritten(path):
                write_private(path, secret)
        except OSError as error:
            raise _refused("write", path, error) from error

    def names(self) -> list[str]:
        """The names there are, sorted. Raises IdentityError if the folder cannot be read."""
        try:
            paths = listed(self._folder, f"*{SUFFIX}")
        except OSError as error:
            raise _refused("read", self._folder, error) from error
        names = (path.name.removesuffix(SUFFIX) for path in paths)
        return sorted(name for name in names if NAME.match(name))

    def remove(self, name: str) -> None:
        """Durably. Raises IdentityError if there is none of that name, or the disk refuses."""
        path = self._path(name)
        try:
            with _overwritten(path):
                path.unlink()
                sync_folder(self._folder)
        except FileNotFoundError:
            raise IdentityError(
                f"there is no secret named {name}", hint="`freehold secret list` shows them."
            ) from None
        except OSError as error:
            raise _refused("remove", path, error) from error

    def problems(self) -> list[str]:
        """What others can read or replace, as sentences; empty when all is well."""
        paths = [self._folder, *sorted(self._folder.rglob("*"))] if self._folder.exists() else []
        return [wrong for path in paths if (wrong := self._wide(path))]

    def repair(self) -> None:
        """Takes group's and others' permissions away. Symbolic links are left alone."""
        for path in (self._folder, *self._folder.rglob("*")):
            if not path.is_symlink() and self._wide(path):
                path.chmod(0o700 if path.is_dir() else 0o600)

    def _path(self, name: str) -> Path:
        if not NAME.match(name):
            raise IdentityError(
                f"{name!r} cannot be a secret's name",
                hint="Use up to 64 of a-z 0-9 . _ - and begin and end with a letter or digit.",
            )
        return self._folder / f"{name}{SUFFIX}"

    @staticmethod
    def _wide(path: Path) -> str | None:
        return _judge(path, path.lstat())


@contextlib.contextmanager
def _overwritten(path: Path) -> Iterator[None]:
    """What loses its name at `path` meanwhile loses its bytes, too."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # nothing is there, or nothing that could be overwritten
        yield
        return
    try:
        yield
        left = os.fstat(fd)
        with contextlib.suppress(OSError):  # it is replaced already, and nothing is lost by this
            if not left.st_nlink:  # else it has another name: somebody's backup
                os.pwrite(fd, bytes(left.st_size), 0)
                sync(fd)
    finally:
        os.close(fd)


def _refused(what: str, path: Path, error: OSError) -> IdentityError:
    return IdentityError(f"cannot {what} {path}: {error.strerror}", hint="See `freehold doctor`.")


def _judge(path: Path, status: os.stat_result) -> str | None:
    if stat.S_ISLNK(status.st_mode):
        return f"{path} is a symbolic link"
    if status.st_uid not in {os.geteuid(), 0}:
        return f"{path} belongs to uid {status.st_uid}"
    if status.st_mode & 0o077:
        return f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o})"
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return f"{path} is not a plain file"
    return None
