"""Which tokens the KV cache holds, and for which sequences.

A cell of llama.cpp's unified KV cache may belong to many sequences: those that were copied from one
another share their cells up to where they part. This is that, as a radix tree: a node is a stretch
of cells that the same sequences hold, and a sequence ends at the end of a node. So the longest
prefix of a new prompt is found in one walk, and the number of cells in use is exact. Two sequences
that came to the same tokens by themselves have cells of their own, and are siblings here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """A sequence whose first `length` tokens are those that were asked for."""

    sequence: int
    length: int


class KvTree:
    """Sequences by number, each a list of token ids."""

    def __init__(self) -> None:
        self._root = _Node([], None)
        self._tips: dict[int, _Node] = {}
        self._lengths: dict[int, int] = {}
        self.cells = 0

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._tips

    def length(self, sequence: int) -> int:
        """Tokens of a sequence."""
        return self._lengths[sequence]

    def tokens(self, sequence: int) -> list[int]:
        """The tokens of a sequence."""
        parts = [node.tokens for node in self._path(sequence)]
        return [token for part in reversed(parts) for token in part]

    def cells_of(self, sequences: Iterable[int]) -> int:
        """Cells that any of the sequences hold."""
        nodes = {id(node): node for sequence in sequences for node in self._path(sequence)}
        return sum(len(node.tokens) for node in nodes.values())

    def own(self, sequence: int) -> int:
        """Cells that this sequence alone holds: those that its removal frees."""
        tip = self._tips[sequence]
        return 0 if tip.children or len(tip.tips) > 1 else len(tip.tokens)

    def add(self, sequence: int) -> None:
        """Begins an empty sequence."""
        self._root.tips.add(sequence)
        self._tips[sequence] = self._root
        self._lengths[sequence] = 0

    def extend(self, sequence: int, tokens: Sequence[int]) -> None:
        """Puts tokens at a sequence's end, in cells of their own."""
        tip = self._tips[sequence]
        if tip is self._root or tip.children or len(tip.tips) > 1:
            leaf = _Node([], tip)
            tip.children.append(leaf)
            self._move(sequence, leaf)
            tip = leaf
        tip.tokens.extend(tokens)
        self.cells += len(tokens)
        self._lengths[sequence] += len(tokens)

    def fork(self, source: int, target: int, length: int) -> None:
        """Begins `target` with the first `length` tokens of `source`, in the same cells."""
        point = self._point(source, length)
        point.tips.add(target)
        self._tips[target] = point
        self._lengths[target] = length

    def cut(self, sequence: int, length: int) -> None:
        """Forgets all but the first `length` tokens of a sequence."""
        if length < self._lengths[sequence]:
            self._prune(self._move(sequence, self._point(sequence, length)))
            self._lengths[sequence] = length

    def remove(self, sequence: int) -> None:
        """Forgets a sequence; cells that no other holds are free."""
        tip = self._tips.pop(sequence)
        del self._lengths[sequence]
        tip.tips.discard(sequence)
        self._prune(tip)

    def match(self, tokens: Sequence[int], *, whole: bool = False) -> Found | None:
        """The sequence that begins most like `tokens`; None where none has a token in common.

        With `whole`, only of sequences that are in `tokens` to their end.
        """
        wanted = list(tokens)
        node, at, length = self._root, 0, 0
        found: Found | None = None
        while True:
            best, length = _closest(node.children, wanted, at)
            if best is None:
                return found
            at += length
            complete = length == len(best.tokens)
            if not whole:
                found = Found(best.any_tip(), at)
            elif complete and best.tips:
                found = Found(min(best.tips), at)
            if not complete:
                return found
            node = best

    def _path(self, sequence: int) -> Iterator[_Node]:
        node: _Node | None = self._tips[sequence]
        while node is not None:
            yield node
            node = node.parent

    def _point(self, sequence: int, length: int) -> _Node:
        """The node that ends `length` tokens into a sequence, split off if need be."""
        node, depth = self._tips[sequence], self._lengths[sequence]
        while node.parent is not None and depth - len(node.tokens) >= length:
            depth -= len(node.tokens)
            node = node.parent
        return node if depth == length else node.split(len(node.tokens) - (depth - length))

    def _move(self, sequence: int, node: _Node) -> _Node:
        """Lets a sequence end at `node`; where it ended before."""
        before = self._tips[sequence]
        before.tips.discard(sequence)
        node.tips.add(sequence)
        self._tips[sequence] = node
        return before

    def _prune(self, node: _Node) -> None:
        """Takes away nodes that nobody holds, and joins one with its only child."""
        while node.parent is not None and not node.tips and not node.children:
            self.cells -= len(node.tokens)
            node.parent.children.remove(node)
            node = node.parent
        if node.parent is not None and not node.tips and len(node.children) == 1:
            node.join()


class _Node:
    """A stretch of cells. Identity counts, not content."""

    __slots__ = ("children", "parent", "tips", "tokens")

    def __init__(self, tokens: list[int], parent: _Node | None) -> None:
        self.tokens = tokens
        self.parent = parent
        self.children: list[_Node] = []
        self.tips: set[int] = set()

    def any_tip(self) -> int:
        """A sequence that holds this node: one that ends here, if there is one."""
        node = self
        while not node.tips:
            node = node.children[-1]
        return min(node.tips)

    def split(self, at: int) -> _Node:
        """Makes the first `at` tokens a node of their own, and returns it."""
        assert self.parent is not None
        head = _Node(self.tokens[:at], self.parent)
        head.children.append(self)
        siblings = self.parent.children
        siblings[siblings.index(self)] = head
        self.tokens, self.parent = self.tokens[at:], head
        return head

    def join(self) -> None:
        """Gives the tokens to the only child, which takes this node's place."""
        assert self.parent is not None
        (child,) = self.children
        child.tokens, child.parent = self.tokens + child.tokens, self.parent
        siblings = self.parent.children
        siblings[siblings.index(self)] = child


def _closest(nodes: list[_Node], wanted: list[int], at: int) -> tuple[_Node | None, int]:
    """The node that goes on most like `wanted` from `at`, and how far; None where none does."""
    best, most = None, 0
    for node in nodes:
        length = common(node.tokens, wanted, at)
        if length > most:
            best, most = node, length
    return best, most


def common(some: list[int], other: list[int], at: int = 0) -> int:
    """How many tokens of `some` are those of `other` from `at` on."""
    length = min(len(some), len(other) - at)
    if length <= 0 or some[0] != other[at]:
        return 0
    if some[:length] == other[at : at + length]:
        return length
    low, high = 1, length  # the first `low` are alike, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        if some[low:middle] == other[at + low : at + middle]:
            low = middle
        else:
            high = middle
    return low
