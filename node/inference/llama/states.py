"""States of sequences on disk: what lets a conversation go on at once after a restart.

libllama ends the process on a state that is cut short, and takes one of another model of the same
shape without a word. So a file here is bound to the model's digest and to the settings that change
the layout, and its length and SHA-256 are verified before anything of it is shown to libllama.
A file that is not right is removed and was never there: this is a cache.

Whoever can read these files can read the conversations. They are 0600 in a 0700 folder, the oldest
go when the folder is over its size, and `clear` forgets all of them.

A file is: magic, four little-endian u64 (tokens, state bytes, 0, 0), 32 bytes of key, the tokens as
i32, the state, and the SHA-256 of all before it. Its name is the SHA-256 of key and tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import struct
import threading
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from node.inference.llama.kvtree import common

_MAGIC: Final = b"FHSTATE1"
_HEAD: Final = struct.Struct("<8sQQQQ32s")
_DIGEST_BYTES: Final = 32
_MAX_TOKENS: Final = 1 << 22
_WAITING: Final = 2  # states that may wait to be written: each is held in memory
SUFFIX: Final = ".state"
State: TypeAlias = bytes | memoryview


@dataclass(frozen=True)
class Saved:
    """A state on disk that begins with `length` of the tokens asked for."""

    path: Path
    length: int
    tokens: int


def state_key(*parts: str) -> bytes:
    """Names a model and the settings that its states depend on."""
    return hashlib.sha256("\n".join(parts).encode()).digest()


class StateStore:
    """The states of one model in `folder`, which other models may share. Not thread-safe.

    Writing is done by a thread of its own, since hashing and writing a long context takes a good
    part of a second; `flush` waits for it.
    """

    def __init__(self, folder: Path, key: bytes, *, max_bytes: int) -> None:
        self._folder = folder
        self._key = key
        self._max_bytes = max_bytes
        self._known: dict[Path, list[int]] = {}
        self._queue: queue.Queue[tuple[Path, list[int], State] | None] = queue.Queue(_WAITING)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in folder.glob(f"*{SUFFIX}"):
            tokens = _read_tokens(path, key)
            if tokens is not None:
                self._known[path] = tokens
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def best(self, tokens: list[int]) -> Saved | None:
        """The state that begins most like `tokens`."""
        best = None
        for path, known in self._known.items():
            length = common(known, tokens)
            if length and (best is None or length > best.length):
                best = Saved(path, length, len(known))
        return best

    def holds(self, tokens: list[int]) -> bool:
        """Whether a state has all of these tokens."""
        best = self.best(tokens)
        return best is not None and best.length == len(tokens)

    def save(self, tokens: Sequence[int], state: State) -> bool:
        """Has a state written; False where too many wait already, and it is not."""
        kept = list(tokens)
        path = self._folder / (hashlib.sha256(self._key + _pack(kept)).hexdigest() + SUFFIX)
        try:
            self._queue.put_nowait((path, kept, state))
        except queue.Full:
            return False
        for older in [old for old, known in self._known.items() if known == kept[: len(known)]]:
            self._forget(older)  # what is new holds all that it has
        self._known[path] = kept
        return True

    def load(self, saved: Saved) -> memoryview | None:
        """The state, verified; None where it is not as it was written, and then it is removed."""
        self._queue.join()
        try:
            data = saved.path.read_bytes()
        except OSError:
            data = b""
        tokens = self._known.get(saved.path, [])
        start = _HEAD.size + 4 * len(tokens)
        if not _whole(data, self._key) or data[_HEAD.size : start] != _pack(tokens):
            self._forget(saved.path)
            return None
        with contextlib.suppress(OSError):
            os.utime(saved.path)
        return memoryview(data)[start:-_DIGEST_BYTES]

    def flush(self) -> None:
        """Waits until all is written."""
        self._queue.join()

    def close(self) -> None:
        """Writes what waits, and ends the thread."""
        self._queue.put(None)
        self._thread.join()

    def _forget(self, path: Path) -> None:
        self._known.pop(path, None)
        with contextlib.suppress(OSError):
            path.unlink()

    def _write_all(self) -> None:
        while (work := self._queue.get()) is not None:
            path, tokens, state = work
            with contextlib.suppress(OSError):  # a full disk: a state less
                self._write(path, tokens, state)
            self._queue.task_done()
        self._queue.task_done()

    def _write(self, path: Path, tokens: list[int], state: State) -> None:
        body = memoryview(state)
        size = _HEAD.size + 4 * len(tokens) + len(body) + _DIGEST_BYTES
        if size > self._max_bytes:
            return
        make_room(self._folder, self._max_bytes - size)
        partial = path.with_suffix(".part")
        head = _HEAD.pack(_MAGIC, len(tokens), len(body), 0, 0, self._key)
        hasher = hashlib.sha256()
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            for part in (head, _pack(tokens), body):
                hasher.update(part)
                out.write(part)
            out.write(hasher.digest())
        partial.replace(path)


def make_room(folder: Path, max_bytes: int) -> None:
    """Removes the states used longest ago until all are within `max_bytes`."""
    files = []
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            files.append((stat.st_mtime_ns, stat.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= max_bytes:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def clear(folder: Path) -> int:
    """Forgets every state in `folder`; how many there were."""
    paths = list(folder.glob(f"*{SUFFIX}"))
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _read_tokens(path: Path, key: bytes) -> list[int] | None:
    """The tokens of a state of this key; None of another, or where its size is not right."""
    try:
        with path.open("rb") as file:
            counts = _sizes(file.read(_HEAD.size), key)
            if counts is None or path.stat().st_size != _size(*counts):
                return None
            return _read_array(file, counts[0])
    except OSError:
        return None


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


def _size(tokens: int, state: int) -> int:
    return _HEAD.size + 4 * tokens + state + _DIGEST_BYTES


def _whole(data: bytes, key: bytes) -> bool:
    counts = _sizes(data[: _HEAD.size], key)
    if counts is None or len(data) != _size(*counts):
        return False
    body = memoryview(data)
    return hashlib.sha256(body[:-_DIGEST_BYTES]).digest() == bytes(body[-_DIGEST_BYTES:])


def _pack(tokens: Sequence[int]) -> bytes:
    return array("i", tokens).tobytes()
