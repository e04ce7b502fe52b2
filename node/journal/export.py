"""The log as C2SP tlog-tiles: what anyone's transparency-log tools read and verify.

checkpoint                      the last commit's note
tile/<L>/<N>[.p/<W>]            hashes
tile/entries/<N>[.p/<W>]        entries, each with its length before it as uint16
log.vkey                        the key that signed the checkpoint
seals/<size>                    the notes that lead to that key from the log's first
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from node.journal.hashes import HashFiles
from node.journal.note import Checkpoint
from node.journal.opening import Opened
from node.journal.reader import LogReader

TILE = 256


def tile_path(level: int | str, number: int, width: int = TILE) -> str:
    """The path of a tile below `tile/`'s parent, as in C2SP tlog-tiles."""
    parts = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        parts.insert(0, f"x{number % 1000:03d}")
    partial = "" if width == TILE else f".p/{width}"
    return f"tile/{level}/{'/'.join(parts)}{partial}"


def tiles(size: int) -> Iterator[tuple[int, int, int]]:
    """All tiles of a tree of `size` leaves as (level, number, width)."""
    level = 0
    while (count := size >> (8 * level)) > 0:
        for number in range(count // TILE):
            yield level, number, TILE
        if count % TILE:
            yield level, count // TILE, count % TILE
        level += 1


def export_tiles(target: Path, opened: Opened, hashes: HashFiles, reader: LogReader) -> int:
    """Writes the layout into a folder.

    Entry bundles that reach into a pruned part are left out, as the specification allows.

    Returns:
        How many files were written.
    """
    point = Checkpoint.parse(opened.tip.note)
    signer = next(key for key in reversed(opened.keys) if point.signed_by(key))
    files = 0
    for level, number, width in tiles(point.size):
        raw = hashes.read(level, number * TILE, width)
        _write(target / tile_path(level, number, width), raw)
        files += 1
        if level == 0 and number * TILE >= reader.start:
            lines = reader.lines(number * TILE, number * TILE + width)
            bundle = b"".join(struct.pack(">H", len(raw)) + raw for raw in lines)
            _write(target / tile_path("entries", number, width), bundle)
            files += 1
    for seal in opened.seals:
        _write(target / "seals" / str(seal.size), seal.note)
    _write(target / "log.vkey", f"{signer}\n".encode())
    _write(target / "checkpoint", point.note)
    return files + len(opened.seals) + 2


def _write(path: Path, raw: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
