"""Models behind an OpenAI-compatible server: llama-server, vLLM, Ollama, or a service.

For who outgrows the machine. The same seam as the local engine, so that nothing else changes; but a
server is a stranger. What it sends is bounded in size and time and judged as a local model's output
is, what it says of itself is believed for a minute, and every finish names it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from node.clock import Clock, SystemClock
from node.errors import InferenceError, ModelError
from node.inference.remote.entries import RemoteModels
from node.inference.remote.facts import COUNTING
from node.inference.remote.http import Headers, Server
from node.inference.remote.limits import RemoteLimits
from node.inference.remote.peer import Peer
from node.inference.types import Destination, Generation, ModelInfo, Token


class RemoteEngine:
    """Sends requests to the servers that `remote.toml` names. Implements `Engine` and `Outward`.

    Args:
        models: the entries.
        headers: what authenticates requests for a model, from the keystore.
        limits: bounds on what a server may take.
    """

    def __init__(
        self,
        models: RemoteModels,
        *,
        headers: Headers = lambda _remote: {},
        limits: RemoteLimits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._models = models
        self._headers = headers
        self._limits = limits or RemoteLimits()
        self._clock = clock or SystemClock()
        self._peers: dict[str, Peer] = {}
        self._retired: list[Peer] = []  # of entries that were changed; may be in use

    def destination(self, model: str) -> Destination | None:
        """Where requests for the model go; None if it is none of the entries."""
        remote = self._models.get(model)
        return None if remote is None else Destination(remote.url, bool(remote.key))

    async def generate(self, request: Generation) -> AsyncGenerator[Token, None]:
        """Streams tokens; closing the iterator closes the connection.

        Raises:
            ModelError: there is no such entry, no such model on the server, or the request is
                bound for elsewhere.
            ContextOverflowError: the prompt does not fit, by our count or the server's.
            EngineBusyError: the server says so; nothing was generated.
            RemoteError: the server cannot be reached, refuses, or does not keep to its protocol.
            IdentityError: its key cannot be read.
        """
        peer = self._bound_peer(request)
        try:
            async with aclosing(peer.generate(request)) as tokens:
                async for token in tokens:
                    yield token
        except InferenceError as error:
            peer.forget()
            raise peer.server.mask(error) from None

    async def count(self, request: Generation) -> int:
        """Prompt tokens: as the server counts them, or an estimate from above.

        Raises:
            ModelError, EngineBusyError, RemoteError, IdentityError: as `generate`.
        """
        peer = self._bound_peer(request)
        try:
            return await peer.count(request)
        except InferenceError as error:
            raise peer.server.mask(error) from None

    async def info(self, model: str) -> ModelInfo:
        """What the server says the model is.

        Raises:
            ModelError, EngineBusyError, RemoteError, IdentityError: as `generate`.
        """
        peer = self._peer(model)
        try:
            facts = await peer.facts()
        except InferenceError as error:
            raise peer.server.mask(error) from None
        return ModelInfo(
            name=model,
            sha256="",
            path=peer.remote.url,
            size_bytes=0,
            context_tokens=facts.context_tokens,
            architecture=facts.kind,
            remote=True,
            counts=facts.kind in COUNTING,
        )

    async def forget(self) -> None:
        """Nothing is kept here; what a server keeps is its own."""

    async def aclose(self) -> None:
        """Closes all connections."""
        peers = [*self._peers.values(), *self._retired]
        self._peers, self._retired = {}, []
        for peer in peers:
            await peer.server.aclose()

    def _bound_peer(self, request: Generation) -> Peer:
        """The model's server, which must be the one that the request is bound for."""
        peer = self._peer(request.model)
        check_bound(request, peer.remote.url)
        return peer

    def _peer(self, model: str) -> Peer:
        """The model's server; made anew when its entry was changed."""
        remote = self._models.get(model)
        if remote is None:
            raise ModelError(
                f"there is no remote model {model!r}", hint="`freehold model list` shows them."
            )
        known = self._peers.get(model)
        if known is not None and known.remote == remote:
            return known
        if known is not None:
            self._retired.append(known)
        server = Server(remote, headers=self._headers, limits=self._limits, clock=self._clock)
        self._peers[model] = Peer(remote, server, self._limits, self._clock)
        return self._peers[model]


def check_bound(request: Generation, place: str) -> None:
    """Raises ModelError where a request would go elsewhere than it is bound for: its model was
    moved since whoever asks decided to send it."""
    if request.bound_for is None or request.bound_for == place:
        return
    raise ModelError(
        f"the model {request.model!r} is at {place or 'this machine'} now; the request was for "
        f"{request.bound_for or 'this machine'} and is not sent elsewhere",
        hint="Ask again; the new request goes to where the model is now.",
    )
