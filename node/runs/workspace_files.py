"""Reads and restores the files of a workspace without ever following a link.

A tool, or a person, may have left anything there: links to `/etc`, pipes, devices, a file of a
terabyte. Every folder is opened relative to the one before it with O_NOFOLLOW; only regular files
with one name are read, up to a size. What is not read is not touched when files are put back.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from node.disk import sync
from node.errors import WorkspaceError
from node.home import LEFT_AFTER_S
from node.names import OURS, is_kept

MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_TOTAL_BYTES = 512 * 1024 * 1024
MAX_FILES = 20_000
MAX_DEPTH = 32
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TEMPORARY = f"{OURS}restoring-"
_HALF_WRITTEN = re.compile(r"\.freehold-(?:restoring|tmp)-[0-9a-f]{16}")  # here, or by a tool
_LEFT_OUT = {
    errno.ELOOP,
    errno.EMLINK,  # O_NOFOLLOW on FreeBSD
    errno.ENXIO,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EOPNOTSUPP,
}
_IN_THE_WAY = {errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST}
Files = Mapping[str, bytes]


def each_file(root: Path) -> Iterator[tuple[str, bytes]]:
    """The regular files by their path with `/`, one after another, so that not all are in memory at
    once; none if the folder is not there.

    Left out: links, files with several names, special files, what we may not read, what is over
    8 MiB or nested over 32 deep, and names that no history holds (`names`).

    Raises:
        WorkspaceError: there are more than 20,000 files or 512 MiB.
        OSError: a file cannot be read; it must not look as if it were deleted.
    """
    count = total = 0
    for path, content in _walk(root):
        yield path, content
        count, total = count + 1, total + len(content)
        if count > MAX_FILES or total > MAX_TOTAL_BYTES:
            raise WorkspaceError(
                f"{root} holds more than {MAX_FILES} files or {MAX_TOTAL_BYTES} bytes",
                hint="Move what the agent does not need elsewhere; then its history goes on.",
            )


def read_file(root: Path, path: str) -> bytes | None:
    """One file as `each_file` has it; None where it leaves it out, or there is none.

    Raises:
        OSError: it cannot be read.
    """
    if not all(map(is_kept, path.split("/"))):
        return None
    try:
        with _folder_of(root, path, make=False) as (folder, name):
            return _read(name, folder)
    except (FileNotFoundError, WorkspaceError):  # nor is a folder there that could hold it
        return None


def restore_files(root: Path, wanted: Files) -> None:
    """Makes the files `wanted`: writes those that differ, removes those that are not among them.

    Raises:
        WorkspaceError: something that is no file or folder of the workspace stands in the way.
        OSError: a file cannot be written.
    """
    is_right = {path: wanted.get(path) == content for path, content in each_file(root)}
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(is_right.keys() - wanted.keys(), reverse=True):
        _remove(root, path)
    for path in sorted(wanted):
        if not is_right.get(path):
            _write(root, path, wanted[path])


def remove_left(root: Path) -> None:
    """Removes what writers that were killed left half written, once no living one can be at it."""
    old = time.time() - LEFT_AFTER_S
    for _, names, folder in _folders(root):
        for name in filter(_HALF_WRITTEN.fullmatch, names):
            with suppress(OSError):
                if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < old:
                    os.unlink(name, dir_fd=folder)


def _walk(root: Path) -> Iterator[tuple[str, bytes]]:
    for prefix, names, folder in _folders(root):
        for name in sorted(names):
            content = _read(name, folder) if is_kept(name) else None
            if content is not None:
                yield prefix + name, content


def _folders(root: Path) -> Iterator[tuple[str, list[str], int]]:
    """What paths in it begin with, the names in it, and the folder itself, open."""
    try:
        top = os.open(root, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        for folder, folders, names, handle in os.fwalk(onerror=_left_out, dir_fd=top):
            prefix = "" if folder == "." else folder[2:] + "/"
            deep = prefix.count("/") >= MAX_DEPTH
            folders[:] = [] if deep else sorted(name for name in folders if is_kept(name))
            yield prefix, names, handle
    finally:
        os.close(top)


def _read(name: str, folder: int) -> bytes | None:
    try:
        handle = os.open(name, _READ, dir_fd=folder)
    except OSError as error:
        _left_out(error)
        return None
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            return None
        content = file.read(MAX_FILE_BYTES + 1)
    return content if len(content) <= MAX_FILE_BYTES else None


def _left_out(error: OSError) -> None:
    """Passes over a link, a socket, what is gone since it was listed, and what is not ours."""
    if error.errno not in _LEFT_OUT:
        raise error


@contextmanager
def _folder_of(root: Path, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
    """The open folder that holds `path`, and the last part of it."""
    *folders, name = path.split("/")
    if {"", ".", ".."} & {*folders, name}:  # a history that somebody else made
        raise WorkspaceError(
            f"{path!r} is no file of a workspace", hint="Its history was changed from outside."
        )
    at = os.open(root, _DIRECTORY)
    try:
        for part in folders:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, mode=0o700, dir_fd=at)
            inner = os.open(part, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = inner
        yield at, name
    except NotADirectoryError as error:
        raise WorkspaceError(
            f"{root / path}: something that is not a folder stands in the way",
            hint="Move it away and try again.",
        ) from error
    finally:
        os.close(at)


def _remove(root: Path, path: str) -> None:
    with _folder_of(root, path, make=False) as (folder, name):
        os.unlink(name, dir_fd=folder)
    *folders, _ = path.split("/")
    while folders:
        with _folder_of(root, "/".join(folders), make=False) as (folder, name):
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError:
                return  # not empty
        folders.pop()


def _write(root: Path, path: str, content: bytes) -> None:
    with _folder_of(root, path, make=True) as (folder, name):
        temporary = _TEMPORARY + secrets.token_hex(8)
        try:
            _write_new(temporary, folder, content, _mode(name, folder))
            _put(temporary, name, folder)
        except OSError as error:
            with suppress(FileNotFoundError):  # where the disk is full, what is half written goes
                os.unlink(temporary, dir_fd=folder)
            if error.errno not in _IN_THE_WAY:
                raise
            raise WorkspaceError(
                f"{root / path}: a folder stands in the way of a file",
                hint="Move it away and try again.",
            ) from error


def _put(temporary: str, name: str, folder: int) -> None:
    """Moves a file to its place, from which a folder goes that has none in it."""
    try:
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError:
        for empty, *_ in os.fwalk(name, topdown=False, onerror=_raised, dir_fd=folder):
            os.rmdir(empty, dir_fd=folder)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _raised(error: OSError) -> None:
    raise error


def _mode(name: str, folder: int) -> int:
    """The permissions of a file that is replaced; a version has none."""
    with suppress(FileNotFoundError):
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(facts.st_mode):
            return stat.S_IMODE(facts.st_mode) & 0o777
    return 0o600


def _write_new(name: str, folder: int, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
        with suppress(OSError):  # a file system that has no modes
            os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        sync(file.fileno())
