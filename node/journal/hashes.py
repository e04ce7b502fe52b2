"""The tree's hashes on disk: derived, rebuilt when wrong, never trusted.

One flat file a level, `tree/<L>`, is all tiles of C2SP tlog-tiles level L one after another: hash
n of level L is the root of the perfect subtree over the leaves [n * 256**L, (n+1) * 256**L). Any
subtree a proof needs is then at most 128 hashes of one level away. What is not yet written out is
kept in memory. Whoever takes hashes from here checks what they fold to against a signed root.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from threading import Lock

from node.errors import JournalError
from node.journal.tree import Frontier, perfect_root, range_root, ranges

_WRITE_OUT_BYTES = 1 << 16


class HashFiles:
    """Tile hashes of a growing tree.

    Args:
        folder: where the level files are; made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: list[int] = []
        self._fresh: list[bytearray] = []
        self._lock = Lock()
        self.whole = True

    def load(self, size: int) -> Frontier | None:
        """Takes the first `size` leaves' hashes from disk, forgetting any beyond them.

        Returns:
            The tree's right edge, not yet checked against anything; None where hashes are missing.
        """
        self._written, self._fresh = [], []
        count, level = size, 0
        while count:
            path = self._folder / str(level)
            if not path.is_file() or path.stat().st_size < 32 * count:
                self._written, self._fresh = [], []
                return None
            self._written.append(count)
            self._fresh.append(bytearray())
            count, level = count >> 8, level + 1
        return Frontier(size, [self.subtree(*part) for part in ranges(0, size)])

    def begin(self, frontier: Frontier) -> None:
        """Starts behind a pruned part whose hashes are lost: they read as zeros from then on.

        Then `whole` is False, and roots of older trees cannot be had from here.
        """
        self.load(0)
        self.whole = not frontier.size
        while count := frontier.size >> (8 * len(self._written)):
            self._written.append(0)
            self._fresh.append(bytearray(32 * count))

    def extend(self, frontier: Frontier, leaves: list[bytes]) -> None:
        """Adds leaves to the frontier and keeps the tile hashes this completes."""
        frontier.extend(leaves, self._keep)

    def _keep(self, level: int, nodes: list[bytes]) -> None:
        with self._lock:
            if level == len(self._fresh):
                self._fresh.append(bytearray())
                self._written.append(0)
            self._fresh[level] += b"".join(nodes)

    def cut(self, size: int) -> None:
        """Forgets leaves from `size` on; they must not have been written out yet."""
        for level, fresh in enumerate(self._fresh):
            keep = (size >> (8 * level)) - self._written[level]
            if keep < 0:
                raise JournalError(f"hashes of level {level} were written before their commit")
            del fresh[32 * keep :]

    def write_out(self, *, whole: bool = False) -> None:
        """Writes fresh hashes to the files: all of them, or only where many have gathered.

        What cannot be written stays in memory; when the log is opened again it is derived again.
        """
        if not whole and (not self._fresh or len(self._fresh[0]) < _WRITE_OUT_BYTES):
            return  # the others grow 256 times slower each
        with suppress(OSError):
            for level, fresh in enumerate(self._fresh):
                if fresh and (whole or len(fresh) >= _WRITE_OUT_BYTES):
                    with self._lock:
                        self._write(level, fresh)

    def _write(self, level: int, fresh: bytearray) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self._folder / str(level), flags, 0o600)
        try:
            done = os.pwrite(fd, fresh, 32 * self._written[level]) // 32
        finally:
            os.close(fd)
        self._written[level] += done
        del fresh[: 32 * done]

    def read(self, level: int, start: int, count: int) -> bytes:
        """`count` hashes of a level from hash `start` on, 32 bytes each. Raises JournalError."""
        with self._lock:
            found = self._read(level, start, count)
        if len(found) != 32 * count:
            raise JournalError(f"tile hashes of level {level} are missing from {self._folder}")
        return found

    def _read(self, level: int, start: int, count: int) -> bytes:
        if level >= len(self._written):
            return b""
        written, found = self._written[level], b""
        if start < written:
            fd = os.open(f"{self._folder}/{level}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = os.pread(fd, 32 * min(count, written - start), 32 * start)
            finally:
                os.close(fd)
        if start + count > written:
            offset = 32 * (max(start, written) - written)
            found += self._fresh[level][offset : 32 * (start + count - written)]
        return found

    def subtree(self, start: int, end: int) -> bytes:
        """Hash of the perfect, aligned subtree over the leaves [start, end)."""
        height = (end - start).bit_length() - 1
        level, count = height >> 3, 1 << (height & 7)
        raw = self.read(level, start >> (8 * level), count)
        return perfect_root([raw[at : at + 32] for at in range(0, len(raw), 32)])

    def root(self, size: int) -> bytes:
        """Root of the tree as it was at `size` leaves."""
        return range_root(0, size, self.subtree)
