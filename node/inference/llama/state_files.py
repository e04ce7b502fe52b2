"""A state as a file, and a folder of them that is kept within its size.

libllama ends the process on a state that is cut short, and takes one of another model of the same
shape without a word. So a file here is bound to the model's digest and to the settings that change
the layout, and its length and SHA-256 are verified before anything of it is shown to libllama.

Whoever can read these files can read the conversations. They are 0600 in a 0700 folder, the oldest
go when the folder is over its size, holds `MOST_STATES`, or the disk is wanted for the log, and
`clear` forgets all of them.

A file is: magic, four little-endian u64 (tokens, state bytes, 0, 0), 32 bytes of key, the tokens as
i32, the state, and the SHA-256 of all before it. Its name is the SHA-256 of key and tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
from array import array
from collections.abc import Container, Sequence
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from node.disk import listed

_MAGIC: Final = b"FHSTATE1"
_HEAD: Final = struct.Struct("<8sQQQQ32s")
_DIGEST_BYTES: Final = 32
_MAX_TOKENS: Final = 1 << 22
MOST_STATES: Final = 1024
SUFFIX: Final = ".state"
State: TypeAlias = bytes | memoryview


def state_key(*parts: str) -> bytes:
    """Names a model and the settings that its states depend on."""
    return hashlib.sha256("\n".join(parts).encode()).digest()


def name_of(key: bytes, tokens: Sequence[int]) -> str:
    """The name of the file of a state."""
    return hashlib.sha256(key + _pack(tokens)).hexdigest() + SUFFIX


def size_of(tokens: int, state: int) -> int:
    """Bytes of a file of so many tokens and so many bytes of state."""
    return _HEAD.size + 4 * tokens + state + _DIGEST_BYTES


def read_tokens(path: Path, key: bytes) -> list[int] | None:
    """The tokens of a state of this key; None of another, or where its size is not right."""
    try:
        with path.open("rb") as file:
            counts = _sizes(file.read(_HEAD.size), key)
            if counts is None or path.stat().st_size != size_of(*counts):
                return None
            return _read_array(file, counts[0])
    except OSError:
        return None


def read_state(path: Path, key: bytes, tokens: Sequence[int]) -> memoryview | None:
    """The state of these tokens, verified; None where it is not as it was written."""
    try:
        data = path.read_bytes()
    except (OSError, MemoryError):
        return None
    packed = _pack(tokens)
    start = _HEAD.size + len(packed)
    if not _whole(data, key) or data[_HEAD.size : start] != packed:
        return None
    return memoryview(data)[start:-_DIGEST_BYTES]


def write_state(path: Path, key: bytes, tokens: Sequence[int], state: State) -> None:
    """Writes a file whole, or not at all. Raises OSError."""
    partial = path.with_suffix(".part")
    try:
        _fill(partial, key, tokens, state)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def make_room(folder: Path, max_bytes: int, *, free: int, spare: Container[Path]) -> bool:
    """Removes the states used longest ago until the others have `max_bytes`, so many bytes of the
    disk are free, and one more of them may be written, or until only those to `spare` are left;
    whether it may."""
    files = []
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            files.append((stat.st_mtime_ns, stat.st_size, path))
    total, count = sum(size for _, size, _ in files), len(files)
    max_bytes = min(max_bytes, total + shutil.disk_usage(folder).free - free)
    for _, size, path in sorted(files):
        if total <= max_bytes and count < MOST_STATES:
            break
        if path in spare:
            continue
        with contextlib.suppress(OSError):
            path.unlink()
        total, count = total - size, count - 1
    return total <= max_bytes and count < MOST_STATES


def clear(folder: Path) -> None:
    """Removes every state in `folder`, whoever's, and what is not whole. Raises OSError."""
    for path in listed(folder):
        path.unlink(missing_ok=True)


def _fill(path: Path, key: bytes, tokens: Sequence[int], state: State) -> None:
    head = _HEAD.pack(_MAGIC, len(tokens), len(state), 0, 0, key)
    hasher = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        for part in (head, _pack(tokens), state):
            hasher.update(part)
            out.write(part)
        out.write(hasher.digest())


def _read_array(file: BinaryIO, count: int) -> list[int] | None:
    raw = file.read(4 * count)
    return None if len(raw) != 4 * count else array("i", raw).tolist()


def _sizes(head: bytes, key: bytes) -> tuple[int, int] | None:
    if len(head) != _HEAD.size:
        return None
    magic, tokens, state, zero, none, named = _HEAD.unpack(head)
    if magic != _MAGIC or named != key or zero or none or tokens > _MAX_TOKENS:
        return None
    return tokens, state


def _whole(data: bytes, key: bytes) -> bool:
    counts = _sizes(data[: _HEAD.size], key)
    if counts is None or len(data) != size_of(*counts):
        return False
    body = memoryview(data)
    return hashlib.sha256(body[:-_DIGEST_BYTES]).digest() == bytes(body[-_DIGEST_BYTES:])


def _pack(tokens: Sequence[int]) -> bytes:
    return array("i", tokens).tobytes()
