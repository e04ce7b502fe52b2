"""Weights, and the context they are evaluated in: libllama's calls with their traps closed.

Spec: `llama.h` of llama.cpp as bound by llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from node.errors import InferenceError, ModelError
from node.inference.llama.backend import Aborted, NoRoomError
from node.inference.llama.batch import Batch
from node.inference.llama.library import lib
from node.inference.llama.sampler import Logits, Places, places
from node.inference.llama.vocab import Vocab
from node.inference.models.files import Identity, identity

_WARN = 3
_SHARED_CELLS: Final = b"possible training context overflow"  # of all sequences, not of one


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


def unchanged_model(path: str, known: Identity) -> Model:
    """The model in a file that is the one that was hashed, before it is loaded and after.

    Raises:
        ModelError: it is another one, or libllama cannot load it.
    """
    _check_same(path, known)
    model = Model(path)
    _check_same(path, known)
    return model


def _check_same(path: str, known: Identity) -> None:
    if identity(os.stat(path)) != known:
        raise ModelError(f"{path} changed while it was being loaded", hint="Try again.")


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
