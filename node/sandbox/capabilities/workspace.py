"""The `workspace` capability: an agent's files, opened one component at a time.

A path is never handed to the kernel whole. Each component is opened relative to the folder before
it with O_NOFOLLOW, so a symbolic link is refused wherever it points and whoever planted it, and one
swapped in while we look changes nothing. Hard links, devices, sockets and pipes are refused, as
they are ways out of the folder. `.git` does not exist here: version control lies beside the files;
nor do names that it leaves out, since a rollback would not touch them.

Writing goes to a temporary name and is renamed into place, so a file is never half written.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import count
from pathlib import Path

from node.disk import sync
from node.names import OURS, is_reserved
from node.sandbox import abi
from node.sandbox.abi import Err
from node.sandbox.binding import HostFunction
from node.sandbox.hostcall import READS_ONLY, HostCall, RefusedError, Usage
from node.sandbox.limits import Limits
from node.sandbox.types import WorkspaceGrant

_Make = Callable[[str, int], None]
_PATH_BYTES = 1024
_NAME_BYTES = 255
_DEPTH = 32
_LISTED = 10_000
_HIDDEN = ".git"
_TEMPORARY = f"{OURS}tmp-"
_TURNS = tuple(threading.Lock() for _ in range(64))
_STAMPS = count(1)
_LAST: dict[Path, int] = {}  # by workspace: the stamp of its last change
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_PASSED_OVER = (FileNotFoundError, NotADirectoryError, PermissionError)  # gone, swapped, not ours
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def _parts(path: str) -> list[str]:
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


@contextmanager
def _opened(name: str, flags: int, folder: int | None = None) -> Iterator[int]:
    fd = os.open(name, flags, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _folder(root: str, parts: list[str], make: _Make | None = None) -> Iterator[int]:
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


def _enter(name: str, folder: int, make: _Make | None) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if make is None:
            raise
    make(name, folder)
    return os.open(name, _FOLDER, dir_fd=folder)


def _list(call: HostCall, grant: WorkspaceGrant, path: str) -> str:
    names: list[str] = []
    parts = _parts(path)
    with _folder(str(grant.root), parts) as fd, os.scandir(fd) as entries:
        for entry in entries:
            if len(names) >= _LISTED:
                raise RefusedError(f"the folder has more than {_LISTED} names")
            if not is_reserved(entry.name) and "\n" not in entry.name:
                names.append(entry.name + ("/" if entry.is_dir(follow_symlinks=False) else ""))
    names = sorted(name for name in names if _is_text(name))
    for name in names:  # whoever wrote a file chose its name, and that of the folder it is in
        call.origins["workspace:" + "/".join((*parts, name.rstrip("/")))] = None
    return "\n".join(names)


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _read(call: HostCall, grant: WorkspaceGrant, path: str) -> str:
    parts = _file_parts(path)
    with _turn(grant, parts):
        content = _content(call.limits.file_bytes, grant, parts)
        marks = grant.marks("/".join(parts)) if grant.marks else ()
    call.origins |= {f"mark:{mark}": None for mark in marks}
    call.origins["workspace:" + "/".join(parts)] = None
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise RefusedError("the file is not UTF-8 text") from None


def _content(limit: int, grant: WorkspaceGrant, parts: list[str]) -> bytes:
    with _folder(str(grant.root), parts[:-1]) as fd, _opened(parts[-1], _FILE, fd) as file:
        _check_file(os.fstat(file))
        content = _read_all(file, limit + 1)
    if len(content) > limit:
        raise RefusedError(f"the file is larger than file_bytes = {limit}")
    return content


def _read_all(file: int, limit: int) -> bytes:
    pieces, size = [], 0
    while size < limit and (piece := os.read(file, limit - size)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _file_parts(path: str) -> list[str]:
    parts = _parts(path)
    if not parts or path.endswith("/"):
        raise RefusedError("the path names a folder, not a file")
    return parts


def _write(call: HostCall, grant: WorkspaceGrant, path: str, content: str) -> int:
    _check_writable(call, grant)
    parts, data = _file_parts(path), content.encode()
    if len(data) > call.limits.file_bytes:
        raise RefusedError(f"a file has at most file_bytes = {call.limits.file_bytes}")
    with _turn(grant, parts):
        try:
            return _put(call, grant, parts, data)
        finally:
            _changed(call, grant)


def _turn(grant: WorkspaceGrant, parts: list[str]) -> threading.Lock:
    """One is at a file at a time, so that what is noted of it last is of who wrote it last, and
    what is read with it is of what is read."""
    return _TURNS[hash((grant.root, *parts)) % len(_TURNS)]


def _put(call: HostCall, grant: WorkspaceGrant, parts: list[str], data: bytes) -> int:
    usage = _usage(call, grant)
    announce = _announcing(call, grant, "/".join(parts))
    make = partial(_make_folder, call.limits, usage, announce)
    with _folder(str(grant.root), parts[:-1], make) as fd:
        old = _replaceable(parts[-1], fd)
        grows = len(data) - (old.st_size if old else 0)
        _check_quota(call.limits, usage, grows, int(old is None))
        announce()
        _replace(parts[-1], fd, data, stat.S_IMODE(old.st_mode) & 0o777 if old else 0o600)
        if grant.after_write is not None:
            grant.after_write("/".join(parts), tuple(call.origins))
    usage.size += grows
    usage.files += old is None
    return len(data)


def _usage(call: HostCall, grant: WorkspaceGrant) -> Usage:
    """What the workspace holds; measured again where another call has changed it since."""
    last = _LAST.setdefault(grant.root, 0)
    if call.usage is None or call.usage.stamp != last:
        call.usage = _measure(str(grant.root), call.limits)
        call.usage.stamp = last
    return call.usage


def _changed(call: HostCall, grant: WorkspaceGrant) -> None:
    """Has other calls measure anew, and this one where another changed something meanwhile."""
    stamp = next(_STAMPS)
    if call.usage is not None and call.usage.stamp == _LAST.get(grant.root):
        call.usage.stamp = stamp
    _LAST[grant.root] = stamp


def _announcing(call: HostCall, grant: WorkspaceGrant, path: str) -> Callable[[], None]:
    """Tells `before_write` once, before a first folder is made: its name may be all that stays."""

    @cache
    def announce() -> None:
        if grant.before_write is not None:
            grant.before_write(path, tuple(call.origins))
            call.check()  # that may have waited, and nobody else for this any more

    return announce


def _make_folder(
    limits: Limits, usage: Usage, announce: Callable[[], None], name: str, folder: int
) -> None:
    _check_quota(limits, usage, 0, 1)
    announce()
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    usage.files += 1


def _check_writable(call: HostCall, grant: WorkspaceGrant) -> None:
    if call.grant.read_only:
        raise RefusedError(READS_ONLY)
    if grant.mode != "rw":
        raise RefusedError("the workspace is granted read-only")


def _replaceable(name: str, folder: int) -> os.stat_result | None:
    """The file that would be replaced, None where there is none."""
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    _check_file(facts)
    return facts


def _replace(name: str, folder: int, data: bytes, mode: int) -> None:
    temporary = _TEMPORARY + secrets.token_hex(8)
    with _opened_new(temporary, folder) as fd:
        with suppress(OSError):  # a file system that has no modes
            os.fchmod(fd, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        sync(fd)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


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


def _check_quota(limits: Limits, usage: Usage, more_bytes: int, more_files: int) -> None:
    if more_bytes > 0 and usage.size + more_bytes > limits.workspace_bytes:
        raise RefusedError(f"the workspace is full: workspace_bytes = {limits.workspace_bytes}")
    if more_files and usage.files + more_files > limits.workspace_files:
        raise RefusedError(f"the workspace is full: workspace_files = {limits.workspace_files}")


def _measure(root: str, limits: Limits) -> Usage:
    """What the workspace holds, version control left out, and what we may not read; it stops where
    that is too much."""
    usage, waiting = Usage(), [root]
    while waiting and usage.files <= limits.workspace_files:
        with suppress(*_PASSED_OVER), os.scandir(waiting.pop()) as entries:
            for entry in (each for each in entries if each.name != _HIDDEN):
                waiting += _count(entry, usage)
    return usage


def _count(entry: os.DirEntry[str], usage: Usage) -> list[str]:
    """Counts a file or a folder; answers the folder, whose content is to be counted yet."""
    usage.files += 1
    if entry.is_dir(follow_symlinks=False):
        return [entry.path]
    with suppress(FileNotFoundError):
        usage.size += entry.stat(follow_symlinks=False).st_size
    return []


def _remove(call: HostCall, grant: WorkspaceGrant, path: str) -> str:
    _check_writable(call, grant)
    parts = _parts(path)
    if not parts:
        raise RefusedError("the workspace itself cannot be removed")
    with _turn(grant, parts), _folder(str(grant.root), parts[:-1]) as fd:
        facts = os.stat(parts[-1], dir_fd=fd, follow_symlinks=False)
        _announcing(call, grant, "/".join(parts))()
        if stat.S_ISDIR(facts.st_mode):
            os.rmdir(parts[-1], dir_fd=fd)
        else:
            os.unlink(parts[-1], dir_fd=fd)
    call.usage = None
    _changed(call, grant)
    return "/".join(parts)


_WORDS = {
    errno.ENOENT: "there is no such file",
    errno.ELOOP: "links are not followed",
    errno.ENOTDIR: "a part of the path is not a folder (links are not followed)",
    errno.EISDIR: "it is a folder",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.EACCES: "the host may not open it",
    errno.ENOSPC: "the disk is full",
    errno.ENXIO: "it is not a regular file",
}


def _guarded(work: Callable[..., str | int]) -> Callable[..., str | int | Err]:
    def run(call: HostCall, *arguments: str) -> str | int | Err:
        grant = call.require("workspace", call.grant.workspace)
        try:
            return work(call, grant, *arguments)
        except RefusedError as error:
            return Err(f"{arguments[0][:200]}: {error}")
        except OSError as error:
            reason = _WORDS.get(error.errno or 0, "the host could not do it")
            return Err(f"{arguments[0][:200]}: {reason}")

    return run


def workspace_functions(limits: Limits) -> tuple[HostFunction, ...]:
    """The functions of `freehold:tool/workspace`."""
    answer = abi.put_result(abi.put_text, abi.put_text)
    written = abi.put_result(abi.put_u64, abi.put_text)
    on_path = partial(HostFunction, params=(abi.text,), result=answer, soft=True)
    return (
        on_path("list", _guarded(_list)),
        on_path("read", _guarded(_read)),
        on_path("remove", _guarded(_remove)),
        HostFunction(
            "write",
            _guarded(_write),
            params=(abi.text, abi.text),
            result=written,
            limit=limits.file_bytes,
            soft=True,
        ),
    )
