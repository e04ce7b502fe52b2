"""Which tokens are in the KV cache: the tree against a plain model of it, and places in it."""

from __future__ import annotations

import os

from helpers.kv import evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

from node.inference.llama.backend import ToyBackend
from node.inference.llama.kvcache import KvCache
from node.inference.llama.kvtree import KvTree, common

EXAMPLES = int(os.environ.get("FREEHOLD_TEST_EXAMPLES", "150"))

tokens = st.lists(st.integers(0, 2), max_size=8)


@settings(max_examples=EXAMPLES, deadline=None)
@given(some=tokens, other=tokens, at=st.integers(0, 8))
def test_common_is_the_shared_beginning(some: list[int], other: list[int], at: int) -> None:
    length = common(some, other, at)
    rest = other[at:]
    assert some[:length] == rest[:length]
    assert length == min(len(some), len(rest)) or some[length] != rest[length]


class Plain:
    """The same as KvTree, with a list of cells for each sequence."""

    def __init__(self) -> None:
        self.held: dict[int, list[tuple[int, int]]] = {}
        self._cell = 0

    def extend(self, sequence: int, tokens: list[int]) -> None:
        for token in tokens:
            self._cell += 1
            self.held[sequence].append((token, self._cell))

    @property
    def cells(self) -> int:
        return len({cell for held in self.held.values() for _, cell in held})

    def tokens(self, sequence: int) -> list[int]:
        return [token for token, _ in self.held[sequence]]

    def own(self, sequence: int) -> int:
        others = [cell for other, held in self.held.items() if other != sequence for cell in held]
        return len(set(self.held[sequence]).difference(others))

    def longest(self, wanted: list[int], *, whole: bool) -> int:
        best = 0
        for sequence in self.held:
            length = common(self.tokens(sequence), wanted)
            if not whole or length == len(self.held[sequence]):
                best = max(best, length)
        return best


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "extend", "fork", "cut", "remove", "match", "whole"]),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 8),
        tokens,
    ),
    max_size=30,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(steps=steps)
def test_a_tree_is_what_its_sequences_hold(
    steps: list[tuple[str, int, int, int, list[int]]],
) -> None:
    tree, plain = KvTree(), Plain()
    for step, one, other, length, some in steps:
        if step == "add" and one not in plain.held:
            tree.add(one)
            plain.held[one] = []
        elif step == "extend" and one in plain.held and some:
            tree.extend(one, some)
            plain.extend(one, some)
        elif step == "fork" and one in plain.held and other not in plain.held:
            part = min(length, tree.length(one))
            tree.fork(one, other, part)
            plain.held[other] = plain.held[one][:part]
        elif step == "cut" and one in plain.held:
            tree.cut(one, length)
            plain.held[one] = plain.held[one][:length]
        elif step == "remove" and one in plain.held:
            tree.remove(one)
            del plain.held[one]
        elif step in ("match", "whole"):
            whole = step == "whole"
            found = tree.match(some, whole=whole)
            assert (found.length if found else 0) == plain.longest(some, whole=whole)
            if found:
                assert plain.tokens(found.sequence)[: found.length] == some[: found.length]
                assert not whole or len(plain.held[found.sequence]) == found.length
        assert tree.cells == plain.cells
        for sequence in plain.held:
            assert tree.tokens(sequence) == plain.tokens(sequence)
            assert tree.length(sequence) == len(plain.held[sequence])
            assert tree.own(sequence) == plain.own(sequence)


def test_nothing_is_left_of_what_is_removed() -> None:
    tree = KvTree()
    tree.add(0)
    tree.extend(0, [1, 2, 3, 4])
    for sequence in range(1, 6):
        tree.fork(0, sequence, sequence % 4 + 1)
        tree.extend(sequence, [9, sequence])
    assert tree.cells == 4 + 5 * 2
    for sequence in range(6):
        tree.remove(sequence)
    assert tree.cells == 0
    assert tree.match([1, 2]) is None


def test_a_prompt_begins_where_another_has_been() -> None:
    memory = ToyBackend(cells=100)
    cache = KvCache(memory, cells=100, sequences=4)
    assert evaluate(cache, memory, [1, 2, 3, 4]) == 0
    assert evaluate(cache, memory, [1, 2, 3, 4, 5, 6]) == 4  # the same, gone on with
    assert evaluate(cache, memory, [1, 2, 3, 9]) == 3  # copied
    assert evaluate(cache, memory, [1, 2, 3, 9]) == 3  # its last token's logits are needed
    assert cache.used == 6 + 1 + 1
    assert memory.evaluated == 4 + 2 + 1 + 1


def test_reuse_can_be_switched_off() -> None:
    memory = ToyBackend(cells=100)
    cache = KvCache(memory, cells=100, sequences=4, reuse=False)
    assert [evaluate(cache, memory, [1, 2, 3]) for _ in range(2)] == [0, 0]
    assert cache.used == 0


def test_what_was_unused_longest_goes_first() -> None:
    memory = ToyBackend(cells=30)
    cache = KvCache(memory, cells=30, sequences=8)
    for first in (1, 2, 3):
        evaluate(cache, memory, [first, 0, 0, 0, 0, 0, 0, 0])
    assert evaluate(cache, memory, [1, 0, 0, 0, 0, 0, 0, 0, 5]) == 8  # used again
    assert evaluate(cache, memory, [4] * 9, room=3) == 0
    assert cache.held([2, 0, 0, 9]) == 0  # gone
    assert cache.held([3, 0, 0, 9]) == 3
    assert cache.held([1, 0, 0, 9]) == 3


def test_room_is_set_aside_before_work_begins() -> None:
    memory = ToyBackend(cells=20)
    cache = KvCache(memory, cells=20, sequences=8)
    one = cache.open([1, 2, 3], 7)
    assert one is not None
    assert cache.free == 10
    assert cache.open([4] * 5, 6) is None
    assert cache.free == 10
    two = cache.open([4] * 5, 5)
    assert two is not None
    assert cache.free == 0
    cache.close(one.sequence)
    assert cache.free == 10


def test_who_finds_no_room_leaves_nothing_taken() -> None:
    memory = ToyBackend(cells=20)
    cache = KvCache(memory, cells=20, sequences=3)
    one = cache.open([1, 2, 3], 7)
    assert one is not None
    for first in range(5):
        assert cache.open([first] * 5, 6) is None
    cache.close(one.sequence)
    assert all(cache.open([first], 1) for first in (4, 5, 6))


def test_sequences_run_out_before_cells_do() -> None:
    memory = ToyBackend(cells=1000)
    cache = KvCache(memory, cells=1000, sequences=2)
    for first in range(5):
        evaluate(cache, memory, [first, 7])
    assert cache.used == 4
    assert cache.open([0, 1], 1)
    assert cache.open([1, 1], 1)
    assert cache.open([2, 1], 1) is None


def test_what_was_begun_from_counts_as_used() -> None:
    memory = ToyBackend(cells=30)
    cache = KvCache(memory, cells=30, sequences=8)
    for first in (1, 2):
        evaluate(cache, memory, [first, 0, 0, 0, 0, 0, 0, 0])
    assert evaluate(cache, memory, [1, 0, 0, 5]) == 3
    assert evaluate(cache, memory, [4] * 15, room=3) == 0
    assert (cache.held([2, 0, 9]), cache.held([1, 0, 0, 0, 9])) == (0, 4)


def test_what_is_to_be_begun_from_does_not_make_way_for_it() -> None:
    memory = ToyBackend(cells=100)
    cache = KvCache(memory, cells=100, sequences=2)
    evaluate(cache, memory, [1, 2, 3])
    at_work = cache.open([7, 8], 1)
    assert at_work is not None
    assert cache.open([1, 2, 9], 1) is None
    assert cache.held([1, 2, 3, 4]) == 3


def test_memory_that_cannot_be_cut_is_gone_on_with_only_whole() -> None:
    memory = ToyBackend(cells=100, partial=False)
    cache = KvCache(memory, cells=100, sequences=4)
    evaluate(cache, memory, [1, 2, 3, 4])
    assert evaluate(cache, memory, [1, 2, 9]) == 0
    assert evaluate(cache, memory, [1, 2, 3, 4, 5]) == 4
