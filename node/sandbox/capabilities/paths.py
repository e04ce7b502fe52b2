"""A path in an agent's folder, opened one component at a time.

A path is never handed to the kernel whole. Each component is opened relative to the folder before
it with O_NOFOLLOW, so a symbolic link is refused wherever it points and whoever planted it, and one
swapped in while we look changes nothing. Hard links, devices, sockets and pipes are refused, as
they are ways out of the folder. Names that version control and the node keep for themselves do not
exist here. Whatever the system refuses is an OSError.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from node.disk import sync
from node.names import OURS, is_reserved
from node.sandbox.hostcall import RefusedError

Make = Callable[[str, int], None]
_PATH_BYTES = 1024
_NAME_BYTES = 255
_DEPTH = 32
_TEMPORARY = f"{OURS}tmp-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def parts_of(path: str) -> list[str]:
    """The components of a path, none of which leads up or out. Raises RefusedError."""
    if "\0" in path or path.startswith("/") or "\\" in path:
        raise RefusedError("a path is relative, with / between names")
    if len(path.encode()) > _PATH_BYTES:
        raise RefusedError(f"a path has at most {_PATH_BYTES} bytes")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if len(parts) > _DEPTH:
        raise RefusedError(f"a path has at most {_DEPTH} names")
    for part in parts:
        _check_name(part)
    return parts


def file_parts(path: str) -> list[str]:
    """As `parts_of`, of a path that names a file."""
    parts = parts_of(path)
    if not parts or path.endswith("/"):
        raise RefusedError("the path names a folder, not a file")
    return parts


@contextmanager
def folder_at(root: str, parts: list[str], make: Make | None = None) -> Iterator[int]:
    """The descriptor of the folder `parts` below `root`; `make` is asked for a missing one."""
    fd = os.open(root, _FOLDER)
    try:
        for part in parts:
            inner = _enter(part, fd, make)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def read_file(name: str, folder: int, most: int) -> bytes:
    """At most so many bytes of a file. Raises RefusedError where it is not a regular one."""
    fd = os.open(name, _FILE, dir_fd=folder)
    try:
        _check_file(os.fstat(fd))
        return _read_all(fd, most)
    finally:
        os.close(fd)


def replaceable(name: str, folder: int) -> os.stat_result | None:
    """The file that would be replaced, None where there is none. Raises as `read_file`."""
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    _check_file(facts)
    return facts


def replace(name: str, folder: int, data: bytes, mode: int) -> None:
    """Writes a file of those bits under a temporary name and renames it into place."""
    temporary = _TEMPORARY + secrets.token_hex(8)
    with _opened_new(temporary, folder) as fd:
        with suppress(OSError):  # a file system that has no modes
            os.fchmod(fd, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        sync(fd)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _check_name(name: str) -> None:
    if name == "..":
        raise RefusedError("a path may not lead up (..)")
    if any(character < " " or character == "\x7f" for character in name):
        raise RefusedError("a name has no control characters")
    if len(name.encode()) > _NAME_BYTES:
        raise RefusedError(f"a name has at most {_NAME_BYTES} bytes")
    if is_reserved(name):
        raise FileNotFoundError(errno.ENOENT, "there is no such file", name)


def _check_file(facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise RefusedError("it is not a regular file")
    if facts.st_nlink > 1:
        raise RefusedError("it is a hard link, which could lead out of the workspace")


def _enter(name: str, folder: int, make: Make | None) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if make is None:
            raise
    make(name, folder)
    return os.open(name, _FOLDER, dir_fd=folder)


def _read_all(file: int, limit: int) -> bytes:
    pieces, size = [], 0
    while size < limit and (piece := os.read(file, limit - size)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


@contextmanager
def _opened_new(name: str, folder: int) -> Iterator[int]:
    fd = os.open(name, _NEW, 0o600, dir_fd=folder)
    try:
        yield fd
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise
    finally:
        os.close(fd)
