"""A random-weight model of about half a billion weights in Q4_0, the shape of a 0.5B Qwen2.5.

Its words mean nothing; what it costs is that of a real one. The tied embedding is Q4_0 too. Made
once into a folder that is not committed, the same file each time.
"""

from __future__ import annotations

import itertools
import string
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from node.inference.testing.gguf import CHATML_TEMPLATE, CONTROL, byte_symbols

F32, Q4_0 = 0, 2
_BLOCK, _BLOCK_BYTES = 32, 18
_ALIGNMENT = 32
Blob = npt.NDArray[np.uint8]
SPECIALS = ("<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class Shape:
    """Widths in floats; `kv_heads` are shared by the `heads`."""

    vocabulary: int = 151_936
    width: int = 896
    layers: int = 24
    heads: int = 14
    kv_heads: int = 2
    ff: int = 4864
    context: int = 32_768
    seed: int = 1


def bench_model(folder: Path, shape: Shape | None = None) -> Path:
    """The model's file, made if it is not there."""
    spec = shape or Shape()
    name = f"random-{spec.width}-{spec.layers}-{spec.ff}-{spec.vocabulary}-{spec.context}.gguf"
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        _write(partial, spec)
        partial.replace(path)
    return path


def weights(shape: Shape) -> int:
    """Weights in all."""
    return sum(rows * columns for _, rows, columns, _ in _tensors(shape))


def _write(path: Path, spec: Shape) -> None:
    meta = _metadata(spec)
    infos, offset = [], 0
    for name, rows, columns, kind in _tensors(spec):
        dims = (columns,) if kind == F32 else (columns, rows)
        head = _string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        infos.append(head)
        offset += -(-_size(rows, columns, kind) // _ALIGNMENT) * _ALIGNMENT
    start = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(meta)) + b"".join([*meta, *infos])
    rng = np.random.Generator(np.random.PCG64(spec.seed))
    with path.open("wb") as file:
        file.write(start + bytes(-len(start) % _ALIGNMENT))
        for _, rows, columns, kind in _tensors(spec):
            blob = _random(rng, rows, columns) if kind == Q4_0 else _ones(columns)
            file.write(blob.tobytes() + bytes(-blob.size % _ALIGNMENT))


def _tensors(spec: Shape) -> Iterator[tuple[str, int, int, int]]:
    """Name, rows, columns and type of each."""
    narrow = spec.width // spec.heads * spec.kv_heads
    yield "token_embd.weight", spec.vocabulary, spec.width, Q4_0
    for layer in range(spec.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", 1, spec.width, F32
        yield block + "attn_q.weight", spec.width, spec.width, Q4_0
        yield block + "attn_k.weight", narrow, spec.width, Q4_0
        yield block + "attn_v.weight", narrow, spec.width, Q4_0
        yield block + "attn_output.weight", spec.width, spec.width, Q4_0
        yield block + "ffn_norm.weight", 1, spec.width, F32
        yield block + "ffn_gate.weight", spec.ff, spec.width, Q4_0
        yield block + "ffn_up.weight", spec.ff, spec.width, Q4_0
        yield block + "ffn_down.weight", spec.width, spec.ff, Q4_0
    yield "output_norm.weight", 1, spec.width, F32


def _size(rows: int, columns: int, kind: int) -> int:
    count = rows * columns
    return 4 * count if kind == F32 else count // _BLOCK * _BLOCK_BYTES


def _random(rng: np.random.Generator, rows: int, columns: int) -> Blob:
    """Blocks of a half-float scale and 32 four-bit weights; rows of about unit length."""
    blocks = np.empty((rows * columns // _BLOCK, _BLOCK_BYTES), np.uint8)
    scale = np.array([1 / np.sqrt(columns) / 4.6], np.float16)
    blocks[:, :2] = scale.view(np.uint8)
    blocks[:, 2:] = rng.integers(0, 256, (len(blocks), _BLOCK_BYTES - 2), dtype=np.uint8)
    return blocks


def _ones(columns: int) -> Blob:
    return np.ones(columns, "<f4").view(np.uint8)


def _metadata(spec: Shape) -> list[bytes]:
    from node.inference.testing.gguf import array, pair

    tokens = list(_vocabulary(spec.vocabulary))
    kinds = [1] * (spec.vocabulary - len(SPECIALS)) + [CONTROL] * len(SPECIALS)
    return [
        pair("general.architecture", "str", "llama"),
        pair("general.name", "str", "random weights, for benches"),
        pair("llama.block_count", "u32", spec.layers),
        pair("llama.context_length", "u32", spec.context),
        pair("llama.embedding_length", "u32", spec.width),
        pair("llama.feed_forward_length", "u32", spec.ff),
        pair("llama.attention.head_count", "u32", spec.heads),
        pair("llama.attention.head_count_kv", "u32", spec.kv_heads),
        pair("llama.attention.layer_norm_rms_epsilon", "f32", 1e-5),
        pair("llama.rope.dimension_count", "u32", spec.width // spec.heads),
        pair("llama.vocab_size", "u32", spec.vocabulary),
        pair("tokenizer.ggml.model", "str", "gpt2"),
        pair("tokenizer.ggml.pre", "str", "gpt-2"),
        array("tokenizer.ggml.tokens", "str", tokens),
        array("tokenizer.ggml.token_type", "i32", kinds),
        array("tokenizer.ggml.merges", "str", []),
        pair("tokenizer.ggml.eos_token_id", "u32", spec.vocabulary - 1),
        pair("tokenizer.chat_template", "str", CHATML_TEMPLATE),
    ]


def _vocabulary(size: int) -> Iterator[str]:
    """The bytes, made-up words, and the special tokens last."""
    words = (
        "".join(letters)
        for length in itertools.count(2)
        for letters in itertools.product(string.ascii_lowercase, repeat=length)
    )
    yield from byte_symbols()
    yield from itertools.islice(words, size - 256 - len(SPECIALS))
    yield from SPECIALS


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
