"""What the header of a GGUF file says, and whether a model can be like that.

libllama checks much of what it reads, aborts on some of it, and takes the rest for granted; what is
refused here is what it aborts on or would read past a buffer for, and what Freehold cannot pin.

Spec: ggml's `docs/gguf.md`, and the assertions of llama.cpp's loader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_ARRAY_ITEMS: Final = 4_000_000
MAX_LAYERS: Final = 512
MAX_EXPERTS: Final = 512
MAX_WIDTH: Final = 1 << 20
MAX_CONTEXT: Final = 1 << 30

Number = int | float | bool
Scalar = Number | str


@dataclass(frozen=True)
class Array:
    """An array: how many items, and the items themselves of a short one of numbers."""

    items: int
    values: tuple[Number, ...] = ()


@dataclass(frozen=True)
class Header:
    """What the header says. Long arrays and arrays of strings are known by their length only.

    `weights_bytes` is what the tensors take in the file, which ends at byte `file_bytes` with the
    last of them; `quantisation` is the type that most of the weights have.
    """

    version: int
    metadata: dict[str, Scalar | Array]
    tensors: int
    weights: int
    weights_bytes: int
    file_bytes: int
    quantisation: str

    @property
    def architecture(self) -> str:
        """`general.architecture`."""
        return self.text("general.architecture")

    @property
    def context_tokens(self) -> int:
        """The context the model was trained for; 0 where the file does not say."""
        return self.number("context_length")

    @property
    def chat_template(self) -> str:
        """The Jinja source, "" where there is none."""
        return self.text("tokenizer.chat_template")

    def text(self, key: str) -> str:
        """A text value; "" where it is missing or something else."""
        value = self.metadata.get(key, "")
        return value if isinstance(value, str) else ""

    def number(self, key: str, default: int = 0) -> int:
        """A whole number of this architecture (`llama.KEY`); the largest of an array."""
        return max(self.numbers(key, 1), default=default) if self.has(key) else default

    def numbers(self, key: str, count: int, default: int = 0) -> list[int]:
        """`count` whole numbers of this architecture, one a layer; one number stands for all."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, Array):
            kept = [int(item) for item in value.values if isinstance(item, int)]
            return kept + [default] * (count - len(kept))
        return [value if isinstance(value, int) else default] * count

    def has(self, key: str) -> bool:
        """Whether the file says this of its architecture (`llama.KEY`)."""
        return f"{self.architecture}.{key}" in self.metadata

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return tokens.items if isinstance(tokens, Array) else self.number("vocab_size")


def unsound(header: Header) -> str:
    """What no model can be like, as the end of a sentence that begins with the file; or ""."""
    name = header.architecture
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        return "does not name its architecture"
    if not header.tensors:
        return "has no weights"
    for key, (least, most) in _bounds(header).items():
        if not _within(header.metadata.get(f"{name}.{key}"), least, most):
            return f"has a '{name}.{key}' that is not {least} to {most}"
    return _vocabulary(header)


def partial(header: Header) -> str:
    """Why a sound file is no whole model, as `unsound`; ""."""
    older = "mmproj" if header.architecture == "clip" else ""  # these said no type
    kind = header.text("general.type") or older
    if kind not in ("", "model"):
        return f"is no model of its own, but of the type {kind[:40]!r}"
    parts = header.metadata.get("split.count", 0)
    if not isinstance(parts, int) or parts > 1:
        return f"is one of {parts} parts, of which only this one would be pinned"
    if header.text("tokenizer.ggml.model") in ("no_vocab", "none"):  # libllama aborts at its tokens
        return "has no vocabulary, so that no text can be given to it"
    return ""


def _bounds(header: Header) -> dict[str, tuple[int, int]]:
    return {
        "block_count": (1, MAX_LAYERS),
        "context_length": (1, MAX_CONTEXT),
        "embedding_length": (1, MAX_WIDTH),
        "vocab_size": (1, MAX_ARRAY_ITEMS),
        "expert_count": (0, MAX_EXPERTS),
        "expert_used_count": (0, max(0, header.number("expert_count"))),
        "attention.head_count": (0, MAX_WIDTH),
        "attention.head_count_kv": (0, MAX_WIDTH),
        "attention.key_length": (1, MAX_WIDTH),
        "attention.value_length": (1, MAX_WIDTH),
        "feed_forward_length": (0, MAX_WIDTH),
        "ssm.conv_kernel": (0, MAX_WIDTH),
        "ssm.inner_size": (0, MAX_WIDTH),
        "ssm.state_size": (0, MAX_WIDTH),
        "ssm.group_count": (0, MAX_WIDTH),
    }


def _within(value: Scalar | Array | None, least: int, most: int) -> bool:
    if value is None:
        return True
    values = value.values if isinstance(value, Array) else (value,)
    return bool(values) and all(
        isinstance(one, int) and not isinstance(one, bool) and least <= one <= most
        for one in values
    )


def _vocabulary(header: Header) -> str:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    count = tokens.items if isinstance(tokens, Array) else 0
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        value = header.metadata.get(key)
        if isinstance(value, Array) and value.items != count:
            return f"has {count} tokens, but {value.items} in {key!r}"
    return ""
