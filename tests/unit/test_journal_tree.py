"""The tree against RFC 6962's definitions, and its proofs against every tree of small sizes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.journal.hashes import HashFiles
from node.journal.tree import (
    EMPTY_ROOT,
    Frontier,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proofs,
    leaf_hash,
    node_hash,
    ranges,
)

# leaves and roots of the certificate-transparency test tree of sizes 1 to 8
CT_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
CT_LEAVES += ["606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962, 2.1 writes it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return node_hash(naive(leaves[:half]), naive(leaves[half:]))


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(b"%d" % number) for number in range(count)]


def test_the_certificate_transparency_tree() -> None:
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    for leaf, root in zip(CT_LEAVES, CT_ROOTS, strict=True):
        frontier.push(leaf_hash(bytes.fromhex(leaf)))
        assert frontier.root().hex() == root


@given(st.lists(st.integers(0, 70), max_size=6))
def test_a_tree_grown_in_batches_is_the_tree(batches: list[int]) -> None:
    leaves = leaves_of(sum(batches))
    frontier, at = Frontier(), 0
    for count in batches:
        frontier.extend(leaves[at : at + count])
        at += count
    assert (frontier.size, frontier.root()) == (len(leaves), naive(leaves))
    assert frontier.fits()


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_ranges_are_aligned_and_cover(one: int, two: int) -> None:
    start, end = sorted((one, two))
    at = start
    for low, high in ranges(start, end):
        width = high - low
        assert low == at
        assert width & (width - 1) == 0
        assert low % width == 0
        at = high
    assert at == end


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[HashFiles, list[bytes]]:
    """Hash files of 700 leaves, part of them written out."""
    files, leaves = HashFiles(tmp_path_factory.mktemp("tree")), leaves_of(700)
    frontier = Frontier()
    for start, end in ((0, 300), (300, 301), (301, 700)):
        files.extend(frontier, leaves[start:end])
        if end == 301:
            files.write_out(whole=True)
    return files, leaves


def test_every_inclusion_proof_of_small_trees(grown: tuple[HashFiles, list[bytes]]) -> None:
    files, leaves = grown
    for size in [*range(1, 40), 255, 256, 257, 511, 700]:
        root = naive(leaves[:size])
        for index in {0, size // 3, size // 2, size - 1}:
            (path,) = inclusion_proofs(index, [size], files.subtree)
            assert check_inclusion(leaves[index], index, size, path, root)
            assert not check_inclusion(leaves[index], (index + 1) % (size + 1), size, path, root)
            assert not check_inclusion(leaves[index], index, size, [*path, root], root)
            assert not check_inclusion(leaf_hash(b"x"), index, size, path, root)
            if path:
                assert not check_inclusion(leaves[index], index, size, path[:-1], root)


def test_every_consistency_proof_of_small_trees(grown: tuple[HashFiles, list[bytes]]) -> None:
    files, leaves = grown
    for new in [*range(1, 25), 256, 300, 700]:
        for old in {1, 2, 3, new // 2 or 1, new - 1 or 1, new}:
            if old > new:
                continue
            path = consistency_proof(old, new, files.subtree)
            roots = naive(leaves[:old]), naive(leaves[:new])
            assert check_consistency(old, new, *roots, path)
            assert not check_consistency(old, new, leaf_hash(b"x"), roots[1], path)
            assert not check_consistency(old, new, *roots, [*path, roots[0]])
            if path:
                assert not check_consistency(old, new, *roots, path[:-1])


def test_hash_files_come_back_from_disk(tmp_path: Path) -> None:
    files, leaves, frontier = HashFiles(tmp_path / "tree"), leaves_of(600), Frontier()
    files.extend(frontier, leaves)
    files.write_out(whole=True)
    for size in (0, 1, 256, 599, 600):
        again = HashFiles(tmp_path / "tree")
        loaded = again.load(size)
        assert loaded is not None
        assert loaded.root() == naive(leaves[:size])
        again.extend(loaded, leaves[size:])
        assert again.root(600) == frontier.root()
    assert HashFiles(tmp_path / "tree").load(601) is None


def test_what_was_not_committed_is_cut_off(tmp_path: Path) -> None:
    files, leaves, frontier = HashFiles(tmp_path), leaves_of(520), Frontier()
    files.extend(frontier, leaves[:500])
    kept = frontier.copy()
    files.extend(frontier, leaf_hash(b"other") and leaves[:20])
    files.cut(500)
    files.extend(kept, leaves[500:])
    assert files.root(520) == kept.root() == naive(leaves)
