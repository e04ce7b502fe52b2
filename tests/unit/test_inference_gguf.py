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
from node.inference.gguf import ArraySize, read_header
from node.inference.testing import (
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
    assert header.metadata["tokenizer.ggml.tokens"] == ArraySize(260)
    assert header.tensors == 2 + 2 * 9
    assert header.weights == 260 * 32 + 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32)


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
        read(folder, bytes(data))


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    with pytest.raises(ModelError):
        read(tmp_path_factory.mktemp("any"), b"GGUF\x03\x00\x00\x00" + data + b"\xff" * 8)


def test_folders_and_missing_files_are_model_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ModelError, match="cannot be read"):
            read_header(path)
