"""What a run asks of its model, as effects: to open, to generate (`fit_effect` has the third).

Counting tokens and asking a model for its context length are reads of something that may change
under a run (another build of the model, another engine). All that the loop's next move depends on
is therefore in a recorded outcome: that a prompt did not fit is an outcome of the model step, and
how to make it fit is one of a step of its own. The model's name is not among the arguments: the
run's manifest says it once, and a replay may put another model to the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

from node.errors import (
    FreeholdError,
    InferenceError,
    RemoteError,
    RemoteRefusedError,
    RunnerCrashedError,
)
from node.inference import Destination, Engine, Finish, Generation, Message, ToolCall
from node.runs.content import clean, clean_text
from node.runs.effect import Needs, Outcome, StepKind, Usage
from node.runs.offer import Offer, specs
from node.runs.outward import Attempt, bound, named, needs_of, sent_bytes, way_of
from node.runs.program import RunEvent
from node.runs.veil import Veil
from node.types import Json, JsonObject, digest

Emit = Callable[[RunEvent], None]
_LEAST_REPLY = 16
_GENERATION_SECONDS = 600.0


def reply_room(max_tokens: int, context_tokens: int) -> int:
    """Tokens a prompt leaves free for the reply: all it may use, or a quarter of the context."""
    return max(1, min(max_tokens, context_tokens // 4))


@dataclass(frozen=True)
class Asked:
    """What all of them are: a request, which an engine answers here or sends one way."""

    engine: Engine = field(repr=False)
    request: Generation

    kind = StepKind.MODEL

    @cached_property
    def way(self) -> Destination | None:
        """Where the request goes; None for this machine."""
        return way_of(self.engine, self.request.model)

    def size(self, request: Generation) -> int:
        """About how many bytes the request, or another like it, sends out of this machine."""
        return sent_bytes(self.way, messages_json(request.messages), request)

    async def settle(self, key: str) -> Outcome | None:
        """Counting leaves nothing anywhere: it may be done again."""
        return None


@dataclass(frozen=True)
class Opening(Asked):
    """The first step: which model, how much fits it, which functions are offered, the sizes, and
    the seed of the run. `offers` is asked only where this is performed, not where it is replayed.
    """

    offers: Callable[[], tuple[Offer, ...]] = field(repr=False)

    name = "open"

    @property
    def args(self) -> Json:
        return {"messages": messages_json(self.request.messages)}

    @property
    def needs(self) -> Needs:
        return needs_of(self.way, Usage(egress_bytes=self.size(self.request)))

    async def perform(self, key: str) -> Outcome:
        """Raises ModelError or ManifestError if the model or a tool cannot be used."""
        offers = self.offers()
        info = await self.engine.info(self.request.model)
        request = bound(replace(self.request, tools=specs(offers)), self.way)
        value: JsonObject = {
            "model": info.name,
            "sha256": info.sha256,
            "context_tokens": info.context_tokens,
            "prompt_tokens": await self.engine.count(request),
            "functions": [offer.to_json() for offer in offers],
            "seed": int(digest(key)[:7], 16),
            **named(self.way),
        }
        sent = self.size(request) if info.counts else 0
        return Outcome(ok=True, value=value, usage=Usage(egress_bytes=sent))


@dataclass(frozen=True)
class Generate(Asked):
    """One generation. `estimate` is the most prompt tokens it can have, to reserve; `secrets` are
    kept out of the live tokens.

    The outcome's value: `text`, `tool_calls`, `finish`, `raw` where the output was malformed, and
    the model's digest, or for a `remote` one its server's address. Where the prompt leaves too
    little room, `ok` is False and the value is `{"overflow": {"prompt_tokens", "context_tokens",
    "reply_tokens"}}`: nothing was generated.
    """

    estimate: int
    name: str = "generate"
    emit: Emit | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    attempt: Attempt = field(default_factory=Attempt, repr=False, compare=False)

    @cached_property
    def args(self) -> Json:
        sampling = cast("JsonObject", dict(vars(self.request.sampling)))
        bias = cast("tuple[tuple[int, float], ...]", sampling.pop("logit_bias"))
        if bias:  # only then, since runs were recorded before it existed
            sampling["logit_bias"] = [[token, value] for token, value in bias]
        return {
            "messages": messages_json(self.request.messages),
            "functions": [spec.name for spec in self.request.tools],
            "schemas": digest([spec.parameters for spec in self.request.tools]),
            "tool_choice": self.request.tool_choice,
            "sampling": {**sampling, "stop": list(self.request.sampling.stop)},
        }

    @property
    def needs(self) -> Needs:
        most = self.request.sampling.max_tokens
        usage = Usage(
            prompt_tokens=self.estimate,
            completion_tokens=most,
            seconds=_GENERATION_SECONDS,
            egress_bytes=self.size(self.request),
        )
        return needs_of(self.way, usage)

    async def perform(self, key: str) -> Outcome:
        """Generates; after a crash of the runner once more, then raises RunnerCrashedError."""
        info = await self.engine.info(self.request.model)
        request = bound(self.request, self.way)
        prompt = await self.engine.count(request)
        most = self.request.sampling.max_tokens
        if prompt + min(reply_room(most, info.context_tokens), _LEAST_REPLY) > info.context_tokens:
            return _overflow(prompt, info.context_tokens, most)
        room = min(most, info.context_tokens - prompt)
        sampling = replace(self.request.sampling, max_tokens=room)
        self.attempt.sent = True
        try:
            finish = await self._finish(replace(request, sampling=sampling), key)
        except RemoteError as error:
            self.attempt.refused = isinstance(error, RemoteRefusedError)
            raise
        except FreeholdError:  # of a request that could not be made, or that nothing was made for
            self.attempt.refused = True
            raise
        finally:
            self.attempt.over = True
        weights = finish.model_sha256 or info.sha256
        about: JsonObject = {"model": info.name, "sha256": weights, **named(self.way)}
        return Outcome(
            ok=True,
            value={**_reply(finish), **about},
            usage=Usage(
                prompt_tokens=finish.prompt_tokens,
                completion_tokens=finish.completion_tokens,
                egress_bytes=self.size(self.request),
            ),
        )

    async def settle(self, key: str) -> Outcome | None:
        """Nothing is outside of a local model. Raises OutcomeUnknownError for what may be paid."""
        self.attempt.refuse_to_guess(self.way, self.request.model)
        return None

    def spent(self) -> Usage:
        """What a server was sent, and may have charged for, where its answer was not seen to its
        end: all that was let through, since nobody knows how much of it was made."""
        if self.way is None or not self.attempt.sent:
            return Usage()
        sent = Usage(egress_bytes=self.size(self.request))
        return sent if self.attempt.refused else replace(self.needs.usage, seconds=0)

    async def _finish(self, request: Generation, key: str) -> Finish:
        try:
            return await self._once(request, key)
        except RunnerCrashedError:
            self._show("token.reset", key, {"reason": "the model's process died"})
            return await self._once(request, key)

    async def _once(self, request: Generation, key: str) -> Finish:
        veil = Veil(lambda text: self._show("token", key, {"text": text}), self.secrets)
        async with aclosing(cast("Any", self.engine.generate(request))) as tokens:
            async for token in tokens:
                veil.add(token.text)
                if token.finish is not None:
                    veil.end()
                    return cast("Finish", token.finish)
        raise InferenceError(
            f"model {request.model} ended without saying how",
            hint="This is an error in the engine; `freehold logs --daemon` has what it wrote.",
        )

    def _show(self, kind: str, key: str, data: JsonObject) -> None:
        if self.emit is not None:
            self.emit(RunEvent(kind, {"path": key.rpartition(":")[2], **data}))


def messages_json(messages: tuple[Message, ...]) -> Json:
    """Messages as they are recorded; empty fields are left out."""
    return [_message(message) for message in messages]


def _message(message: Message) -> JsonObject:
    data: JsonObject = {"role": message.role, "content": message.content}
    if message.tool_calls:
        data["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.name is not None:
        data["name"] = message.name
    return data


def _call(call: ToolCall) -> JsonObject:
    return {"name": clean_text(call.name), "arguments": clean(call.arguments)}


def _reply(finish: Finish) -> JsonObject:
    value: JsonObject = {"text": clean_text(finish.text), "finish": finish.reason}
    if finish.tool_calls:
        value["tool_calls"] = [_call(call) for call in finish.tool_calls]
    if finish.malformed is not None:
        value["malformed"] = clean_text(finish.malformed)
    if finish.malformed is not None or finish.tool_calls:
        value["raw"] = clean_text(finish.raw)
    if finish.prompt_tokens_cached:
        value["prompt_tokens_cached"] = finish.prompt_tokens_cached
    if finish.estimated:
        value["tokens_estimated"] = True
    return value


def _overflow(prompt: int, context: int, reply: int) -> Outcome:
    sizes: JsonObject = {
        "prompt_tokens": prompt,
        "context_tokens": context,
        "reply_tokens": reply_room(reply, context),
    }
    return Outcome(ok=False, value={"overflow": sizes})
