"""Tiny BERT models of random weights: embedders and rerankers, for tests of this room.

A word-piece vocabulary of single letters, marks and a few words; whatever pooling is asked for; and
for a reranker a classification head. The same file comes out for the same arguments.

Spec: GGUF as described in ggml's `docs/gguf.md`; tensor names of llama.cpp's `bert` architecture.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from node.inference.testing.gguf import CONTROL, NORMAL, array, pack_gguf, pair

SPECIALS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS: Final = ("the", "cat", "sat", "sun", "rose", "bank", "river")
POOLINGS: Final = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}


@dataclass(frozen=True)
class TinyBert:
    """What to make. `labels` are a reranker's classes; the first one's is the score."""

    width: int = 16
    layers: int = 2
    heads: int = 2
    ff: int = 32
    context: int = 64
    seed: int = 1
    pooling: str = "mean"
    labels: int = 1


def write_tiny_bert(path: Path, model: TinyBert | None = None) -> Path:
    """Writes the model to `path` and returns it."""
    spec = model or TinyBert()
    tokens = vocabulary()
    path.write_bytes(pack_gguf(_metadata(spec, tokens), tensors(spec, len(tokens))))
    return path


def vocabulary() -> list[str]:
    """The tokens: special ones, words, and letters and marks, alone and within words."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    starts = [f"\u2581{text}" for text in (*WORDS, *letters)]
    return [*SPECIALS, *starts, *letters]


def _metadata(spec: TinyBert, tokens: list[str]) -> list[bytes]:
    kinds = [CONTROL] * len(SPECIALS) + [NORMAL] * (len(tokens) - len(SPECIALS))
    meta = [
        pair("general.architecture", "str", "bert"),
        pair("general.name", "str", "tiny random bert"),
        pair("bert.block_count", "u32", spec.layers),
        pair("bert.context_length", "u32", spec.context),
        pair("bert.embedding_length", "u32", spec.width),
        pair("bert.feed_forward_length", "u32", spec.ff),
        pair("bert.attention.head_count", "u32", spec.heads),
        pair("bert.attention.layer_norm_epsilon", "f32", 1e-12),
        pair("bert.attention.causal", "bool", False),
        pair("bert.pooling_type", "u32", POOLINGS[spec.pooling]),
        pair("tokenizer.ggml.model", "str", "bert"),
        pair("tokenizer.ggml.token_type_count", "u32", 2),
        array("tokenizer.ggml.tokens", "str", tokens),
        array("tokenizer.ggml.token_type", "i32", kinds),
        pair("tokenizer.ggml.padding_token_id", "u32", 0),
        pair("tokenizer.ggml.unknown_token_id", "u32", 1),
        pair("tokenizer.ggml.bos_token_id", "u32", 2),
        pair("tokenizer.ggml.cls_token_id", "u32", 2),
        pair("tokenizer.ggml.eos_token_id", "u32", 3),
        pair("tokenizer.ggml.seperator_token_id", "u32", 3),
        pair("tokenizer.ggml.mask_token_id", "u32", 4),
    ]
    if spec.labels > 1:
        labels = [f"label {number}" for number in range(spec.labels)]
        meta.append(array("bert.classifier.output_labels", "str", labels))
    return meta


def tensors(spec: TinyBert, tokens: int) -> dict[str, np.ndarray]:
    """The weights by name, for `tokens` tokens."""
    rng = np.random.Generator(np.random.PCG64(spec.seed))

    def random(*shape: int) -> np.ndarray:
        return np.asarray(rng.standard_normal(shape) / np.sqrt(shape[-1]))

    width = spec.width
    made = {
        "token_embd.weight": random(tokens, width) * 3,
        "token_types.weight": random(2, width),
        "position_embd.weight": random(spec.context, width),
    }
    shapes = {
        "attn_q": (width, width),
        "attn_k": (width, width),
        "attn_v": (width, width),
        "attn_output": (width, width),
        "ffn_up": (spec.ff, width),
        "ffn_down": (width, spec.ff),
    }
    norms = ["token_embd_norm"]
    for layer in range(spec.layers):
        block = f"blk.{layer}."
        norms += [f"{block}attn_output_norm", f"{block}layer_output_norm"]
        for name, shape in shapes.items():
            made[f"{block}{name}.weight"] = random(*shape)
            made[f"{block}{name}.bias"] = random(shape[0])
    for name in norms:
        made[f"{name}.weight"] = np.ones(width)
        made[f"{name}.bias"] = np.zeros(width)
    if spec.pooling == "rank":
        made["cls.weight"], made["cls.bias"] = random(width, width), random(width)
        made["cls.output.weight"] = random(spec.labels, width)
        made["cls.output.bias"] = random(spec.labels)
    return made
