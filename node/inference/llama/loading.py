"""What a runner holds once its model is loaded, and how that comes about."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import resource
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from node.errors import ModelError
from node.inference.formats import CallFormat, recognise
from node.inference.llama.generation import Preparer
from node.inference.llama.kvcache import KvCache
from node.inference.llama.library import LIBRARY
from node.inference.llama.native import Context, Model, unchanged_model
from node.inference.llama.protocol import Load
from node.inference.llama.scheduler import batch_tokens, most_at_once
from node.inference.llama.state_files import state_key
from node.inference.llama.states import StateStore
from node.inference.prompts.prompt import Prompter
from node.inference.prompts.template import DEADLINE_S, ChatTemplate
from node.types import JsonObject

_RENDER_BYTES: Final = 512 * 1024 * 1024
_POOLED_CONTEXTS: Final = 2
_LEAST_POOL_TOKENS: Final = 16_384
_HELD_SHARE: Final = 8
_POOL_SHARE: Final = 4  # of the memory that is available, the pool may take one in so many


@dataclass(frozen=True)
class Loaded:
    """A model ready to generate. `facts` is what the engine is told of it."""

    context: Context
    cache: KvCache
    states: StateStore | None
    preparer: Preparer
    max_running: int
    facts: JsonObject


def load_model(load: Load) -> Loaded:
    """Loads the file and makes all that generations need.

    Raises:
        ModelError, TemplateError: it cannot be used.
    """
    model = unchanged_model(load.path, load.identity)
    source = _template(model, load.path)
    size = min(load.context_tokens, model.context_train)
    sequences = most_at_once(load.max_running) + load.kept_sequences
    context = Context(
        model,
        cells=load.kv_tokens or pool_tokens(size, model.bytes_per_cell),
        sequences=sequences,
        batch_tokens=batch_tokens(load.max_running),
        threads=load.threads,
    )
    size = min(size, context.cells)
    states = _states(load, size * model.bytes_per_cell)
    cache = KvCache(
        context, cells=context.cells, sequences=sequences, reuse=load.reuse, states=states
    )
    form = recognise(source, model.vocab.specials)
    preparer = Preparer(
        vocab=model.vocab,
        prompter=_prompter(model, source, form),
        form=form,
        context_tokens=size,
        sha256=load.sha256,
    )
    context.ban(preparer.banned)
    facts: JsonObject = {
        "context_tokens": size,
        "kv_tokens": context.cells,
        "architecture": model.architecture,
        "format": form.name,
    }
    return Loaded(context, cache, states, preparer, load.max_running, facts)


def _template(model: Model, path: str) -> str:
    """The chat template. Raises ModelError where the model is none for conversation."""
    source = model.template()
    if source is None or model.embeds:
        why = "makes vectors or ranks of texts" if model.embeds else "has no chat template"
        raise ModelError(
            f"{path} {why}",
            hint="Use a model made for conversation (an `instruct` or `chat` version).",
        )
    return source


def pool_tokens(context_tokens: int, bytes_per_cell: int) -> int:
    """Cells for all sequences together: two contexts, or what a quarter of free memory holds.

    Never under one context, which must be had in any case.
    """
    wanted = max(_POOLED_CONTEXTS * context_tokens, _LEAST_POOL_TOKENS)
    room = psutil.virtual_memory().available // _POOL_SHARE // max(bytes_per_cell, 1)
    return max(context_tokens, min(wanted, room))


def _states(load: Load, context_bytes: int) -> StateStore | None:
    """Where sequences are kept outside the context: one context's worth of them in memory, or what
    an eighth of free memory holds. The layout of a state is its library's."""
    if not load.reuse:
        return None
    key = state_key(load.sha256, _library(), "kv f16", "flash auto")
    folder = Path(load.state_folder) if load.state_folder else None
    held = min(context_bytes, psutil.virtual_memory().available // _HELD_SHARE)
    return StateStore(folder, key, max_bytes=load.state_bytes, held_bytes=held)


def _library() -> str:
    """The digest of libllama: which one is used, the Python package's version does not say."""
    with Path(LIBRARY._name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prompter(model: Model, source: str, form: CallFormat) -> Prompter:
    vocab = model.vocab
    template = _WatchedTemplate(source, bos=vocab.text(vocab.bos), eos=vocab.text(vocab.eos))
    return Prompter(
        template,
        specials=vocab.specials,
        tokenize=vocab.tokenize,
        bos=vocab.bos if vocab.adds_bos else None,
        form=form,
    )


class _WatchedTemplate(ChatTemplate):
    """A template with what only a process of its own can give it: bounds on one call of C code.

    Printing a list of lists of lists can take all memory, or an age in which no deadline is seen.
    The first becomes a MemoryError, the second ends the process.
    """

    def render(self, variables: Mapping[str, object]) -> str:
        faulthandler.dump_traceback_later(2 * DEADLINE_S, exit=True)
        try:
            with _memory_bound(_RENDER_BYTES):
                return super().render(variables)
        finally:
            faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def _memory_bound(more: int) -> Iterator[None]:
    """At most `more` bytes over what the process has now (Linux; elsewhere no bound)."""
    if sys.platform != "linux":
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    bound = pages * resource.getpagesize() + more
    if before[0] == resource.RLIM_INFINITY or bound < before[0]:  # no more than it may have
        resource.setrlimit(resource.RLIMIT_AS, (bound, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
