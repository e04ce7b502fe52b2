"""A random-weight model of about half a billion weights in Q4_0, the shape of a 0.5B Qwen2.5.

Its words mean nothing; what it costs is that of a real one. The tied embedding is Q4_0 too. Made
once into a folder that is not committed, the same file each time.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from node.inference.testing.gguf import (
    CONTROL,
    Tensor,
    TinyModel,
    byte_symbols,
    floats,
    gguf_parts,
    llama_metadata,
)

Q4_0 = 2
_BLOCK, _BLOCK_BYTES = 32, 18
SPECIALS = (("<|im_start|>", CONTROL), ("<|im_end|>", CONTROL))


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
        unfinished = path.with_suffix(".part")
        _write(unfinished, spec)
        unfinished.replace(path)
    return path


def weights(shape: Shape) -> int:
    """Weights in all."""
    return sum(int(np.prod(tensor.shape)) for tensor in _tensors(shape))


def _write(path: Path, spec: Shape) -> None:
    model = TinyModel(
        spec.width,
        spec.layers,
        spec.heads,
        spec.ff,
        spec.context,
        kv_heads=spec.kv_heads,
        specials=SPECIALS,
    )
    tokens = list(_vocabulary(spec.vocabulary))
    meta = llama_metadata(model, tokens, name="random weights, for benches")
    with path.open("wb") as file:
        file.writelines(gguf_parts(meta, list(_tensors(spec))))


def _tensors(spec: Shape) -> Iterator[Tensor]:
    """All of them; their bytes are to be asked for in order."""
    random = partial(_random, np.random.Generator(np.random.PCG64(spec.seed)))
    narrow = spec.width // spec.heads * spec.kv_heads
    yield random("token_embd.weight", spec.vocabulary, spec.width)
    for layer in range(spec.layers):
        block = f"blk.{layer}."
        yield floats(block + "attn_norm.weight", np.ones(spec.width))
        yield random(block + "attn_q.weight", spec.width, spec.width)
        yield random(block + "attn_k.weight", narrow, spec.width)
        yield random(block + "attn_v.weight", narrow, spec.width)
        yield random(block + "attn_output.weight", spec.width, spec.width)
        yield floats(block + "ffn_norm.weight", np.ones(spec.width))
        yield random(block + "ffn_gate.weight", spec.ff, spec.width)
        yield random(block + "ffn_up.weight", spec.ff, spec.width)
        yield random(block + "ffn_down.weight", spec.width, spec.ff)
    yield floats("output_norm.weight", np.ones(spec.width))


def _random(rng: np.random.Generator, name: str, rows: int, columns: int) -> Tensor:
    """Q4_0."""
    count = rows * columns // _BLOCK
    data = partial(_blocks, rng, count, columns)
    return Tensor(name, (rows, columns), Q4_0, count * _BLOCK_BYTES, data)


def _blocks(rng: np.random.Generator, count: int, columns: int) -> bytes:
    """Blocks of a half-float scale and 32 four-bit weights; rows of about unit length."""
    blocks = np.empty((count, _BLOCK_BYTES), np.uint8)
    scale = np.array([1 / np.sqrt(columns) / 4.6], np.float16)
    blocks[:, :2] = scale.view(np.uint8)
    blocks[:, 2:] = rng.integers(0, 256, (count, _BLOCK_BYTES - 2), dtype=np.uint8)
    return blocks.tobytes()


def _vocabulary(size: int) -> Iterator[str]:
    """The bytes, made-up words, and the special tokens last."""
    words = (
        "".join(letters)
        for length in itertools.count(2)
        for letters in itertools.product(string.ascii_lowercase, repeat=length)
    )
    yield from byte_symbols()
    yield from itertools.islice(words, size - 256 - len(SPECIALS))
    yield from (text for text, _ in SPECIALS)
