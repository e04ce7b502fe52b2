"""One generation: from a request to a prompt, from logits to text, call and finish.

`Preparer` is what takes time before the first token (template, tokens, grammar), and runs beside
the decoding of others. `Answer` is what the scheduler asks for the next tokens.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from node.errors import ContextOverflowError, InferenceError
from node.inference.forced import Forcing
from node.inference.formats import CallFormat, Parsed
from node.inference.native import Grammar, Vocab
from node.inference.prompt import Prompter
from node.inference.sampler import Logits, Sampler
from node.inference.types import Finish, FinishReason, Generation


class Preparer:
    """Makes answers of requests, for one model. One thread's.

    Args:
        context_tokens: what a prompt and its answer must fit.
        sha256: the model's digest, for the record.
    """

    def __init__(
        self,
        *,
        vocab: Vocab,
        prompter: Prompter,
        form: CallFormat,
        context_tokens: int,
        sha256: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vocab = vocab
        self._prompter = prompter
        self._form = form
        self._context_tokens = context_tokens
        self._sha256 = sha256
        self._monotonic = monotonic
        markers = {vocab.specials[text].token for text in form.markers if text in vocab.specials}
        banned = vocab.control - vocab.end_tokens - markers
        self._banned = np.array(sorted(banned), dtype=np.int64)
        self._forcing = Forcing(vocab, form.markers)

    def prompt(self, request: Generation) -> list[int]:
        """The tokens of a request's prompt.

        Raises:
            TemplateError: the chat template refuses the conversation.
        """
        return self._prompter.tokens(*self._form.prepare(request.messages, request.tools))

    def answer(self, request: Generation) -> Answer:
        """What is to be generated, ready to begin.

        Raises:
            ContextOverflowError, GrammarError, TemplateError.
        """
        started = self._monotonic()
        prompt = self.prompt(request)
        self._check_size(len(prompt))
        grammar = self._vocab.grammar(self._form.grammar(request.tools, request.tool_choice))
        return Answer(
            request,
            prompt,
            vocab=self._vocab,
            form=self._form,
            grammar=grammar,
            sampler=Sampler(request.sampling, grammar, self._banned),
            forcing=self._forcing,
            room=min(request.sampling.max_tokens, self._context_tokens - len(prompt)),
            origin=_Origin(self._sha256, started, self._monotonic),
        )

    def _check_size(self, tokens: int) -> None:
        if tokens >= self._context_tokens:
            raise ContextOverflowError(
                f"the prompt has {tokens} tokens; this model's context holds "
                f"{self._context_tokens}, one of them for the answer",
                hint="Shorten the conversation or the tools' descriptions, or use a larger model.",
            )


@dataclass(frozen=True)
class _Origin:
    """Whose weights, and since when."""

    sha256: str
    started: float
    monotonic: Callable[[], float]


class Answer:
    """A generation's text as it is made. `take` is asked by the scheduler until it gives none."""

    def __init__(
        self,
        request: Generation,
        prompt: list[int],
        *,
        vocab: Vocab,
        form: CallFormat,
        grammar: Grammar,
        sampler: Sampler,
        forcing: Forcing,
        room: int,
        origin: _Origin,
    ) -> None:
        self.request = request
        self.prompt = prompt
        self.room = room
        self._vocab = vocab
        self._grammar = grammar
        self._sampler = sampler
        self._forcing = forcing
        self._origin = origin
        self._pieces: list[str] = []
        self._output = Output(form, request, self._pieces.append)
        self._reason: FinishReason = "length"
        self._end = min(vocab.end_tokens, default=-1)

    def take(self, logits: Logits) -> list[int]:
        """Draws a token; it and those that must follow it, or none at the end.

        Raises:
            InferenceError: the grammar leaves no token.
        """
        token = self._sampler.draw(logits)
        if token is None:
            raise InferenceError(
                "the model has no token that the grammar allows",
                hint="Its weights may be damaged: `freehold model verify` checks them.",
            )
        if token in self._vocab.end_tokens:
            self._reason = "stop"
            return []
        if self._accept(token):
            return []
        tokens = [token]
        if self._output.in_call:
            left = self.room - self._output.tokens
            for forced in self._forcing.after(self._grammar, left - 1):
                if self._accept(forced):
                    return []
                tokens.append(forced)
        return tokens

    def text(self) -> str:
        """What has come since the last time."""
        text = "".join(self._pieces)
        self._pieces.clear()
        return text

    def finish(self, cached: int) -> Finish:
        """The end, `cached` tokens of the prompt not having been evaluated."""
        self._output.close()
        parsed = self._output.parsed(self._reason)
        return Finish(
            reason="tool_calls" if parsed.tool_calls else self._reason,
            text=parsed.text,
            raw=self._output.raw,
            tool_calls=parsed.tool_calls,
            prompt_tokens=len(self.prompt),
            completion_tokens=self._output.tokens,
            seconds=self._origin.monotonic() - self._origin.started,
            malformed=parsed.malformed,
            prompt_tokens_cached=cached,
            sampling=self.request.sampling,
            model_sha256=self._origin.sha256,
        )

    def close(self) -> None:
        """Gives native memory back."""
        self._grammar.close()

    def _accept(self, token: int) -> bool:
        """Takes a token; True when it was the last."""
        self._grammar.accept(token)
        stopped = self._output.push(self._vocab.piece(token))
        if stopped or (self._output.in_call and self._end >= 0 and self._grammar.allows(self._end)):
            self._reason = "stop"
            return True
        return self._output.tokens >= self.room


class Output:
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
