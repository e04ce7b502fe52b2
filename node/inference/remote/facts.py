"""What a server says of itself and of its tokens: which kind it is, how long its context, how long
a prompt.

The OpenAI API tells neither, so each kind is asked in its own way: llama-server's `/props`,
`/apply-template` and `/tokenize`, vLLM's `max_model_len` and `/tokenize`, Ollama's `/api/ps` and
`/api/show`. Every question names the model, since a server may have several, and loads them when
they are asked for. Where a server cannot count, an estimate from above stands in: two letters of a
word a token, and each other mark, digit or byte of another script one. That is about twice of what
tokenizers make of prose, so that a prompt that is said to fit does.

Spec: llama.cpp `tools/server/README.md`; vLLM "OpenAI-Compatible Server"; Ollama `docs/api.md`.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Final, Literal

import httpx

from node.errors import ModelError, RemoteError, RemoteRefusedError
from node.inference.grammar.gbnf import dumps
from node.inference.remote.entries import MAX_CONTEXT_TOKENS, RemoteModel
from node.inference.remote.http import Server
from node.inference.remote.request import messages_json, tools_json
from node.inference.types import Generation
from node.types import Json, JsonObject

Kind = Literal["llama-server", "vllm", "ollama", "openai"]

COUNTING: Final[tuple[Kind, ...]] = ("llama-server", "vllm")  # the others are sent no prompt for it
OLLAMA_CONTEXT_TOKENS: Final = 4096  # what it gives a model where nothing says otherwise
_LONGEST_NAME: Final = 500
MESSAGE_TOKENS: Final = 16
TOOLS_TOKENS: Final = 512  # what a template says around the tools' descriptions
_CONTEXT_KEYS: Final = ("max_model_len", "context_length", "context_window")
_WORD = re.compile(r" ?([A-Z]?+[a-z]{1,20}+)(?![A-Za-z])")


@dataclass(frozen=True)
class Facts:
    """What is known of a server: its kind, the model's name there, the context in tokens."""

    kind: Kind
    model: str
    context_tokens: int


async def find_facts(server: Server, remote: RemoteModel) -> Facts:
    """Asks the server what it is.

    Raises:
        ModelError: it has no such model, or does not say how long the context is.
        RemoteError, EngineBusyError: it does not answer as such a server does.
    """
    models = _models(await server.ask(f"{remote.url}/models"))
    entry = _chosen(server, remote, models)
    kind = await _kind(server, remote, entry or next(iter(models), {}))
    model = remote.model or str(entry.get("id", ""))
    if len(model) > _LONGEST_NAME:
        raise ModelError(
            f"{server.who} names a model with {len(model)} characters",
            hint="Say which it is: model in remote.toml, or `freehold model connect --model`.",
        )
    context = remote.context_tokens or await _context(server, remote, kind, model, entry)
    if not context:
        raise ModelError(
            f"{server.who} does not say how long the context of {model!r} is",
            hint="Say it: context_tokens in remote.toml, or `freehold model connect --context`.",
        )
    return Facts(kind, model, context)


async def count_tokens(
    server: Server, remote: RemoteModel, facts: Facts, request: Generation
) -> int | None:
    """Prompt tokens as the server counts them; None where it cannot, or only serves what is
    OpenAI's, and refuses the rest in whatever way."""
    body: JsonObject = {"model": facts.model, "messages": messages_json(request.messages)}
    if request.tools:
        body["tools"] = tools_json(request)
    with contextlib.suppress(RemoteRefusedError):
        if facts.kind == "vllm":
            return await _count_vllm(server, remote, body)
        if facts.kind == "llama-server":
            return await _count_llama(server, remote, request, body)
    return None


async def _count_vllm(server: Server, remote: RemoteModel, body: JsonObject) -> int | None:
    asked: JsonObject = {**body, "add_generation_prompt": True}
    told = await server.ask(f"{remote.root}/tokenize", asked)
    return _count(told.get("count")) or None if isinstance(told, dict) else None


async def _count_llama(
    server: Server, remote: RemoteModel, request: Generation, body: JsonObject
) -> int | None:
    shown = await server.ask(f"{remote.root}/apply-template", body, loads=True)
    prompt = shown.get("prompt") if isinstance(shown, dict) else None
    if not isinstance(prompt, str):
        return None
    asked: JsonObject = {"model": body["model"], "content": prompt}
    asked |= {"add_special": True, "parse_special": True}
    told = await server.ask(f"{remote.root}/tokenize", asked)
    tokens = told.get("tokens") if isinstance(told, dict) else None
    if not isinstance(tokens, list) or not tokens:
        return None
    left_out = any(tool.name not in prompt for tool in request.tools)  # older ones ignore tools
    return len(tokens) + (estimate_tools(request) if left_out else 0)


def estimate_tokens(request: Generation, known: int = 0) -> int:
    """Prompt tokens from above, of all messages but the first `known`; tools only with none."""
    total = sum(
        MESSAGE_TOKENS + estimate_text(dumps(turn))
        for turn in messages_json(request.messages)[known:]
    )
    return total if known else total + estimate_tools(request)


def estimate_tools(request: Generation) -> int:
    """What the functions offered take, from above."""
    return TOOLS_TOKENS + estimate_text(dumps(tools_json(request))) if request.tools else 0


def estimate_text(text: str) -> int:
    """Tokens of a text, from above."""
    words = sum((len(word) + 1) // 2 for word in _WORD.findall(text))
    return words + len(_WORD.sub("", text).encode("utf-8", "replace"))


# ── what it is ──────────────────────────────────────────────────────────────────────────────


def _models(told: Json) -> list[JsonObject]:
    entries = told.get("data") if isinstance(told, dict) else None
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, dict)]


def _chosen(server: Server, remote: RemoteModel, models: list[JsonObject]) -> JsonObject:
    """The model's own entry. One that the server does not list may be there all the same."""
    if remote.model:
        return next((entry for entry in models if entry.get("id") == remote.model), {})
    if len(models) == 1:
        return models[0]
    names = [server.conceal(ascii(entry.get("id")))[:60] for entry in models[:20]]
    raise ModelError(
        f"{server.who} has {len(models)} models; say which: {', '.join(names) or 'none'}",
        hint="model in remote.toml, or `freehold model connect --model`.",
    )


async def _kind(server: Server, remote: RemoteModel, entry: JsonObject) -> Kind:
    owner = entry.get("owned_by")
    if owner == "llamacpp":
        return "llama-server"
    if owner == "vllm":
        return "vllm"
    version = await _ollama_version(server, remote) if _is_own(remote) else None
    return "ollama" if isinstance(version, dict) and "version" in version else "openai"


async def _ollama_version(server: Server, remote: RemoteModel) -> Json:
    """What is at the address that only Ollama has; None for whatever else a service does with it,
    as a page for everything, or a redirect to a login."""
    try:
        return await server.ask(f"{remote.root}/api/version")
    except RemoteError:
        return None


def _is_own(remote: RemoteModel) -> bool:
    """Whether the API is at the server's root, as Ollama's is: no other host is asked for it."""
    return remote.root.count("/") == 2


async def _context(
    server: Server, remote: RemoteModel, kind: Kind, model: str, entry: JsonObject
) -> int:
    if kind == "llama-server":
        named = httpx.QueryParams({"model": model})
        props = await server.ask(f"{remote.root}/props?{named}", loads=True)
        settings = props.get("default_generation_settings") if isinstance(props, dict) else None
        return _count(settings.get("n_ctx")) if isinstance(settings, dict) else 0
    if kind == "ollama":
        return await _ollama_context(server, remote, model)
    return next((size for key in _CONTEXT_KEYS if (size := _count(entry.get(key)))), 0)


async def _ollama_context(server: Server, remote: RemoteModel, model: str) -> int:
    """What the model has once it is loaded, which hangs on the machine's memory, too; else what its
    Modelfile says; else Ollama's own default. 0 where it is another server that has a version."""
    if size := await _ollama_loaded(server, remote, model):
        return size
    shown = await server.ask(f"{remote.root}/api/show", {"model": model})
    if not isinstance(shown, dict):
        return 0
    if not shown.get("remote_host"):  # else it is a service's, and never loaded
        # what only says that it is Ollama may answer to no prompt at all, and does so in a token
        load: JsonObject = {"model": model, "stream": False, "options": {"num_predict": 1}}
        await server.ask(f"{remote.root}/api/generate", load, loads=True)
    said = re.search(r"^num_ctx\s+(\d{1,8})\s*$", str(shown.get("parameters") or ""), re.MULTILINE)
    known = _count(int(said[1])) if said else OLLAMA_CONTEXT_TOKENS
    return await _ollama_loaded(server, remote, model) or known


async def _ollama_loaded(server: Server, remote: RemoteModel, model: str) -> int:
    """The context of a model that Ollama has loaded; 0 where it has not."""
    loaded = await server.ask(f"{remote.root}/api/ps")
    entries = loaded.get("models") if isinstance(loaded, dict) else None
    names = (model, f"{model}:latest")  # Ollama's name of one that is named without a tag
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and (entry.get("name") in names or entry.get("model") in names):
            return _count(entry.get("context_length"))
    return 0


def _count(value: Json) -> int:
    """A believable number of tokens; 0 for anything else."""
    return value if type(value) is int and 0 < value <= MAX_CONTEXT_TOKENS else 0
