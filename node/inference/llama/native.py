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
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt

from node.errors import GrammarError, InferenceError, ModelError
from node.inference.llama.backend import Aborted, NoRoomError
from node.inference.llama.batch import Batch
from node.inference.llama.sampler import Logits, Places, places, top

_GRAMMARS_KEPT = 8
_LIKELY = 512
_BYTES_WITHIN: Final = 1024  # every vocabulary has its single bytes among the first
_WARN = 3
_SHARED_CELLS: Final = b"possible training context overflow"  # of all sequences, not of one
_CONTROL, _USER_DEFINED, _UNKNOWN = 1 << 3, 1 << 4, 1 << 0
LIBRARY: Final = lib._lib
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


@lib.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
def _log(level: int, text: bytes, _data: object) -> None:
    if level >= _WARN and level != 5 and _SHARED_CELLS not in text:
        sys.stderr.write(text.decode(errors="replace"))
        sys.stderr.flush()


class Model:
    """Weights and vocabulary; all layers go to a GPU where the build can.

    Raises:
        ModelError: libllama cannot load the file.
    """

    def __init__(self, path: str) -> None:
        lib.llama_log_set(_log, ctypes.c_void_p())
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = -1  # all
        self.pointer = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.pointer:
            raise ModelError(
                f"{path} is not a model that libllama can load",
                hint="It may be damaged (`freehold model verify`), or of a kind not known yet.",
            )
        self.vocab = Vocab(lib.llama_model_get_vocab(self.pointer))
        self.architecture = self._metadata(b"general.architecture")
        pooling = self._metadata(f"{self.architecture}.pooling_type".encode())
        self.embeds = pooling not in ("", "0")  # as a file says that is made for that
        self.context_train = int(lib.llama_model_n_ctx_train(self.pointer))
        self.partial = not (
            lib.llama_model_is_recurrent(self.pointer) or lib.llama_model_is_hybrid(self.pointer)
        )
        heads = max(int(lib.llama_model_n_head(self.pointer)), 1)
        width = int(lib.llama_model_n_embd(self.pointer)) // heads
        kv_heads = int(lib.llama_model_n_head_kv(self.pointer))
        self.bytes_per_cell = 4 * int(lib.llama_model_n_layer(self.pointer)) * kv_heads * width

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

    def tokenize(self, text: str) -> list[int]:
        """Tokens of plain text. Control tokens are never made; user-defined ones may be."""
        raw = text.encode()
        room = len(raw) + 16
        buffer = (ctypes.c_int32 * room)()
        made = lib.llama_tokenize(self._pointer, raw, len(raw), buffer, room, False, False)
        if made < 0:
            raise InferenceError("libllama could not tokenise the prompt")
        return buffer[:made]

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


class Context:
    """The KV cache of many sequences over a model, and the decoding of their tokens in one batch.

    The abort callback is libc's `strlen` over a two-byte flag: ggml asks it at every node of the
    graph, and a Python function there would take the interpreter's lock thousands of times a token.

    Args:
        cells: tokens that all sequences together may hold; one of them may hold all.
        sequences: how many there may be at once; their numbers are 0 to one less.
        batch_tokens: rows of the largest batch; at most `sequences` of them ask for logits.
    """

    def __init__(
        self, model: Model, *, cells: int, sequences: int, batch_tokens: int, threads: int
    ) -> None:
        self._shape = (sequences, model.vocab.size)
        self._logits_at = self._outputs = 0
        self._banned: tuple[Places, ...] = ()
        self._logits: npt.NDArray[np.float32] = np.empty((0, model.vocab.size), np.float32)
        self._flag = ctypes.create_string_buffer(2)
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = cells, sequences
        params.n_batch = params.n_ubatch = batch_tokens
        params.n_outputs_max = sequences  # libllama ends the process if it is less
        params.kv_unified = params.swa_full = True  # shared prefixes; windows can be cut
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        params.abort_callback = ctypes.cast(ctypes.CDLL(None).strlen, lib.ggml_abort_callback)
        params.abort_callback_data = ctypes.addressof(self._flag)
        self._pointer = lib.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            raise ModelError(
                f"no memory for a context of {cells} tokens",
                hint="Set a smaller models.context_tokens.",
            )
        self._memory = lib.llama_get_memory(self._pointer)
        self.cells = min(int(lib.llama_n_ctx(self._pointer)), cells)
        self.partial = model.partial
        self._batches: dict[int, _NativeBatch] = {}

    def ban(self, tokens: Iterable[int]) -> None:
        """Makes tokens impossible in all logits from now on."""
        self._banned = places(tokens)

    def abort(self, on: bool) -> None:
        """Makes a running or the next `decode` raise Aborted (CPU only); from any thread."""
        self._flag[0] = b"\x01" if on else b"\x00"

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Lets `target` hold the first `tokens` cells of `source` too: microseconds."""
        end = tokens if self.partial else -1
        lib.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def share(self, source: int, target: int, tokens: int) -> None:
        """Lets `target`, which holds the same first `tokens`, hold those cells of `source`."""
        lib.llama_memory_seq_rm(self._memory, target, 0, tokens)
        lib.llama_memory_seq_cp(self._memory, source, target, 0, tokens)

    def cut(self, sequence: int, tokens: int) -> bool:
        """Forgets all but the first `tokens`; False where it cannot, and the sequence is empty."""
        if lib.llama_memory_seq_rm(self._memory, sequence, tokens, -1):
            return True
        lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return False

    def save(self, sequence: int) -> memoryview:
        """The state of a sequence, for a context of the same model and settings."""
        size = lib.llama_state_seq_get_size(self._pointer, sequence)
        state = np.empty(size, np.uint8)
        written = lib.llama_state_seq_get_data(self._pointer, _bytes(state), size, sequence)
        return state.data[:written]

    def load(self, sequence: int, state: bytes | memoryview) -> bool:
        """Puts a state of `save` into an empty sequence; False where it does not fit.

        libllama ends the process on a state that is not whole, so it must have been verified.
        """
        raw = np.frombuffer(state, np.uint8)
        return bool(lib.llama_state_seq_set_data(self._pointer, _bytes(raw), len(raw), sequence))

    def decode(self, batch: Batch) -> None:
        """Evaluates a batch.

        Raises:
            Aborted: `abort(True)` was called; what its sequences hold past their ends is undefined.
            NoRoomError: no cells are free; nothing was evaluated.
            InferenceError: libllama refused.
        """
        native = self._batches.get(id(batch))
        if native is None:
            native = self._batches[id(batch)] = _NativeBatch(batch)
        code = lib.llama_decode(self._pointer, native.of(batch.size))
        if code == 2:
            raise Aborted
        if code == 1:
            raise NoRoomError
        if code != 0:
            raise InferenceError(f"libllama could not evaluate {batch.size} tokens (code {code})")
        self._outputs = batch.outputs
        if batch.outputs:
            self._find_logits()
            for some in self._banned:
                self._logits[: batch.outputs, some] = -np.inf

    def best(self) -> list[int]:
        """The likeliest token of each row that asked for logits, in their order.

        Of all rows at once: 600 KB are read for each where a vocabulary has 150,000 tokens, and
        between them whatever else was in the processor's caches would have to come back.
        """
        found: list[int] = self._logits[: self._outputs].argmax(axis=1).tolist()
        return found

    def logits(self, output: int) -> Logits:
        """Logits of the batch's row that was the `output`th to ask for them, counted from 0.

        A view that the next decode overwrites.
        """
        row: Logits = self._logits[output]
        return row

    def _find_logits(self) -> None:
        pointer = lib.llama_get_logits(self._pointer)
        address = ctypes.addressof(pointer.contents)
        if address != self._logits_at:  # making a view costs more than drawing a token
            self._logits = np.ctypeslib.as_array(pointer, shape=self._shape)
            self._logits_at = address


class _NativeBatch:
    """A `llama_batch` over the arrays of a `Batch`, which it keeps alive."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._counts = np.ones(batch.capacity, np.int32)
        sequences = batch.sequences.ctypes.data
        self._pointers = (ctypes.POINTER(ctypes.c_int32) * batch.capacity)(
            *(
                ctypes.cast(sequences + 4 * row, ctypes.POINTER(ctypes.c_int32))
                for row in range(batch.capacity)
            )
        )
        self._native = lib.llama_batch(
            n_tokens=0,
            token=_int32(batch.tokens),
            embd=None,
            pos=_int32(batch.positions),
            n_seq_id=_int32(self._counts),
            seq_id=self._pointers,
            logits=batch.wants.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def of(self, size: int) -> Any:
        self._native.n_tokens = size
        return self._native


def _int32(values: npt.NDArray[np.int32]) -> Any:
    return values.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))


def _bytes(values: npt.NDArray[np.uint8]) -> Any:
    return values.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
