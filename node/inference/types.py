"""What the inference room's users see: requests, tokens, and the `Engine` seam."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from node.types import JsonObject

if TYPE_CHECKING:  # slow to import, and most users of this module never see a vector
    import numpy as np
    import numpy.typing as npt

Vectors: TypeAlias = "npt.NDArray[np.float32]"

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "tool_calls", "length", "cancelled"]
Priority = Literal["person", "background"]


@dataclass(frozen=True)
class ToolCall:
    """A call the model asked for. `arguments` parsed; validated again by whoever performs it."""

    name: str
    arguments: JsonObject


@dataclass(frozen=True)
class Message:
    """One turn. `tool_calls` only on assistant turns; `name` is the function on tool turns."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str | None = None


@dataclass(frozen=True)
class FunctionSpec:
    """A function a model may call, as it is told of it. `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: JsonObject


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Temperature 0 is greedy; `seed` makes the rest repeatable.

    `logit_bias` is (token id, what is added to its logit) pairs; -100 or less bans a token, unless
    it is the only one that the grammar of a call allows.
    """

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    seed: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Generation:
    """One request to a model.

    With `tools` the output is either text or tool calls decoded under a grammar made from the
    tools' schemas; `tool_choice` "none" offers the tools but forbids calls, "required" forbids
    plain text. `priority` "person" goes before "background" in a busy model's queue. With
    `answer_schema` an answer in text is JSON of that schema; an engine that cannot see to it
    refuses the request. Without `parallel_tool_calls` an answer holds one call at most; some
    families of models never make more. Not `constrained`, no grammar holds the output: a call that
    comes out well-formed is the model's own doing, which is what an examination wants to know.
    `bound_for` is the only place that it may be sent to: a server's address, "" for this machine.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[FunctionSpec, ...] = ()
    tool_choice: Literal["auto", "none", "required"] = "auto"
    sampling: Sampling = field(default_factory=Sampling)
    priority: Priority = "background"
    answer_schema: JsonObject | None = None
    parallel_tool_calls: bool = True
    constrained: bool = True
    bound_for: str | None = None


@dataclass(frozen=True)
class Finish:
    """The end of a generation: the parsed answer and what it cost.

    `text` is the answer without call markup or reasoning. `malformed` says, in words a model can
    act on, why the raw output could not be parsed as a call; then `tool_calls` is empty.
    `prompt_tokens_cached` of the `prompt_tokens` were not evaluated again. `sampling` is what was
    used and `model_sha256` the digest of the weights, so that the answer can be made again.
    `remote` is the address of the server that made it, "" for a model of this machine; where that
    server did not say (or not believably) how many tokens it took, the counts are `estimated`.
    `reasoning` is what the model thought before it answered: never part of `text`, and its
    `reasoning_tokens` are among the `completion_tokens`.
    """

    reason: FinishReason
    text: str
    raw: str
    tool_calls: tuple[ToolCall, ...]
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    malformed: str | None = None
    prompt_tokens_cached: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    model_sha256: str = ""
    remote: str = ""
    estimated: bool = False
    reasoning: str = ""
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Token:
    """A piece of output as it is made; the last one of a generation carries `finish`.

    `text` is of the answer, `reasoning` of what the model thinks before it.
    """

    text: str
    finish: Finish | None = None
    reasoning: str = ""


@dataclass(frozen=True)
class ModelInfo:
    """A loaded or known model. Sizes in bytes and tokens.

    A `remote` one has no digest (nobody can say what a server runs), its address for a path, and
    the kind of server for an architecture; `counts` says that it is sent prompts to count them.
    """

    name: str
    sha256: str
    path: str
    size_bytes: int
    context_tokens: int
    architecture: str = ""
    remote: bool = False
    counts: bool = False


@dataclass(frozen=True)
class ModelStatus:
    """A loaded model at work, as last reported by its runner. Rates are over the last seconds.

    Attributes:
        running, waiting: generations that are being decoded, and that wait for a place.
        kv_tokens, kv_used, kv_kept: cells of the KV cache, those in use, and those of them that
            belong to no running generation and are kept for a next turn.
        prompt_tokens, prompt_tokens_cached: of all prompts; the second were not evaluated.
        completion_tokens, generations, crashes: totals; crashes outlive the runner.
        tokens_per_s, prompt_tokens_per_s: made and evaluated in the last seconds of work.
        batch: tokens in a decode, the mean over the same seconds.
        states_saved, states_restored: sequences written to and taken from disk.
        rss_bytes: resident memory of the runner process.
    """

    model: str
    pid: int
    context_tokens: int = 0
    running: int = 0
    waiting: int = 0
    kv_tokens: int = 0
    kv_used: int = 0
    kv_kept: int = 0
    prompt_tokens: int = 0
    prompt_tokens_cached: int = 0
    completion_tokens: int = 0
    generations: int = 0
    crashes: int = 0
    tokens_per_s: float = 0.0
    prompt_tokens_per_s: float = 0.0
    batch: float = 0.0
    states_saved: int = 0
    states_restored: int = 0
    rss_bytes: int = 0


class Engine(Protocol):
    """Where tokens come from. `LlamaEngine` is the real one, `ScriptedEngine` the double."""

    def generate(self, request: Generation) -> AsyncGenerator[Token, None]:
        """Streams tokens; closing the iterator cancels within 50 ms.

        Raises:
            ModelError: the model is unknown, changed or cannot be loaded.
            ContextOverflowError: the prompt does not fit, with the sizes.
            RunnerCrashedError: the process died; the request may be tried again.
        """
        ...

    async def count(self, request: Generation) -> int:
        """Prompt tokens of the request, exactly as `generate` would evaluate it."""
        ...

    async def info(self, model: str) -> ModelInfo:
        """The model's digest and real context length; loads it if that is needed to know."""
        ...

    async def forget(self) -> None:
        """Drops what is kept of conversations to go on with them at once.

        Raises:
            InferenceError: some of it is still on the disk.
        """
        ...

    async def aclose(self) -> None:
        """Ends runner processes and gives their memory back."""
        ...


@dataclass(frozen=True)
class Destination:
    """Where requests for a model go. `keyed`: with a key, so that each may cost money."""

    url: str
    keyed: bool = False


@runtime_checkable
class Outward(Protocol):
    """An engine that may send requests out of this process's machine."""

    def destination(self, model: str) -> Destination | None:
        """Where requests for the model go; None if they stay here. Does no I/O but on the home."""
        ...


@dataclass(frozen=True)
class EmbedderInfo:
    """An embedding model. `pooling` is how one vector is made of a text's tokens: mean, cls, last,
    or rank for a reranker, which gives scores and no vectors.

    Attributes:
        dimensions: floats in a vector; 0 for a reranker.
        context_tokens: the longest text, special tokens included; of a reranker query and text.
    """

    name: str
    sha256: str
    architecture: str
    pooling: str
    dimensions: int
    context_tokens: int


class Embedder(Protocol):
    """Where vectors come from. `LlamaEmbedder` is the real one, `HashEmbedder` the double."""

    async def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """A row for each text, of length 1 (L2). What a model wants in front of a text (as
        "search_query: ") is the caller's to write.

        Raises:
            ModelError: the model is unknown, changed, cannot be loaded, or is a reranker.
            ContextOverflowError: a text is too long; says which, with the sizes. None is cut.
            RunnerCrashedError: the process died; the request may be tried again.
        """
        ...

    async def rank(self, model: str, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query, higher is better; of one model comparable.

        Raises:
            ModelError, ContextOverflowError, RunnerCrashedError: as `embed`; ModelError if the
                model is no reranker.
        """
        ...

    async def info(self, model: str) -> EmbedderInfo:
        """What the model is; loads it. Raises as `embed`."""
        ...

    async def aclose(self) -> None:
        """Ends runner processes and gives their memory back."""
        ...
