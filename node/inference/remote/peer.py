"""One remote model: its server is asked, and what was found out is kept."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Final

import httpx

from node.clock import Clock
from node.errors import RemoteError, RemoteRefusedError
from node.inference.remote.entries import RemoteModel
from node.inference.remote.facts import Facts, count_tokens, estimate_tokens, find_facts
from node.inference.remote.http import Server
from node.inference.remote.limits import Deadline, RemoteLimits
from node.inference.remote.reply import Reply
from node.inference.remote.request import REFUSABLE, messages_json, request_body, tools_json
from node.inference.types import Finish, Generation, Token
from node.types import JsonObject, canonical

_PROMPTS_KEPT: Final = 512


class Peer:
    """An entry and its server. Errors may hold the server's key: mask them (`Server.mask`)."""

    def __init__(
        self, remote: RemoteModel, server: Server, limits: RemoteLimits, clock: Clock
    ) -> None:
        self.remote = remote
        self.server = server
        self._limits = limits
        self._clock = clock
        self._facts: Facts | None = None
        self._asked_s = 0.0
        self._prompts: OrderedDict[bytes, int] = OrderedDict()
        self._refused: frozenset[str] = frozenset()

    async def facts(self) -> Facts:
        """What the server says of itself, asked at most every `facts_s`."""
        now = self._clock.monotonic()
        if self._facts is None or now - self._asked_s > self._limits.facts_s:
            self._facts = await find_facts(self.server, self.remote)
            self._asked_s = now
        return self._facts

    def forget(self) -> None:
        """Asks anew what the server is: after an error it may be another."""
        self._facts = None

    async def count(self, request: Generation) -> int:
        """Prompt tokens: as the server counts them, or an estimate from above."""
        facts = await self.facts()
        counted = await count_tokens(self.server, self.remote, facts, request)
        return self._estimate(request) if counted is None else counted

    async def generate(self, request: Generation) -> AsyncGenerator[Token, None]:
        """Streams tokens, the finish last."""
        facts = await self.facts()
        started = self._clock.monotonic()
        deadline = Deadline(self._limits)
        reply = Reply(request, self.server.who, self.server.conceal)
        async with aclosing(self._pieces(request, facts, reply, deadline)) as pieces:
            async for token in pieces:
                if token.text or token.reasoning:
                    yield token
        finish = reply.finish(
            seconds=self._clock.monotonic() - started,
            prompt_estimate=min(self._estimate(request), facts.context_tokens),
            context_tokens=facts.context_tokens,
        )
        self._remember(request, finish)
        yield Token("", replace(finish, remote=self.remote.url))

    async def _pieces(
        self, request: Generation, facts: Facts, reply: Reply, deadline: Deadline
    ) -> AsyncGenerator[Token, None]:
        """The pieces of the answer, until the server or a stop string ends it."""
        limits, tokens = self._limits, request.sampling.max_tokens
        most = limits.line_bytes + tokens * limits.token_bytes
        async with self._asked(request, facts, deadline) as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/event-stream":
                most = limits.line_bytes + tokens * limits.whole_token_bytes
                text = await self.server.reader.whole(response, deadline, most)
                yield self._add(reply, self._chunk(text), "message", deadline)
            else:
                async with aclosing(self.server.reader.events(response, deadline, most)) as events:
                    while (chunk := await self._next(events, reply)) is not None:
                        yield self._add(reply, chunk, "delta", deadline)
                        if reply.is_stopped:
                            break
        if reply.ended is None and not reply.is_stopped:
            raise RemoteError(
                f"{self.server.who} ended its answer in the middle",
                hint="The request is not sent again by itself, since it was worked on.",
            )
        yield reply.rest()

    @asynccontextmanager
    async def _asked(
        self, request: Generation, facts: Facts, deadline: Deadline
    ) -> AsyncIterator[httpx.Response]:
        """The reply to the request, asked again without what the model says it does not take."""
        async with AsyncExitStack() as stack:
            while True:
                body = request_body(request, facts.model, facts.kind, self._refused)
                try:
                    asked = self.server.generation(body, deadline)
                    response = await stack.enter_async_context(asked)
                    break
                except RemoteRefusedError as error:
                    if error.setting not in REFUSABLE - self._refused:
                        raise
                    self._refused |= {error.setting}
            yield response

    async def _next(self, events: AsyncGenerator[str, None], reply: Reply) -> JsonObject | None:
        """The next chunk; None at the end. Once the server has said how the answer ends, nothing
        but counts can follow, and a connection that breaks or stays open takes nothing back."""
        try:
            event = await anext(events, None)
            return None if event is None or event.strip() == "[DONE]" else self._chunk(event)
        except RemoteError:
            if reply.ended is None:
                raise
            return None

    def _chunk(self, text: str) -> JsonObject:
        chunk = self.server.reader.parse(text)
        if not isinstance(chunk, dict):
            raise RemoteError(
                f"{self.server.who} sent a chunk that is not an object",
                hint="Is this the address of an OpenAI-compatible API?",
            )
        return chunk

    @staticmethod
    def _add(reply: Reply, chunk: JsonObject, part: str, deadline: Deadline) -> Token:
        heard = reply.heard
        token = reply.add(chunk, part)
        if reply.heard > heard:
            deadline.progress()
        if reply.ended is not None:
            deadline.last()
        return token

    # ── prompts, as far as they are known ───────────────────────────────────────────────────

    def _estimate(self, request: Generation) -> int:
        """Prompt tokens from above; of a prompt's known beginning, what the server said."""
        keys = _keys(request)
        for known in range(len(keys), 0, -1):
            if told := self._prompts.get(keys[known - 1]):
                return told + estimate_tokens(request, known)
        return estimate_tokens(request)

    def _remember(self, request: Generation, finish: Finish) -> None:
        """Not where calls were forbidden: a server may have been shown no tools for that."""
        if finish.estimated or (request.tools and request.tool_choice == "none"):
            return
        for key in _keys(request)[-1:]:
            self._prompts[key] = finish.prompt_tokens
            self._prompts.move_to_end(key)
        while len(self._prompts) > _PROMPTS_KEPT:
            self._prompts.popitem(last=False)


def _keys(request: Generation) -> list[bytes]:
    """A digest of each beginning of the prompt, the tools included."""
    running = hashlib.sha256(canonical(tools_json(request)))
    keys = []
    for turn in messages_json(request.messages):
        running.update(canonical(turn) + b"\n")
        keys.append(running.digest())
    return keys
