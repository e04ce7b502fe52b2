"""Embeddings and ranks by libllama, in a context of their own: the runner's end.

The low-level API, since the high-level `embed` reads `n_embd` floats where a reranker has given one
for each class. Content never becomes special tokens: they are put around it as the vocabulary says,
and what in the content would read as one is cut apart before it is tokenised.

Spec: `llama.h` of llama.cpp as bound by llama-cpp-python 0.3.36; the order of tokens around query
and document is that of llama-server's `/rerank`.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import numpy.typing as npt

from node.errors import InferenceError, ModelError
from node.inference.llama.library import lib
from node.inference.llama.native import Model

POOLING: Final = {
    lib.LLAMA_POOLING_TYPE_NONE: "none",
    lib.LLAMA_POOLING_TYPE_MEAN: "mean",
    lib.LLAMA_POOLING_TYPE_CLS: "cls",
    lib.LLAMA_POOLING_TYPE_LAST: "last",
    lib.LLAMA_POOLING_TYPE_RANK: "rank",
}
_PLACES = re.compile(r"(\{query\}|\{document\})")


class EmbeddingContext:
    """Evaluates texts' tokens to one vector, or one rank, each.

    Args:
        tokens: the longest text, and the most tokens evaluated at once.
        sequences: the most texts evaluated at once.
        pooling: a name in `POOLING`, "" for what the model says.

    Raises:
        ModelError: there is no memory for it, or neither the model nor the caller says how tokens
            become a vector.
    """

    def __init__(
        self, model: Model, *, tokens: int, sequences: int, threads: int, pooling: str = ""
    ) -> None:
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max = tokens
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.embeddings = params.kv_unified = params.no_perf = True
        params.pooling_type = _pooling_number(pooling)
        self._pointer = lib.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            raise ModelError(
                f"no memory for embeddings of {tokens} tokens", hint="Set a smaller context."
            )
        self.pooling = POOLING.get(int(lib.llama_pooling_type(self._pointer)), "unknown")
        if self.pooling in ("none", "unknown"):
            raise ModelError(
                "the model does not say how one vector is made of a text's tokens",
                hint="Use a model made for embeddings, or say the pooling: mean, cls or last.",
            )
        self.tokens = min(int(lib.llama_n_ctx(self._pointer)), tokens)
        self.sequences = sequences
        self.width = self._width(model)
        self._memory = lib.llama_get_memory(self._pointer)
        self._batch = lib.llama_batch_init(tokens, 0, 1)

    def _width(self, model: Model) -> int:
        """Floats that libllama keeps for a sequence. One more is another object's memory."""
        if self.pooling == "rank":
            return int(lib.llama_model_n_cls_out(model.pointer))
        return int(lib.llama_model_n_embd_out(model.pointer))

    def evaluate(self, texts: list[list[int]]) -> npt.NDArray[np.float32]:
        """A row of `width` floats a text, as the model gives them. The texts must fit at once.

        Raises:
            InferenceError: libllama refused, or gave what is no number.
        """
        self._fill(texts)
        if self._memory:
            lib.llama_memory_clear(self._memory, True)
        code = lib.llama_decode(self._pointer, self._batch)
        if code != 0:
            raise InferenceError(f"libllama could not evaluate {len(texts)} texts (code {code})")
        rows = np.empty((len(texts), self.width), np.float32)
        for number in range(len(texts)):
            pointer = lib.llama_get_embeddings_seq(self._pointer, number)
            if not pointer:
                raise InferenceError("libllama gave no vector for a text")
            rows[number] = np.ctypeslib.as_array(pointer, shape=(self.width,))
        if not np.isfinite(rows).all():
            raise InferenceError("the model gave a vector that is not of numbers")
        return rows

    def _fill(self, texts: list[list[int]]) -> None:
        batch, row = self._batch, 0
        for number, tokens in enumerate(texts):
            for position, token in enumerate(tokens):
                batch.token[row], batch.pos[row] = token, position
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, number
                batch.logits[row] = 1
                row += 1
        batch.n_tokens = row


class Framing:
    """Tokens of texts and of pairs of texts, with the special ones that the vocabulary wants."""

    def __init__(self, model: Model) -> None:
        self._vocab = model.vocab
        self._pointer = lib.llama_model_get_vocab(model.pointer)
        around = self._vocab.tokenize("", add_special=True)
        only_end = len(around) == 1 and not lib.llama_vocab_get_add_bos(self._pointer)
        self._front = [] if only_end else around[:1]
        self._back = around if only_end else around[1:]
        longest_first = sorted(filter(None, self._vocab.specials), key=len, reverse=True)
        self._markup = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        raw = lib.llama_model_chat_template(model.pointer, b"rerank")
        self._template = None if raw is None else bytes(raw).decode(errors="replace")

    def text(self, text: str) -> list[int]:
        """One text."""
        return [*self._front, *self._content(text), *self._back]

    def pair(self, query: str, document: str) -> list[int]:
        """A query and a document, as a reranker wants them."""
        if self._template is not None:
            return self._templated(self._template, query, document)
        end = lib.llama_vocab_eos(self._pointer)
        separator = lib.llama_vocab_sep(self._pointer)
        end = separator if end < 0 else end
        ends = [end] if lib.llama_vocab_get_add_eos(self._pointer) and end >= 0 else []
        separates = lib.llama_vocab_get_add_sep(self._pointer) and separator >= 0
        return [
            *self._front,
            *self._content(query),
            *ends,
            *([separator] if separates else []),
            *self._content(document),
            *(ends or self._back),
        ]

    def _templated(self, template: str, query: str, document: str) -> list[int]:
        given = {"{query}": query, "{document}": document}
        tokens: list[int] = []
        for part in _PLACES.split(template):
            if part in given:
                tokens += self._content(given[part])
            else:
                tokens += self._vocab.tokenize(part, parse_special=True)
        return tokens

    def _content(self, text: str) -> list[int]:
        """Plain tokens only: what would read as a special token is cut behind its first letter."""
        tokens: list[int] = []
        start = 0
        for match in self._markup.finditer(text):
            tokens += self._vocab.tokenize(text[start : match.start() + 1])
            start = match.start() + 1
        return tokens + (self._vocab.tokenize(text[start:]) if start < len(text) else [])


def normalised(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Each row with length 1 (L2).

    Raises:
        InferenceError: a row has no length.
    """
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise InferenceError("the model gave a vector of zeros")
    unit: npt.NDArray[np.float32] = (rows / lengths).astype(np.float32)
    return unit


def _pooling_number(name: str) -> int:
    if not name:
        return int(lib.LLAMA_POOLING_TYPE_UNSPECIFIED)
    return int(next(number for number, known in POOLING.items() if known == name))
