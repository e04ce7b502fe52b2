"""The Merkle tree of RFC 6962, section 2.1, over SHA-256.

A `Frontier` is the whole state a log needs to grow: the roots of the perfect subtrees that make up
the tree, largest first. Their sizes are the set bits of the tree's size, so the list is at most 64
hashes long, and the tree's root is their fold from the right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

_sha256 = hashlib.sha256

EMPTY_ROOT = _sha256(b"").digest()
"""Root of the tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf: SHA-256(0x00 || data), 32 bytes."""
    return _sha256(b"\x00" + data).digest()


def leaf_hashes(leaves: Sequence[bytes]) -> list[bytes]:
    """`leaf_hash` of each."""
    return [_sha256(b"\x00" + leaf).digest() for leaf in leaves]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right), 32 bytes."""
    return _sha256(b"\x01" + left + right).digest()


Keep = Callable[[int, list[bytes]], None]
"""Takes a tile level and new hashes of that level, in order."""


@dataclass
class Frontier:
    """The right edge of a tree of `size` leaves; `peaks` are its perfect subtrees' roots."""

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    def push(self, leaf: bytes) -> None:
        """Adds one leaf by its hash."""
        self.extend([leaf])

    def extend(self, leaves: list[bytes], keep: Keep | None = None) -> None:
        """Adds leaves by their hashes, level by level.

        Args:
            leaves: 32 bytes each.
            keep: is given the new nodes of every eighth level, as tiles hold them.
        """
        nodes, peaks, start, level = leaves, self.peaks, self.size, 0
        left_over = []
        self.size += len(leaves)
        while nodes:
            if keep and not level & 7:
                keep(level >> 3, nodes)
            if start & 1:
                nodes = [peaks.pop(), *nodes]
            if len(nodes) & 1:
                left_over.append(nodes[-1])
            pairs = zip(nodes[::2], nodes[1::2], strict=False)
            nodes = [_sha256(b"\x01" + left + right).digest() for left, right in pairs]
            start, level = start >> 1, level + 1
        peaks.extend(reversed(left_over))

    def root(self) -> bytes:
        """Root of the tree, 32 bytes."""
        return fold(self.peaks)

    def copy(self) -> Frontier:
        """One that grows apart from this one."""
        return Frontier(self.size, self.peaks.copy())

    def fits(self) -> bool:
        """Whether there are as many peaks as the size needs, each a hash."""
        count = self.size.bit_count()
        return len(self.peaks) == count and all(len(peak) == 32 for peak in self.peaks)


def fold(peaks: Sequence[bytes]) -> bytes:
    """The root over perfect subtrees, largest first."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = _sha256(b"\x01" + peak + root).digest()
    return root


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """Root over a power of two of hashes of one level."""
    level = list(hashes)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [_sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return level[0]


def ranges(start: int, end: int) -> list[tuple[int, int]]:
    """Perfect, aligned subtrees covering [start, end), left to right, as few as there can be."""
    found = []
    while start < end:
        align = start & -start if start else 1 << 62
        width = min(align, 1 << ((end - start).bit_length() - 1))
        found.append((start, start + width))
        start += width
    return found


Subtree = Callable[[int, int], bytes]
"""Hash of the perfect, aligned subtree over the leaves [start, end)."""


def inclusion_proofs(index: int, sizes: Sequence[int], subtree: Subtree) -> list[list[bytes]]:
    """A leaf's audit paths, each from its sibling up (RFC 6962, 2.1.1). They share most hashes.

    Args:
        index: the leaf, from 0; below all `sizes`.
        sizes: of the trees proved against: the same tree as it grew.
        subtree: reads the hash of a perfect subtree.
    """
    if not 0 <= index < min(sizes):
        raise ValueError(f"no leaf {index} in a tree of {min(sizes)}")
    root = cache(partial(range_root, subtree=subtree))
    return [_path(index, 0, size, root) for size in sizes]


def _path(index: int, start: int, end: int, root: Callable[[int, int], bytes]) -> list[bytes]:
    if end - start == 1:
        return []
    middle = start + _split(end - start)
    if index < middle:
        return [*_path(index, start, middle, root), root(middle, end)]
    return [*_path(index, middle, end, root), root(start, middle)]


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """Proof that the tree of `old` leaves is a prefix of that of `new` (RFC 6962, 2.1.2)."""
    if not 0 < old <= new:
        raise ValueError(f"no consistency proof from {old} to {new}")
    return _subproof(old, 0, new, subtree, whole=True)


def _subproof(old: int, start: int, end: int, subtree: Subtree, *, whole: bool) -> list[bytes]:
    if old == end - start:
        return [] if whole else [range_root(start, end, subtree)]
    half = _split(end - start)
    middle = start + half
    if old <= half:
        left = _subproof(old, start, middle, subtree, whole=whole)
        return [*left, range_root(middle, end, subtree)]
    right = _subproof(old - half, middle, end, subtree, whole=False)
    return [*right, range_root(start, middle, subtree)]


def range_root(start: int, end: int, subtree: Subtree) -> bytes:
    """MTH(D[start:end]) for a range that starts where RFC 6962's recursion splits."""
    return fold([subtree(*part) for part in ranges(start, end)])


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `path` leads from the leaf hash at `index` to the root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, here = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            here = node_hash(sibling, here)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            here = node_hash(here, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and here == root


def check_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether `path` shows the old tree to be a prefix of the new (RFC 9162, 2.1.4.2)."""
    if old == new:
        return not path and old_root == new_root
    if not 0 < old < new or not path:
        return False
    steps = [old_root, *path] if old & (old - 1) == 0 else list(path)
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = steps[0]
    for sibling in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root
