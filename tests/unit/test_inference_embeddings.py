"""Embeddings against a forward pass written out in numpy, tokens of content, and the double."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import ContextOverflowError, InferenceError, ModelError
from node.inference.embeddings.hashed import HashEmbedder
from node.inference.embeddings.native import EmbeddingContext, Framing, normalised
from node.inference.llama.native import Model
from node.inference.testing.bert import (
    SPECIALS,
    TinyBert,
    tensors,
    vocabulary,
    write_tiny_bert,
)
from node.inference.testing.gguf import write_tiny_gguf

Array = npt.NDArray[np.float64]
CLS, SEP = 2, 3
TEXTS = ("the cat sat", "river bank", "sun.", "a1 b2, the rose [x]")


class Reference:
    """BERT's forward pass, as its paper has it, over the tiny model's own weights."""

    def __init__(self, spec: TinyBert) -> None:
        self.spec = spec
        weights = tensors(spec, len(vocabulary()))
        self.weights = {name: each.astype(np.float32) for name, each in weights.items()}

    def hidden(self, tokens: list[int]) -> Array:
        """One row a token."""
        weights = self.weights
        x = weights["token_embd.weight"][tokens] + weights["token_types.weight"][0]
        x = self.norm("token_embd_norm", x + weights["position_embd.weight"][: len(tokens)])
        for layer in range(self.spec.layers):
            block = f"blk.{layer}."
            x = self.norm(f"{block}attn_output_norm", x + self.attend(block, x))
            inner = self.gelu(self.linear(f"{block}ffn_up", x))
            x = self.norm(f"{block}layer_output_norm", x + self.linear(f"{block}ffn_down", inner))
        return x

    def attend(self, block: str, x: Array) -> Array:
        size = self.spec.width // self.spec.heads
        query, key, value = (self.linear(f"{block}attn_{name}", x) for name in "qkv")
        heads = []
        for start in range(0, self.spec.width, size):
            part = slice(start, start + size)
            scores = query[:, part] @ key[:, part].T / np.sqrt(size)
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(scores / scores.sum(axis=1, keepdims=True) @ value[:, part])
        return self.linear(f"{block}attn_output", np.concatenate(heads, axis=1))

    def linear(self, name: str, x: Array) -> Array:
        result: Array = x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return result

    def norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        result: Array = scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return result

    @staticmethod
    def gelu(x: Array) -> Array:
        result: Array = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return result

    def scores(self, tokens: list[int]) -> Array:
        """A reranker's head over the first token."""
        x = np.tanh(self.linear("cls", self.hidden(tokens)[:1]))
        result: Array = self.linear("cls.output", x)[0]
        return result


def opened(folder: Path, spec: TinyBert) -> tuple[Framing, EmbeddingContext]:
    model = Model(str(write_tiny_bert(folder / "tiny.gguf", spec)))
    return Framing(model), EmbeddingContext(model, tokens=64, sequences=8, threads=1)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_vectors_are_those_of_the_model(tmp_path: Path, pooling: str) -> None:
    spec = TinyBert(pooling=pooling)
    framing, context = opened(tmp_path, spec)
    texts = [framing.text(text) for text in TEXTS]
    rows = context.evaluate(texts)
    assert (context.pooling, rows.shape) == (pooling, (len(TEXTS), spec.width))
    for tokens, row in zip(texts, rows, strict=True):
        hidden = Reference(spec).hidden(tokens)
        wanted = {"mean": hidden.mean(axis=0), "cls": hidden[0], "last": hidden[-1]}[pooling]
        np.testing.assert_allclose(row, wanted, atol=0.02)


@pytest.mark.parametrize("labels", [1, 3])
def test_ranks_are_the_models_and_no_float_more(tmp_path: Path, labels: int) -> None:
    """libllama keeps a float a class; the high-level library would read `width` of them."""
    spec = TinyBert(pooling="rank", labels=labels)
    framing, context = opened(tmp_path, spec)
    assert context.width == labels < spec.width
    pairs = [framing.pair("the cat", text) for text in TEXTS]
    for tokens, row in zip(pairs, context.evaluate(pairs), strict=True):
        np.testing.assert_allclose(row, Reference(spec).scores(tokens), atol=0.02)


def test_a_batch_is_as_each_alone(tmp_path: Path) -> None:
    framing, context = opened(tmp_path, TinyBert())
    texts = [framing.text(text) for text in TEXTS]
    together = context.evaluate(texts)
    alone = np.concatenate([context.evaluate([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_special_tokens_stand_around_a_text_and_between_two(tmp_path: Path) -> None:
    framing, _ = opened(tmp_path, TinyBert())
    names = vocabulary()
    assert [names[token] for token in framing.text("the cat")] == [
        "[CLS]", "\u2581the", "\u2581cat", "[SEP]",
    ]  # fmt: skip
    assert [names[token] for token in framing.pair("sun", "the rose")] == [
        "[CLS]", "\u2581sun", "[SEP]", "\u2581the", "\u2581rose", "[SEP]",
    ]  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.sampled_from([*SPECIALS, "<|im_start|>", "<tool_call>", "the", " ", "[", "]", "CLS"])
        | st.text(max_size=4),
        max_size=6,
    )
)
def test_content_never_becomes_a_special_token(
    framings: tuple[Framing, Framing], parts: list[str]
) -> None:
    text = "".join(part for part in parts if part.isprintable())
    bert, other = framings
    middle = bert.text(text)[1:-1]
    assert not {0, CLS, SEP, 4} & set(middle)
    assert not [token for token in other.text(text) if token >= 256]


@pytest.fixture(scope="module")
def framings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Framing, Framing]:
    folder = tmp_path_factory.mktemp("models")
    bert = Model(str(write_tiny_bert(folder / "bert.gguf")))
    return Framing(bert), Framing(Model(str(write_tiny_gguf(folder / "llama.gguf"))))


def test_pooling_must_be_known(tmp_path: Path) -> None:
    model = Model(str(write_tiny_gguf(tmp_path / "chat.gguf")))
    with pytest.raises(ModelError, match="does not say how one vector"):
        EmbeddingContext(model, tokens=64, sequences=4, threads=1)
    said = EmbeddingContext(model, tokens=64, sequences=4, threads=1, pooling="last")
    assert (said.pooling, said.width) == ("last", 32)


def test_vectors_have_length_one_or_are_refused() -> None:
    rows = np.array([[3.0, 4.0], [1e-30, 0.0], [1e30, 1e30]], np.float32)
    lengths = np.linalg.norm(normalised(rows).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-6)
    with pytest.raises(InferenceError, match="vector of zeros"):
        normalised(np.zeros((1, 4), np.float32))


async def test_the_double_is_near_where_words_are_shared() -> None:
    double = HashEmbedder(context_tokens=8)
    rows = await double.embed("any", ["the cat sat", "the cat slept", "stock prices fell"])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    assert rows[0] @ rows[1] > rows[0] @ rows[2]
    assert await double.rank("any", "the cat", ["the cat sat", "the dog", "rain"]) == [1.0, 0.5, 0]
    assert (await double.info("any")).dimensions == rows.shape[1]
    with pytest.raises(ContextOverflowError, match="9 tokens; the model takes 8"):
        await double.embed("any", ["a b c d e f g h i"])
    with pytest.raises(InferenceError, match="no tokens"):
        await double.embed("any", [""])
    await double.aclose()
