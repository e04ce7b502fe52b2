"""Tokens and text of one model, and the grammars that say which token may come next.

Spec: `llama.h` of llama.cpp as bound by llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from node.errors import GrammarError, InferenceError
from node.inference.llama.library import lib
from node.inference.llama.sampler import Logits, top

_GRAMMARS_KEPT = 8
_LIKELY = 512
_BYTES_WITHIN: Final = 1024  # every vocabulary has its single bytes among the first
_CONTROL, _USER_DEFINED, _UNKNOWN = 1 << 3, 1 << 4, 1 << 0
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


@dataclass(frozen=True)
class Special:
    """A token that is markup and never text: its id, and whether libllama strips beside it."""

    token: int
    strips_left: bool
    strips_right: bool


class Vocab:
    """Tokens and text. `specials` are control tokens and markup-like user-defined ones."""

    def __init__(self, pointer: Any) -> None:
        self._pointer = pointer
        self.size = int(lib.llama_vocab_n_tokens(pointer))
        self.bos = int(lib.llama_vocab_bos(pointer))
        self.eos = int(lib.llama_vocab_eos(pointer))
        self.adds_bos = bool(lib.llama_vocab_get_add_bos(pointer))
        self.end_tokens: set[int] = set()
        self.specials: dict[str, Special] = {}
        self.control: set[int] = set()
        self._pieces: dict[int, bytes] = {}
        self._grammars: dict[str, Grammar] = {}
        for token in range(self.size):
            self._look_at(token)
        self.bytes = self._byte_tokens()

    def _look_at(self, token: int) -> None:
        attributes = int(lib.llama_vocab_get_attr(self._pointer, token))
        if lib.llama_vocab_is_eog(self._pointer, token):
            self.end_tokens.add(token)
        if not attributes & (_CONTROL | _USER_DEFINED | _UNKNOWN):
            return
        text = self.text(token)
        if attributes & (_CONTROL | _UNKNOWN):
            self.control.add(token)
        elif not is_markup(text):
            return
        self.specials[text] = Special(token, bool(attributes & 1 << 7), bool(attributes & 1 << 8))

    def _byte_tokens(self) -> npt.NDArray[np.int32]:
        """A token for each of the 256 bytes, in order, and one that ends; empty if one misses."""
        found: dict[int, int] = {}
        for token in range(min(self.size, _BYTES_WITHIN)):
            if token not in self.control and len(piece := self.piece(token)) == 1:
                found.setdefault(piece[0], token)
        if len(found) < 256 or not self.end_tokens:
            return np.array([], dtype=np.int32)
        return np.array([*(found[byte] for byte in range(256)), min(self.end_tokens)], np.int32)

    def text(self, token: int) -> str:
        """The token as it stands in the vocabulary; "" for none."""
        if not 0 <= token < self.size:
            return ""
        return bytes(lib.llama_vocab_get_text(self._pointer, token) or b"").decode(errors="replace")

    def piece(self, token: int) -> bytes:
        """The bytes that a token adds to the output, markup included."""
        known = self._pieces.get(token)
        if known is None:
            buffer = ctypes.create_string_buffer(64)
            size = lib.llama_token_to_piece(self._pointer, token, buffer, 64, 0, True)
            if size < 0:
                buffer = ctypes.create_string_buffer(-size)
                size = lib.llama_token_to_piece(self._pointer, token, buffer, -size, 0, True)
            known = self._pieces[token] = buffer.raw[:size]
        return known

    def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        """Tokens of plain text. Control tokens are never made; user-defined ones may be.

        Args:
            add_special: puts the tokens around it that the vocabulary wants around a text.
            parse_special: reads markup in it as the tokens that it names, control tokens too.
        """
        raw = text.encode()
        room = len(raw) + 16
        buffer: Any = (ctypes.c_int32 * room)()
        made = lib.llama_tokenize(
            self._pointer, raw, len(raw), buffer, room, add_special, parse_special
        )
        if made < 0:
            raise InferenceError("libllama could not tokenise a text")
        tokens: list[int] = buffer[:made]
        return tokens

    def continued(self, text: str) -> list[int]:
        """Tokens of text that goes on from other text, and that spell just it; none if there are
        none. Many a vocabulary puts a space before what it takes for a beginning."""
        tokens, wanted = self.tokenize("\n" + text), text.encode()
        for newline in (1, 2):
            if b"".join(map(self.piece, tokens[newline:])) == wanted:
                return tokens[newline:]
        return []

    def grammar(self, text: str) -> Grammar:
        """A matcher of a GBNF grammar whose root is `root`.

        Raises:
            GrammarError: libllama does not accept it.
        """
        known = self._grammars.pop(text, None) or Grammar.parse(self._pointer, text)
        self._grammars[text] = known  # the latest used is last
        while len(self._grammars) > _GRAMMARS_KEPT:
            self._grammars.pop(next(iter(self._grammars))).close()
        return known.copy()


def is_markup(text: str) -> bool:
    """Whether a user-defined token looks like markup (`<tool_call>`, `[INST]`), not like text."""
    return len(text) > 2 and text[0] + text[-1] in ("<>", "[]")


class Grammar:
    """A grammar's state after the tokens accepted so far."""

    @classmethod
    def parse(cls, vocab: Any, text: str) -> Grammar:
        """The grammar at its start. Takes milliseconds; `copy` of one that is kept, far less."""
        return cls(lib.llama_sampler_init_grammar(vocab, text.encode(), b"root"))

    def __init__(self, pointer: Any) -> None:
        if not pointer:  # using a NULL sampler is a SIGSEGV
            raise GrammarError(
                "libllama does not accept the grammar made from the tools' schemas",
                hint="Offer fewer tools, or simplify their parameters.",
            )
        self._pointer = pointer
        self._one = np.zeros(1, _CANDIDATE)
        self._one_array = _array(self._one)

    def copy(self) -> Grammar:
        """Another one in the same state."""
        return Grammar(lib.llama_sampler_clone(self._pointer))

    def allows(self, token: int) -> bool:
        """Whether `token` may come next: microseconds, whatever the vocabulary's size."""
        self._one["id"], self._one["logit"] = token, 0.0
        lib.llama_sampler_apply(self._pointer, ctypes.byref(self._one_array))
        return bool(self._one["logit"][0] > -np.inf)

    def only(self, tokens: npt.NDArray[np.int32]) -> int | None:
        """The place in `tokens` of the one that may come next; None where none or several may."""
        candidates = np.zeros(len(tokens), _CANDIDATE)
        candidates["id"] = tokens
        array = _array(candidates)
        lib.llama_sampler_apply(self._pointer, ctypes.byref(array))
        (left,) = np.nonzero(candidates["logit"] > -np.inf)
        return int(left[0]) if len(left) == 1 else None

    def mask(self, logits: Logits) -> None:
        """Leaves only tokens that may come next: slow, for after a few rejections.

        The most likely few hundred are asked first (about a millisecond), and the others only if
        none of them may (a third of a second for a vocabulary of 150,000).
        """
        likely = top(logits, _LIKELY)
        self._mask(logits, likely)
        if logits[likely].max(initial=-np.inf) > -np.inf:
            rest = np.ones(len(logits), dtype=bool)
            rest[likely] = False
            logits[rest] = -np.inf
        else:
            self._mask(logits, np.flatnonzero(logits > -np.inf))

    def _mask(self, logits: Logits, left: npt.NDArray[np.intp]) -> None:
        candidates = np.zeros(len(left), _CANDIDATE)
        candidates["id"], candidates["logit"] = left, logits[left]
        array = _array(candidates)
        lib.llama_sampler_apply(self._pointer, ctypes.byref(array))
        logits[candidates["id"]] = candidates["logit"]

    def accept(self, token: int) -> None:
        """Takes `token`, which must be allowed: libllama ends the process otherwise."""
        lib.llama_sampler_accept(self._pointer, token)

    def close(self) -> None:
        """Gives the native memory back; the grammar cannot be used after."""
        if self._pointer:
            lib.llama_sampler_free(self._pointer)
            self._pointer = None


def _array(candidates: npt.NDArray[Any]) -> Any:
    pointer = candidates.ctypes.data_as(lib.llama_token_data_p)
    return lib.llama_token_data_array(data=pointer, size=len(candidates), selected=-1, sorted=False)
