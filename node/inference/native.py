"""The few calls of libllama that a runner needs, with their traps closed.

Only the runner process imports this module: native code may crash, and must not take the daemon
with it. `OMP_WAIT_POLICY` must be set before libllama is loaded (its OpenMP threads would spin, and
a busy machine falls to a token a second), so it is set here, first.

Spec: `llama.h` of llama.cpp as bound by llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import Any, Final

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt

from node.errors import GrammarError, InferenceError, ModelError
from node.inference.sampler import Logits, top

Tokens = npt.NDArray[np.int32]

CHUNK_TOKENS: Final = 128
_GRAMMARS_KEPT = 8
_LIKELY = 512
_WARN = 3
_CONTROL, _USER_DEFINED, _UNKNOWN = 1 << 3, 1 << 4, 1 << 0
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Aborted(InferenceError):
    """A decode was stopped by `Context.abort`; the runner's own signal, never seen outside."""

    def __init__(self) -> None:
        super().__init__("aborted")


@lib.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
def _log(level: int, text: bytes, _data: object) -> None:
    if level >= _WARN and level != 5:
        sys.stderr.write(text.decode(errors="replace"))
        sys.stderr.flush()


class Model:
    """Weights and vocabulary. `gpu_layers` below 0 offloads all, where the build can.

    Raises:
        ModelError: libllama cannot load the file.
    """

    def __init__(self, path: str, *, gpu_layers: int = -1) -> None:
        lib.llama_log_set(_log, ctypes.c_void_p())
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        self.pointer = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.pointer:
            raise ModelError(
                f"{path} is not a model that libllama can load",
                hint="It may be damaged (`freehold model verify`), or of a kind not known yet.",
            )
        self.vocab = Vocab(lib.llama_model_get_vocab(self.pointer))
        self.architecture = self._metadata(b"general.architecture")
        self.context_train = int(lib.llama_model_n_ctx_train(self.pointer))

    def _metadata(self, key: bytes) -> str:
        buffer = ctypes.create_string_buffer(128)
        lib.llama_model_meta_val_str(self.pointer, key, buffer, len(buffer))
        return buffer.value.decode(errors="replace")

    def template(self) -> str | None:
        """The chat template in the file's metadata."""
        raw = lib.llama_model_chat_template(self.pointer, None)
        return None if raw is None else bytes(raw).decode(errors="replace")


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
        self.adds_bos = bool(lib.llama_vocab_get_add_bos(pointer))
        self.end_tokens: set[int] = set()
        self.specials: dict[str, Special] = {}
        self.control: set[int] = set()
        self._pieces: dict[int, bytes] = {}
        self._grammars: dict[str, Grammar] = {}
        for token in range(self.size):
            self._look_at(token)

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

    def tokenize(self, text: str) -> list[int]:
        """Tokens of plain text. Control tokens are never made; user-defined ones may be."""
        raw = text.encode()
        room = len(raw) + 16
        buffer = (ctypes.c_int32 * room)()
        made = lib.llama_tokenize(self._pointer, raw, len(raw), buffer, room, False, False)
        if made < 0:
            raise InferenceError("libllama could not tokenise the prompt")
        return buffer[:made]

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


class Context:
    """One sequence's KV cache over a model.

    The abort callback is libc's `strlen` over a two-byte flag: ggml asks it at every node of the
    graph, and a Python function there would take the interpreter's lock thousands of times a token.
    """

    def __init__(self, model: Model, *, context_tokens: int, threads: int) -> None:
        self._vocab_size = model.vocab.size
        self._logits_at = 0
        self._logits: Logits = np.empty(0, np.float32)
        self._flag = ctypes.create_string_buffer(2)
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = context_tokens, 1
        params.n_batch = params.n_ubatch = CHUNK_TOKENS
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        params.abort_callback = ctypes.cast(ctypes.CDLL(None).strlen, lib.ggml_abort_callback)
        params.abort_callback_data = ctypes.addressof(self._flag)
        self._pointer = lib.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            raise ModelError(
                f"no memory for a context of {context_tokens} tokens",
                hint="Set a smaller context for this model.",
            )
        self._memory = lib.llama_get_memory(self._pointer)
        self.size = min(int(lib.llama_n_ctx(self._pointer)), context_tokens)

    def abort(self, on: bool) -> None:
        """Makes a running or the next `decode` raise Aborted (CPU only); from any thread."""
        self._flag[0] = b"\x01" if on else b"\x00"

    def keep(self, tokens: int) -> bool:
        """Forgets all but the first `tokens`; False where the memory cannot and is now empty."""
        if lib.llama_memory_seq_rm(self._memory, 0, tokens, -1):
            return True
        lib.llama_memory_clear(self._memory, True)
        return False

    def decode(self, tokens: Tokens) -> None:
        """Evaluates at most CHUNK_TOKENS after those in memory.

        Raises:
            Aborted: `abort(True)` was called; what is in memory past the start is undefined.
            InferenceError: libllama refused.
        """
        pointer = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        code = lib.llama_decode(self._pointer, lib.llama_batch_get_one(pointer, len(tokens)))
        if code == 2:
            raise Aborted
        if code != 0:
            raise InferenceError(f"libllama could not evaluate {len(tokens)} tokens (code {code})")

    def logits(self) -> Logits:
        """The last token's logits, a view that the next decode overwrites."""
        pointer = lib.llama_get_logits_ith(self._pointer, -1)
        address = ctypes.addressof(pointer.contents)
        if address != self._logits_at:  # making a view costs more than drawing a token
            self._logits = np.ctypeslib.as_array(pointer, shape=(self._vocab_size,))
            self._logits_at = address
        return self._logits
