"""Tiny models of random weights, for tests and benches of this room.

A model made here is a valid GGUF (version 3) of the `llama` architecture: a vocabulary of bytes, as
GPT-2's or SentencePiece's, the special tokens asked for, a chat template. It says nothing sensible;
under a grammar it still makes well-formed calls, and that is what the tests need. The same file
comes out for the same arguments.

Spec: GGUF as described in ggml's `docs/gguf.md`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if tools %}{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<tool_call>{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_TYPES = {"u32": 4, "i32": 5, "f32": 6, "bool": 7, "str": 8}
_PACK = {"u32": "<I", "i32": "<i", "f32": "<f", "bool": "<?"}
NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6
F32 = 0
_ALIGNMENT = 32


@dataclass(frozen=True)
class TinyModel:
    """What to make. Widths in floats, `context` in tokens; specials are (text, token type).

    `kv_heads` are shared by the heads; 0 is one for each of them. `spaced` is a vocabulary as
    SentencePiece makes them: a space is put before a text. `pooling` is how a model made for
    embeddings makes a vector of tokens' ones; 0 for any other.
    """

    width: int = 32
    layers: int = 2
    heads: int = 2
    ff: int = 64
    context: int = 2048
    seed: int = 1
    kv_heads: int = 0
    template: str | None = CHATML_TEMPLATE
    specials: tuple[tuple[str, int], ...] = (
        ("<|im_start|>", CONTROL),
        ("<|im_end|>", CONTROL),
        ("<tool_call>", USER_DEFINED),
        ("</tool_call>", USER_DEFINED),
    )
    eos: str = "<|im_end|>"
    spaced: bool = False
    pooling: int = 0


@dataclass(frozen=True)
class Tensor:
    """Weights as a file holds them: ggml's type, `size` in bytes, which are made when wanted."""

    name: str
    shape: tuple[int, ...]
    kind: int
    size: int
    data: Callable[[], bytes]


def byte_symbols() -> list[str]:
    """The 256 printable stand-ins that GPT-2's byte-level BPE uses, in byte order."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(256, 512))
    return [chr(byte if byte in kept else next(spare)) for byte in range(256)]


def write_tiny_gguf(path: Path, model: TinyModel | None = None) -> Path:
    """Writes the model to `path` and returns it."""
    spec = model or TinyModel()
    letters = [f"<0x{byte:02X}>" for byte in range(256)] if spec.spaced else byte_symbols()
    tokens = [*letters, *(text for text, _ in spec.specials)]
    path.write_bytes(pack_gguf(llama_metadata(spec, tokens), _tensors(spec, len(tokens))))
    return path


def pack_gguf(meta: Sequence[bytes], tensors: Mapping[str, np.ndarray]) -> bytes:
    """A whole file from packed key-value pairs (see `pair`, `array`) and float32 tensors."""
    return b"".join(gguf_parts(meta, [floats(name, value) for name, value in tensors.items()]))


def floats(name: str, values: np.ndarray) -> Tensor:
    """A tensor of float32."""
    return Tensor(name, values.shape, F32, 4 * values.size, values.astype("<f4").tobytes)


def gguf_parts(meta: Sequence[bytes], tensors: Sequence[Tensor]) -> Iterator[bytes]:
    """A whole file, a tensor at a time."""
    infos, offset = [], 0
    for tensor in tensors:
        dims = tensor.shape[::-1]
        numbers = struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, tensor.kind, offset)
        infos.append(_string(tensor.name) + numbers)
        offset += tensor.size + -tensor.size % _ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta)) + b"".join([*meta, *infos])
    yield head + bytes(-len(head) % _ALIGNMENT)
    for tensor in tensors:
        yield tensor.data() + bytes(-tensor.size % _ALIGNMENT)


def pair(key: str, kind: str, value: object) -> bytes:
    """One metadata pair; `kind` is u32, i32, f32, bool or str."""
    return _string(key) + struct.pack("<I", _TYPES[kind]) + _scalar(kind, value)


def array(key: str, kind: str, values: Sequence[object]) -> bytes:
    """One metadata array of scalars of one kind."""
    head = struct.pack("<IIQ", 9, _TYPES[kind], len(values))
    return _string(key) + head + b"".join(_scalar(kind, value) for value in values)


def _scalar(kind: str, value: object) -> bytes:
    return _string(str(value)) if kind == "str" else struct.pack(_PACK[kind], value)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def llama_metadata(
    spec: TinyModel, tokens: Sequence[str], *, name: str = "tiny random model"
) -> list[bytes]:
    """What a file says of a model and its vocabulary, in which the special tokens are last."""
    letter = BYTE if spec.spaced else NORMAL
    kinds = [letter] * (len(tokens) - len(spec.specials)) + [kind for _, kind in spec.specials]
    meta = [
        pair("general.architecture", "str", "llama"),
        pair("general.name", "str", name),
        pair("llama.block_count", "u32", spec.layers),
        pair("llama.context_length", "u32", spec.context),
        pair("llama.embedding_length", "u32", spec.width),
        pair("llama.feed_forward_length", "u32", spec.ff),
        pair("llama.attention.head_count", "u32", spec.heads),
        pair("llama.attention.layer_norm_rms_epsilon", "f32", 1e-5),
        pair("llama.rope.dimension_count", "u32", spec.width // spec.heads),
        pair("llama.vocab_size", "u32", len(tokens)),
        pair("tokenizer.ggml.model", "str", "llama" if spec.spaced else "gpt2"),
        pair("tokenizer.ggml.pre", "str", "default" if spec.spaced else "gpt-2"),
        array("tokenizer.ggml.tokens", "str", tokens),
        array("tokenizer.ggml.token_type", "i32", kinds),
        array("tokenizer.ggml.merges", "str", []),
        pair("tokenizer.ggml.eos_token_id", "u32", tokens.index(spec.eos)),
    ]
    if spec.spaced:
        meta.append(array("tokenizer.ggml.scores", "f32", [0.0] * len(tokens)))
        meta.append(pair("tokenizer.ggml.bos_token_id", "u32", tokens.index("<s>")))
    if spec.kv_heads:
        meta.append(pair("llama.attention.head_count_kv", "u32", spec.kv_heads))
    if spec.pooling:
        meta.append(pair("llama.pooling_type", "u32", spec.pooling))
    if spec.template is not None:
        meta.append(pair("tokenizer.chat_template", "str", spec.template))
    return meta


def _tensors(spec: TinyModel, vocabulary: int) -> dict[str, np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(spec.seed))

    def random(rows: int, columns: int) -> np.ndarray:
        return np.asarray(rng.standard_normal((rows, columns)) / np.sqrt(columns))

    narrow = spec.width // spec.heads * (spec.kv_heads or spec.heads)
    tensors = {"token_embd.weight": random(vocabulary, spec.width) * 3}
    for layer in range(spec.layers):
        block = f"blk.{layer}."
        tensors[block + "attn_norm.weight"] = np.ones(spec.width)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            rows = narrow if name in ("attn_k", "attn_v") else spec.width
            tensors[f"{block}{name}.weight"] = random(rows, spec.width)
        tensors[block + "ffn_norm.weight"] = np.ones(spec.width)
        tensors[block + "ffn_gate.weight"] = random(spec.ff, spec.width)
        tensors[block + "ffn_up.weight"] = random(spec.ff, spec.width)
        tensors[block + "ffn_down.weight"] = random(spec.width, spec.ff)
    tensors["output_norm.weight"] = np.ones(spec.width)
    return tensors
