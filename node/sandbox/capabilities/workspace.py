"""The `workspace` capability: an agent's files, within a quota, reached as `paths` opens them.

`.git` does not exist here: version control lies beside the files; nor do names that it leaves out,
since a rollback would not touch them. A file is never half written.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from itertools import count
from pathlib import Path

from node.names import is_reserved
from node.sandbox import abi
from node.sandbox.abi import Err
from node.sandbox.binding import HostFunction
from node.sandbox.capabilities.paths import (
    file_parts,
    folder_at,
    parts_of,
    read_file,
    replace,
    replaceable,
)
from node.sandbox.hostcall import READS_ONLY, HostCall, RefusedError, Usage
from node.sandbox.limits import Limits
from node.sandbox.types import WorkspaceGrant

_LISTED = 10_000
_HIDDEN = ".git"
_TURNS = tuple(threading.Lock() for _ in range(64))
_STAMPS = count(1)
_LAST: dict[Path, int] = {}  # by workspace: the stamp of its last change
_PASSED_OVER = (FileNotFoundError, NotADirectoryError, PermissionError)  # gone, swapped, not ours


def _list(call: HostCall, grant: WorkspaceGrant, path: str) -> str:
    names: list[str] = []
    parts = parts_of(path)
    with folder_at(str(grant.root), parts) as fd, os.scandir(fd) as entries:
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
    parts = file_parts(path)
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
    with folder_at(str(grant.root), parts[:-1]) as fd:
        content = read_file(parts[-1], fd, limit + 1)
    if len(content) > limit:
        raise RefusedError(f"the file is larger than file_bytes = {limit}")
    return content


def _write(call: HostCall, grant: WorkspaceGrant, path: str, content: str) -> int:
    _check_writable(call, grant)
    parts, data = file_parts(path), content.encode()
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
    with folder_at(str(grant.root), parts[:-1], make) as fd:
        old = replaceable(parts[-1], fd)
        grows = len(data) - (old.st_size if old else 0)
        _check_quota(call.limits, usage, grows, int(old is None))
        announce()
        replace(parts[-1], fd, data, stat.S_IMODE(old.st_mode) & 0o777 if old else 0o600)
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
    parts = parts_of(path)
    if not parts:
        raise RefusedError("the workspace itself cannot be removed")
    with _turn(grant, parts), folder_at(str(grant.root), parts[:-1]) as fd:
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
