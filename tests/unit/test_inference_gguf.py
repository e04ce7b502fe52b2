"""Headers of model files, which may come from anyone."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import ModelError
from node.inference.models.gguf import Array, read_header
from node.inference.models.gguf_header import Header
from node.inference.testing.gguf import (
    CHATML_TEMPLATE,
    TinyModel,
    array,
    pack_gguf,
    pair,
    write_tiny_gguf,
)

EXAMPLES = int(os.environ.get("FREEHOLD_TEST_EXAMPLES", "300"))


def read(tmp_path: Path, data: bytes) -> object:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return read_header(path)


def test_a_header_says_what_was_written(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "a.gguf", TinyModel(context=777))
    header = read_header(path)
    assert header.architecture == "llama"
    assert header.context_tokens == 777
    assert header.chat_template == CHATML_TEMPLATE
    assert header.quantisation == "F32"
    assert header.version == 3
    assert header.metadata["tokenizer.ggml.tokens"] == Array(260)
    assert header.tensors == 2 + 2 * 9
    assert header.weights == 260 * 32 + 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32)
    shared = read_header(write_tiny_gguf(tmp_path / "b.gguf", TinyModel(kv_heads=1)))
    assert shared.number("attention.head_count_kv") == 1
    assert shared.weights == header.weights - 2 * 2 * 16 * 32


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"GGUX" + bytes(60), "does not begin with GGUF"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(60), "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(60), "version"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "metadata pairs"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1), "in the middle of its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 63), "bytes in a string"),
        (pack_gguf([pair("a", "u32", 1), pair("a", "u32", 1)], {}), "twice"),
        (pack_gguf([pair("general.alignment", "u32", 3)], {}), "alignment"),
        (pack_gguf([array("a", "u32", [1])[:13] + b"\xff" * 8], {}), "items in an array"),
        (pack_gguf([array("a", "str", [])[:-8] + struct.pack("<Q", 2_000_001)], {}), "2000000 str"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(tmp_path, data)
    assert problem in caught.value.message
    assert caught.value.hint


def test_a_file_cut_short_is_noticed_at_every_byte(tmp_path: Path) -> None:
    tensors = {"a": np.ones((2, 32), np.float32)}
    whole = pack_gguf([pair("general.architecture", "str", "llama")], tensors)
    read(tmp_path, whole)
    for end in range(len(whole)):
        with pytest.raises(ModelError):
            read(tmp_path, whole[:end])


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    at=st.integers(0, 1 << 20),
    junk=st.binary(min_size=1, max_size=16),
    cut=st.none() | st.integers(0, 1 << 20),
)
def test_damage_is_a_model_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes, cut: int | None
) -> None:
    folder = tmp_path_factory.mktemp("fuzz", numbered=True)
    data = bytearray(write_tiny_gguf(folder / "a.gguf", TinyModel(layers=1)).read_bytes()[:9000])
    header = 6000
    data[at % header : at % header + len(junk)] = junk
    if cut is not None:
        del data[cut % len(data) :]
    with contextlib.suppress(ModelError):
        found = read(folder, bytes(data))
        assert isinstance(found, Header)
        assert found.version in (2, 3)
        assert found.architecture.isprintable()
        assert found.tensors > 0
        assert 0 <= found.weights_bytes <= found.file_bytes


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    with pytest.raises(ModelError):
        read(tmp_path_factory.mktemp("any"), b"GGUF\x03\x00\x00\x00" + data + b"\xff" * 8)


def test_folders_and_missing_files_are_model_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ModelError, match="cannot be read"):
            read_header(path)


TINY = TinyModel(layers=1, specials=(("<|im_end|>", 3),), template="{{ messages }}")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "a.gguf", TINY).read_bytes()


def changed(data: bytes, key: str, after: bytes) -> bytes:
    """The file with what follows a key (its type and value) written over."""
    at = data.index(struct.pack("<Q", len(key)) + key.encode()) + 8 + len(key)
    return data[:at] + after + data[at + len(after) :]


def u32(value: int) -> bytes:
    return struct.pack("<II", 4, value)


@pytest.mark.parametrize(
    ("key", "after", "problem"),
    [
        ("llama.block_count", u32(0), "block_count"),
        ("llama.block_count", u32(513), "block_count"),
        ("llama.context_length", u32(0), "context_length"),
        ("llama.embedding_length", u32(1 << 31), "embedding_length"),
        ("llama.attention.head_count", struct.pack("<If", 6, 2.0), "head_count"),
        ("tokenizer.ggml.tokens", struct.pack("<IIQ", 9, 8, 256), "type"),
        ("tokenizer.ggml.token_type", struct.pack("<IIQ", 9, 6, 257), "wrong type"),
        ("tokenizer.ggml.merges", struct.pack("<II", 9, 4), "wrong type"),
        ("general.architecture", struct.pack("<IQ", 8, 5) + b"ll/ma", "name its architecture"),
    ],
)
def test_values_that_libllama_would_abort_on_are_refused(
    tmp_path: Path, tiny: bytes, key: str, after: bytes, problem: str
) -> None:
    with pytest.raises(ModelError, match=problem):
        read(tmp_path, changed(tiny, key, after))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ([pair("llama.expert_count", "u32", 513)], "expert_count"),
        ([pair("llama.expert_used_count", "u32", 2)], "expert_used_count"),
        ([array("llama.attention.head_count_kv", "f32", [1.0])], "head_count_kv"),
        ([array("llama.attention.head_count_kv", "u32", [])], "head_count_kv"),
        ([pair("llama.block_count", "bool", True)], "block_count"),
        ([pair("general.alignment", "i32", 32)], "wrong type"),
        ([pair("general.alignment", "u32", 24)], "bad alignment"),
        ([array("tokenizer.ggml.scores", "f32", [1.0])], "0 tokens, but 1"),
        ([array("tokenizer.ggml.tokens", "str", ["a", "b", "a"])], "same token twice"),
    ],
)
def test_models_that_cannot_be(tmp_path: Path, more: list[bytes], problem: str) -> None:
    meta = [pair("general.architecture", "str", "llama"), *more]
    with pytest.raises(ModelError, match=problem):
        read(tmp_path, pack_gguf(meta, {"a": np.ones((1, 32))}))


@pytest.mark.parametrize(
    ("architecture", "more", "problem"),
    [
        (
            "llama",
            [pair("general.type", "str", "adapter")],
            "of its own, but of the type 'adapter'",
        ),
        ("clip", [], "of its own, but of the type 'mmproj'"),
        ("llama", [pair("split.count", "u32", 2)], "one of 2 parts"),
        ("llama", [pair("tokenizer.ggml.model", "str", "no_vocab")], "has no vocabulary"),
    ],
    ids=["adapter", "old mmproj", "split", "no vocabulary"],
)
def test_what_is_no_whole_model_is_not_said_to_be_damaged(
    tmp_path: Path, architecture: str, more: list[bytes], problem: str
) -> None:
    meta = [pair("general.architecture", "str", architecture), *more]
    with pytest.raises(ModelError, match=problem) as caught:
        read(tmp_path, pack_gguf(meta, {"a": np.ones((1, 32))}))
    assert "whole model in one file" in str(caught.value.hint)


def tensor(name: str, dims: list[int], kind: int, offset: int) -> bytes:
    raw = name.encode()
    head = struct.pack("<Q", len(raw)) + raw
    return head + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


@pytest.mark.parametrize(
    ("infos", "problem"),
    [
        ([tensor("a", [32], 4, 0)], "unknown type 4"),
        ([tensor("a", [31], 2, 0)], "impossible shape 31"),
        ([tensor("a", [], 0, 0)], "impossible shape none"),
        ([tensor("a", [0, 2**64 - 1], 0, 0)], "impossible shape"),
        ([tensor("a", [2**63, 2], 0, 0)], "impossible shape"),
        ([tensor("a", [1, 1, 1, 1, 1], 0, 0)], "dimensions"),
        ([tensor("a" * 64, [8], 0, 0)], "bytes in a string"),
        ([tensor("a", [8], 0, 0), tensor("a", [8], 0, 32)], "twice"),
        ([tensor("a", [8], 0, 0), tensor("b", [8], 0, 0)], "not where it belongs"),
        ([tensor("a", [8], 0, 2**63)], "not where it belongs"),
        ([tensor("a", [1 << 40], 0, 0)], "before its weights do"),
    ],
)
def test_tensors_that_cannot_be(tmp_path: Path, infos: list[bytes], problem: str) -> None:
    meta = pair("general.architecture", "str", "llama")
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), 1) + meta + b"".join(infos)
    with pytest.raises(ModelError, match=problem):
        read(tmp_path, head + bytes(4096))


def test_a_header_without_end_is_not_read_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.inference.models.gguf.MAX_HEADER_BYTES", 100_000)
    data = pack_gguf([array(f"k{n}", "i32", [0] * 2000) for n in range(20)], {})
    with pytest.raises(ModelError, match="header of over 100000 bytes"):
        read(tmp_path, data)


def test_what_is_not_damaged_is_not_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it is a web page") as caught:
        read(tmp_path, b"<!DOCTYPE html><title>Sign in</title>")
    assert "/resolve/" in str(caught.value.hint)
    meta = pair("general.architecture", "str", "llama") + tensor("a", [256], 139, 0)
    with pytest.raises(ModelError, match="unknown type 139") as caught:
        read(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + meta + bytes(4096))
    assert "another quantisation" in str(caught.value.hint)


def test_empty_tokens_are_told_apart(tmp_path: Path) -> None:
    meta = [
        pair("general.architecture", "str", "llama"),
        array("tokenizer.ggml.tokens", "str", ["a", "", ""]),
    ]
    path = tmp_path / "a.gguf"
    path.write_bytes(pack_gguf(meta, {"a": np.ones((1, 32))}))
    assert read_header(path).vocabulary == 3


def test_numbers_by_layer(tmp_path: Path) -> None:
    meta = [
        pair("general.architecture", "str", "llama"),
        pair("llama.attention.head_count", "u32", 4),
        array("llama.attention.head_count_kv", "u32", [2, 0, 2]),
    ]
    path = tmp_path / "a.gguf"
    path.write_bytes(pack_gguf(meta, {"a": np.ones((1, 32))}))
    header = read_header(path)
    assert header.numbers("attention.head_count_kv", 3) == [2, 0, 2]
    assert header.numbers("attention.head_count", 3) == [4, 4, 4]
    assert header.number("attention.head_count_kv") == 2
    assert header.number("attention.key_length", 7) == 7
    assert header.weights_bytes == 128


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, 1 << 16),
            st.sampled_from([b"\xff" * 8, bytes(8), b"\x01", b"\x80", b"\x09\0\0\0", b"\x08"])
            | st.binary(min_size=1, max_size=9),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_header_changed_anywhere_is_refused_or_within_bounds(
    tmp_path_factory: pytest.TempPathFactory, tiny: bytes, edits: list[tuple[int, bytes]]
) -> None:
    data = bytearray(tiny)
    header = data.index(b"output_norm.weight") + 48
    for at, junk in edits:
        data[at % header : at % header + len(junk)] = junk
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        found = read_header(path)
        assert 0 < found.weights_bytes <= len(data)
        assert 1 <= found.number("block_count", 1) <= 512
        assert 0 <= found.context_tokens <= 1 << 30
