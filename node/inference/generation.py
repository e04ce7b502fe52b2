"""One generation on one sequence: prompt, draw, decode, until it ends.

The KV cache of the last prompt is kept, and a prompt that begins alike is evaluated from there. It
is kept in whole chunks only, evaluated as a chunk of the prompt: so every token is computed in a
batch of the same shape at the same place as it would be without the cache, and greedy output is the
same to the bit.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from node.errors import ContextOverflowError, InferenceError
from node.inference.formats import CallFormat, Parsed
from node.inference.native import CHUNK_TOKENS, Context, Grammar, Vocab
from node.inference.prompt import Prompter
from node.inference.sampler import Sampler
from node.inference.types import Finish, FinishReason, Generation


@dataclass(frozen=True)
class Settings:
    """What the generations of one runner share. `reuse` off evaluates every prompt whole."""

    sha256: str = ""
    reuse: bool = True


class Generator:
    """Runs generations one after another. `between` is called between two decodes."""

    def __init__(
        self,
        *,
        vocab: Vocab,
        context: Context,
        prompter: Prompter,
        form: CallFormat,
        settings: Settings,
        between: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vocab = vocab
        self._context = context
        self._prompter = prompter
        self._form = form
        self._settings = settings
        self._between = between
        self._monotonic = monotonic
        self._kept: list[int] = []
        markers = {vocab.specials[text].token for text in form.markers if text in vocab.specials}
        banned = vocab.control - vocab.end_tokens - markers
        self._banned = np.array(sorted(banned), dtype=np.int64)

    def prompt(self, request: Generation) -> list[int]:
        """The tokens of a request's prompt.

        Raises:
            TemplateError: the chat template refuses the conversation.
        """
        return self._prompter.tokens(*self._form.prepare(request.messages, request.tools))

    def run(self, request: Generation, emit: Callable[[str], None]) -> Finish:
        """Generates, giving each piece of text to `emit`.

        Raises:
            Aborted: cancelled by `Context.abort`, or by `between`.
            ContextOverflowError, GrammarError, TemplateError: before any evaluation.
        """
        start = self._monotonic()
        prompt = self.prompt(request)
        self._check_size(len(prompt))
        grammar = self._vocab.grammar(self._form.grammar(request.tools, request.tool_choice))
        try:
            cached = self._evaluate(prompt)
            output = _Output(self._form, request, emit)
            reason = self._decode(request, grammar, output, self._context.size - len(prompt))
        finally:
            grammar.close()
        output.close()
        parsed = output.parsed(reason)
        return Finish(
            reason="tool_calls" if parsed.tool_calls else reason,
            text=parsed.text,
            raw=output.raw,
            tool_calls=parsed.tool_calls,
            prompt_tokens=len(prompt),
            completion_tokens=output.tokens,
            seconds=self._monotonic() - start,
            malformed=parsed.malformed,
            prompt_tokens_cached=cached,
            sampling=request.sampling,
            model_sha256=self._settings.sha256,
        )

    def _check_size(self, tokens: int) -> None:
        if tokens >= self._context.size:
            raise ContextOverflowError(
                f"the prompt has {tokens} tokens; this model's context holds "
                f"{self._context.size}, one of them for the answer",
                hint="Shorten the conversation or the tools' descriptions, or use a larger model.",
            )

    def _evaluate(self, prompt: list[int]) -> int:
        """Brings the prompt into the KV cache; the number of its tokens that were there."""
        reused = self._common(prompt) if self._settings.reuse else 0
        if not self._context.keep(reused):
            reused = 0
        self._kept = prompt[:reused]
        tokens = np.array(prompt, dtype=np.int32)
        for start in range(reused, len(prompt), CHUNK_TOKENS):
            chunk = tokens[start : start + CHUNK_TOKENS]
            self._context.decode(chunk)
            if len(chunk) == CHUNK_TOKENS:
                self._kept = prompt[: start + CHUNK_TOKENS]
            self._between()
        return reused

    def _common(self, prompt: list[int]) -> int:
        """Tokens of whole chunks that are in the cache; never all, since logits are needed."""
        most = min(len(self._kept), len(prompt) - 1) // CHUNK_TOKENS * CHUNK_TOKENS
        for end in range(CHUNK_TOKENS, most + 1, CHUNK_TOKENS):
            if self._kept[end - CHUNK_TOKENS : end] != prompt[end - CHUNK_TOKENS : end]:
                return end - CHUNK_TOKENS
        return most

    def _decode(
        self, request: Generation, grammar: Grammar, output: _Output, room: int
    ) -> FinishReason:
        sampler = Sampler(request.sampling, grammar, self._banned)
        end = min(self._vocab.end_tokens, default=-1)
        one = np.zeros(1, dtype=np.int32)
        for _ in range(min(room, request.sampling.max_tokens)):
            token = sampler.draw(self._context.logits())
            if token is None:
                raise InferenceError(
                    "the model has no token that the grammar allows",
                    hint="Its weights may be damaged: `freehold model verify` checks them.",
                )
            if token in self._vocab.end_tokens:
                return "stop"
            grammar.accept(token)
            if output.push(self._vocab.piece(token)):
                return "stop"
            if output.in_call and end >= 0 and grammar.allows(end):
                return "stop"
            one[0] = token
            self._context.decode(one)
            self._between()
        return "length"


class _Output:
    """The text of a generation as it grows.

    Held back is what may be the start of a stop string, and all of it until it is known whether it
    is a call. Stop strings end text, not calls: a call ends where its grammar does.
    """

    def __init__(self, form: CallFormat, request: Generation, emit: Callable[[str], None]) -> None:
        self._form = form
        self._request = request
        self._emit = emit
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = tuple(stop for stop in request.sampling.stop if stop)
        self._held = ""
        self._sent: list[str] = []
        self.tokens = 0
        self.in_call: bool | None = None if request.tools else False  # None: not told yet

    @property
    def raw(self) -> str:
        return "".join(self._sent)

    def push(self, piece: bytes) -> bool:
        """Takes a token's bytes; True when a stop string was reached."""
        self.tokens += 1
        self._held += self._decoder.decode(piece)
        if self.in_call is None:
            self.in_call = self._form.is_call(self._held)
            if self.in_call is None:
                return False
        if self._stops and not self.in_call:
            return self._stop()
        self._send(len(self._held))
        return False

    def close(self) -> None:
        """Sends what was held back, unless a stop string cut it."""
        self._held += self._decoder.decode(b"", final=True)
        self._send(len(self._held))

    def parsed(self, reason: FinishReason) -> Parsed:
        """What the output says."""
        if self.in_call and reason == "length":
            return Parsed(malformed=f"the tool call was cut off after {self.tokens} tokens")
        if not self._request.tools:
            return Parsed(text=self.raw.strip())
        return self._form.parse(self.raw, self._request.tools)

    def _stop(self) -> bool:
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self._held = self._held[: min(found)]
            self._decoder.reset()
            return True
        self._send(len(self._held) - max(self._overlaps(), default=0))
        return False

    def _overlaps(self) -> Iterator[int]:
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(self._held)), 0, -1):
                if self._held.endswith(stop[:size]):
                    yield size
                    break

    def _send(self, count: int) -> None:
        if count > 0:
            text, self._held = self._held[:count], self._held[count:]
            self._sent.append(text)
            self._emit(text)
