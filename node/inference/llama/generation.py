"""One generation: from a request to a prompt, from logits to text, call and finish.

`Preparer` is what takes time before the first token (template, tokens, grammar), and runs beside
the decoding of others. `Answer` is what the scheduler asks for the next tokens.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable
from dataclasses import dataclass

from node.errors import ContextOverflowError, InferenceError, TemplateError
from node.inference.formats import Asked, CallFormat, Reader
from node.inference.llama.forced import Forcing
from node.inference.llama.sampler import Logits, Sampler
from node.inference.llama.vocab import Grammar, Vocab
from node.inference.prompts.prompt import Prompter
from node.inference.types import Finish, FinishReason, Generation


class Preparer:
    """Makes answers of requests, for one model. One thread's.

    Args:
        context_tokens: what a prompt and its answer must fit.
        sha256: the model's digest, for the record.

    Attributes:
        banned: tokens that no answer may hold: markup that is not of its format.
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
        self.banned = vocab.control - vocab.end_tokens - markers
        self._forcing = Forcing(vocab, form.markers)

    def count(self, request: Generation) -> int:
        """Tokens of a request's prompt.

        Raises:
            TemplateError: the chat template refuses the conversation.
        """
        return len(self._prompter.prompt(request.messages, request.tools).tokens)

    def answer(self, request: Generation) -> Answer:
        """What is to be generated, ready to begin.

        Raises:
            ContextOverflowError, GrammarError, TemplateError.
            InferenceError: no tokens are asked for.
        """
        started = self._monotonic()
        if request.sampling.max_tokens < 1:
            raise InferenceError(
                "an answer of no tokens was asked for", hint="Ask for one or more."
            )
        prompt = self._prompter.prompt(request.messages, request.tools)
        self._check_size(len(prompt.tokens))
        many = request.parallel_tool_calls
        asked = Asked(
            request.tools, request.tool_choice, many, prompt.thinking, request.answer_schema
        )
        grammar = self._grammar(request, asked)
        return Answer(
            request,
            prompt.tokens,
            vocab=self._vocab,
            reader=self._form.reader(asked, request.sampling.stop),
            grammar=grammar,
            sampler=Sampler(request.sampling, grammar),
            forcing=self._forcing,
            room=min(request.sampling.max_tokens, self._context_tokens - len(prompt.tokens)),
            origin=_Origin(self._sha256, started, self._monotonic),
        )

    def _grammar(self, request: Generation, asked: Asked) -> Grammar | None:
        """None where nothing is asked of the form: a grammar costs some time at every token."""
        needed = request.tools or request.tool_choice == "required" or asked.answer is not None
        if not needed:
            return None
        text = self._form.grammar(asked)  # refuses what cannot be expressed in any case
        return self._vocab.grammar(text) if request.constrained else None

    def _check_size(self, tokens: int) -> None:
        if not tokens:
            raise TemplateError(
                "the chat template makes an empty prompt of this conversation",
                hint="Begin with a user message.",
            )
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
        reader: Reader,
        grammar: Grammar | None,
        sampler: Sampler,
        forcing: Forcing,
        room: int,
        origin: _Origin,
    ) -> None:
        self.request = request
        self.prompt = prompt
        self.room = room
        self._vocab = vocab
        self._reader = reader
        self._grammar = grammar
        self._sampler = sampler
        self._forcing = forcing
        self._origin = origin
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._raw: list[str] = []
        self._shown = self._thought = ""  # since the last time
        self._made = 0
        self._reason: FinishReason = "length"

    def take(self, logits: Logits, best: int) -> list[int]:
        """Draws a token; it and those that must follow it, or none at the end.

        Raises:
            InferenceError: the grammar leaves no token.
        """
        token = self._sampler.draw(logits, best)
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
        return [token] if self._grammar is None else [token, *self._follow(self._grammar)]

    def _follow(self, grammar: Grammar) -> list[int]:
        """Tokens that the grammar forces. Outside of calls it forces none, and is not asked."""
        if self._reader.state != "call":
            return []
        forced = self._forcing.after(grammar, self.room - self._made - 1)
        for token in forced:
            self._accept(token)
        return forced

    def text(self) -> tuple[str, str]:
        """What has come since the last time: of the answer, and of the thought before it."""
        shown = self._shown, self._thought
        self._shown = self._thought = ""
        return shown

    def finish(self, cached: int) -> Finish:
        """The end, `cached` tokens of the prompt not having been evaluated."""
        rest = self._decoder.decode(b"", final=True)
        if rest:
            self._read(rest)
        shown, parsed = self._reader.close(cut=self._reason == "length")
        self._shown += shown.text
        self._thought += shown.reasoning
        return Finish(
            reason="tool_calls" if parsed.tool_calls else self._reason,
            text=parsed.text,
            raw="".join(self._raw),
            tool_calls=parsed.tool_calls,
            prompt_tokens=len(self.prompt),
            completion_tokens=self._made,
            seconds=self._origin.monotonic() - self._origin.started,
            malformed=parsed.malformed,
            prompt_tokens_cached=cached,
            sampling=self.request.sampling,
            model_sha256=self._origin.sha256,
            reasoning=parsed.reasoning,
            reasoning_tokens=min(self._made, self._reader.reasoning_tokens),
        )

    def close(self) -> None:
        """Gives native memory back."""
        if self._grammar is not None:
            self._grammar.close()

    def _accept(self, token: int) -> bool:
        """Takes a token; True when it was the last."""
        if self._grammar is not None:
            self._grammar.accept(token)
        self._made += 1
        self._read(self._decoder.decode(self._vocab.piece(token)))
        if self._reader.done or (self._grammar is not None and self._complete(self._grammar)):
            self._reason = "stop"
            return True
        return self._made >= self.room

    def _complete(self, grammar: Grammar) -> bool:
        """Whether it is a call to which nothing can be added."""
        return self._reader.state == "call" and self._forcing.at_end(grammar)

    def _read(self, text: str) -> None:
        self._raw.append(text)
        shown, thought = self._reader.push(text)
        self._shown += shown
        self._thought += thought
