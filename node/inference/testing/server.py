"""A model's server on loopback that says what it is told to, good or evil: a real one's double.

It speaks HTTP/1.1 by hand over asyncio's streams, because an HTTP library would refuse to send what
a hostile or broken server sends: a line without an end, half a reply, nothing at all. It keeps what
it was asked, and notices when a client leaves in the middle of a reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from node.inference.types import ToolCall

SSE: Final = "text/event-stream"
MODEL: Final = "served-model"
Body = AsyncIterator[bytes] | Iterable[bytes]


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Answer:
    """One reply. A body without `length` ends with the connection."""

    body: Body = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = SSE
    silent: bool = False


Reply = Answer | Callable[[Asked], Answer]


class ModelServer:
    """`async with ModelServer([say("Hello")]) as server:`; then `server.url` is the API's base.

    Args:
        script: replies to requests for tokens, in order.
        facts: replies to everything else by path, with its query or without, as JSON or an
            `Answer`, or a function of the body that gives one; what is not named is a 404.
        tls: serves HTTPS with this context.

    Attributes:
        asked: all requests, oldest first; `generations` are those for tokens.
        reached: set when a request for tokens came.
        left: set when a client closed its connection before the reply was whole.
    """

    def __init__(
        self,
        script: Iterable[Reply] = (),
        *,
        facts: Mapping[str, Any] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._script = list(script)
        self._facts = dict(LLAMA_SERVER if facts is None else facts)
        self._tls = tls
        self.asked: list[Asked] = []
        self.reached = asyncio.Event()
        self.left = asyncio.Event()
        self.port = 0

    @property
    def generations(self) -> list[Asked]:
        return [each for each in self.asked if each.path.endswith("/chat/completions")]

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> ModelServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self._connections: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # a task of asyncio's streams that ends as cancelled is logged as an error
            with contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError
            ):
                asked = await _read(reader)
                self.asked.append(asked)
                if self.generations:
                    self.reached.set()
                await self._answer(self._reply(asked), reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    def _reply(self, asked: Asked) -> Answer:
        if asked.path.endswith("/chat/completions"):
            reply = self._script.pop(0) if self._script else refuse(500, "the script is at its end")
            return reply if isinstance(reply, Answer) else reply(asked)
        known = self._facts.get(asked.path, self._facts.get(asked.path.partition("?")[0]))
        value = known(asked.body) if callable(known) else known
        if isinstance(value, Answer):
            return value
        return refuse(404, "not found") if value is None else whole(value)

    async def _answer(
        self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        gone = asyncio.create_task(reader.read())
        sending = asyncio.create_task(_send(answer, writer))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done() or sending.exception() is not None:
                self.left.set()
        finally:
            for task in (gone, sending):
                task.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, json.loads(raw) if raw else None)


async def _send(answer: Answer, writer: asyncio.StreamWriter) -> None:
    if answer.silent:
        return
    phrase = HTTPStatus(answer.status).phrase
    headers = {"Content-Type": answer.kind, "Connection": "close", **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async for part in _parts(answer.body):
        writer.write(part)
        await writer.drain()
    await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    writer.close()
    await writer.wait_closed()


async def _parts(body: Body) -> AsyncIterator[bytes]:
    if isinstance(body, AsyncIterator):
        async for part in body:
            yield part
    else:
        for part in body:
            yield part


# ── replies ─────────────────────────────────────────────────────────────────────────────────


def event(value: Any) -> bytes:
    """One server-sent event with JSON in it."""
    return f"data: {json.dumps(value)}\n\n".encode()


def chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
    """One chunk of a chat completion."""
    choice = {"index": 0, "delta": dict(delta), "finish_reason": finish}
    return event({"object": "chat.completion.chunk", "model": MODEL, "choices": [choice]})


def ending(finish: str = "stop", usage: Mapping[str, Any] | None = None) -> list[bytes]:
    """The chunks that end a reply: the reason, the usage where given, `[DONE]`."""
    told = [event({"choices": [], "usage": dict(usage)})] if usage is not None else []
    return [chunk({}, finish), *told, b"data: [DONE]\n\n"]


def usage(prompt: int, completion: int) -> dict[str, Any]:
    """Usage as servers tell it."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def say(text: str, *, prompt: int = 20, finish: str = "stop") -> Answer:
    """A plain answer, a word a chunk."""
    words = [word + " " for word in text.split(" ")]
    words[-1] = words[-1][:-1]
    pieces = [chunk({"role": "assistant"}), *(chunk({"content": word}) for word in words)]
    return Answer([*pieces, *ending(finish, usage(prompt, len(words)))])


def call(*calls: ToolCall, prompt: int = 30) -> Answer:
    """An answer that calls tools; the arguments come in pieces of seven characters."""
    pieces = []
    for index, each in enumerate(calls):
        head = {"name": each.name, "arguments": ""}
        pieces.append(_piece(index, head, f"id-{index}"))
        text = json.dumps(each.arguments)
        pieces += [_piece(index, {"arguments": text[at : at + 7]}) for at in range(0, len(text), 7)]
    return Answer([*pieces, *ending("tool_calls", usage(prompt, 12))])


def write_call(name: str, arguments: str) -> Answer:
    """An answer with one call whose arguments are whatever text."""
    piece = _piece(0, {"name": name, "arguments": arguments}, "id-0")
    return Answer([piece, *ending("tool_calls", usage(30, 12))])


def _piece(index: int, function: Mapping[str, Any], number: str | None = None) -> bytes:
    told = {"index": index, "function": dict(function)}
    if number is not None:
        told |= {"id": number, "type": "function"}
    return chunk({"tool_calls": [told]})


def whole(value: Any) -> Answer:
    """A reply that is one JSON value and no stream."""
    return Answer([json.dumps(value).encode()], kind="application/json")


def refuse(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error as OpenAI's API tells them."""
    told = {"error": {"message": message, "type": "error", "code": status}}
    return Answer([json.dumps(told).encode()], status, headers or {}, "application/json")


# ── what servers say of themselves ──────────────────────────────────────────────────────────


def _words(body: Any) -> dict[str, Any]:
    return {"tokens": list(range(len(body["content"].split())))}


def _template(body: Any) -> dict[str, Any]:
    turns = [f"<|{turn['role']}|> {turn.get('content') or ''}" for turn in body["messages"]]
    return {"prompt": "\n".join([json.dumps(body.get("tools", [])), *turns, "<|assistant|>"])}


LLAMA_SERVER: Final[Mapping[str, Any]] = {
    "/v1/models": {"data": [{"id": MODEL, "owned_by": "llamacpp", "meta": {"n_ctx_train": 9999}}]},
    "/props": {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4},
    "/apply-template": _template,
    "/tokenize": _words,
}


def _named(reply: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The reply of the model that a body names; where it names none, no model is asked."""
    nameless = refuse(400, "model name is missing from the request")
    return lambda body: reply(body) if body.get("model") == MODEL else nameless


ROUTER: Final[Mapping[str, Any]] = {
    "/v1/models": {
        "data": [
            {"id": MODEL, "owned_by": "llamacpp", "status": {"value": "unloaded"}},
            {"id": "another", "owned_by": "llamacpp", "status": {"value": "unloaded"}},
        ]
    },
    "/props": {"role": "router", "default_generation_settings": {"params": {}, "n_ctx": 0}},
    f"/props?model={MODEL}": LLAMA_SERVER["/props"],
    "/apply-template": _named(_template),
    "/tokenize": _named(_words),
}
VLLM: Final[Mapping[str, Any]] = {
    "/v1/models": {"data": [{"id": MODEL, "owned_by": "vllm", "max_model_len": 8192}]},
    "/tokenize": lambda body: {
        "count": 3 * len(body["messages"]) + 10 * len(body.get("tools", [])),
        "max_model_len": 8192,
        "tokens": [],
    },
}
OLLAMA: Final[Mapping[str, Any]] = {
    "/v1/models": {"data": [{"id": MODEL, "owned_by": "library"}]},
    "/api/version": {"version": "0.12.6"},
    "/api/ps": {"models": [{"name": MODEL, "model": MODEL, "context_length": 16384}]},
    "/api/show": {"parameters": "temperature 0.7\nnum_ctx 6144\n", "model_info": {}},
}
SERVICE: Final[Mapping[str, Any]] = {
    "/v1/models": {
        "data": [
            {"id": MODEL, "owned_by": "organization", "context_length": 32768},
            {"id": "another", "owned_by": "organization"},
        ]
    },
}
