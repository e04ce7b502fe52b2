"""One answer out of a stream of OpenAI's chunks, or out of a whole reply.

Nothing a server sends is believed: every field is checked for its kind, counts of tokens for being
possible, and calls are judged by `calls`. Reasoning, whether in a field of its own
(`reasoning_content`, `reasoning`) or in front of the answer (`answer`), never becomes part of it.

Spec: OpenAI API reference, "Streaming".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from node.errors import RemoteError
from node.inference.grammar.fits import answer_fault
from node.inference.grammar.gbnf import dumps
from node.inference.remote.answer import Answer
from node.inference.remote.calls import MAX_CALLS, read_calls
from node.inference.remote.errors import Conceal, server_error
from node.inference.remote.request import STOPS_SENT
from node.inference.types import Finish, FinishReason, Generation, Token, ToolCall
from node.types import Json, JsonObject

T = TypeVar("T")
_LONGEST_NAME: Final = 1000
_CUT: Final = ("length", "model_length")  # the second is Mistral's
_FAILED: Final = ("error", "abort", "insufficient_system_resource")  # vLLM's, SGLang's, DeepSeek's
_HINT: Final = "The server does not keep to the OpenAI API; look at its log, or use another."


@dataclass
class _Call:
    number: str
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass
class Reply:
    """One answer as it comes in. `who` names the server in errors.

    Attributes:
        heard: deltas so far that brought something: text, reasoning, or a piece of a call.
        ended: the reason that the server gave for the end; None before it.
    """

    request: Generation
    who: str
    conceal: Conceal = str
    heard: int = 0
    ended: str | None = None
    usage: JsonObject | None = None
    _thoughts: list[str] = field(default_factory=list)
    _reasoned: list[str] = field(default_factory=list)
    _calls: list[_Call] = field(default_factory=list)
    _by_index: dict[int, _Call] = field(default_factory=dict)
    _answer: Answer = field(init=False)

    def __post_init__(self) -> None:
        self._answer = Answer(self.request.sampling.stop[STOPS_SENT:])

    def add(self, chunk: JsonObject, part: str = "delta") -> Token:
        """Takes one chunk in; what of the answer and of the thoughts before it may be shown now.

        Raises:
            RemoteError: it is an error of the server, or no chunk.
            ContextOverflowError: the server says that the prompt does not fit.
        """
        bare = "choices" not in chunk and isinstance(chunk.get("message"), str)  # as llama-server
        if chunk.get("error") is not None or bare:
            raise server_error(self.who, chunk, conceal=self.conceal)
        usage = self._of(chunk, "usage", dict)
        self.usage = usage if usage is not None else self.usage
        choices = self._of(chunk, "choices", list) or []
        if not choices:
            return Token("")
        choice = choices[0]
        if not isinstance(choice, dict):
            raise self._error("a choice that is not an object")
        delta = self._of(choice, part, dict) or {}
        token = self._take(delta)
        self.ended = self._of(choice, "finish_reason", str) or self.ended
        return token

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string that the server was not told of has come."""
        return self._answer.stopped

    def rest(self) -> Token:
        """What was held back, once, at the end."""
        token = self._answer.end()
        self._reasoned.append(token.reasoning)
        return token

    def finish(self, *, seconds: float, prompt_estimate: int, context_tokens: int) -> Finish:
        """The whole. Call it after `rest`.

        Args:
            prompt_estimate: prompt tokens, where the server does not say.

        Raises:
            RemoteError: the server failed, or its filter cut the answer.
        """
        self._check_end()
        prompt, made, estimated = self._tokens(prompt_estimate, context_tokens)
        text = self._answer.text.strip()
        cut = self.ended in _CUT
        calls, malformed = self._judged(text, made, cut=cut)
        reason: FinishReason = "length" if cut else "tool_calls" if calls else "stop"
        return Finish(
            reason=reason,
            text="" if malformed else text,
            raw=text + "".join(_as_text(call) for call in self._calls),
            tool_calls=calls,
            prompt_tokens=prompt,
            completion_tokens=made,
            seconds=seconds,
            malformed=malformed,
            prompt_tokens_cached=min(prompt, self._cached()),
            sampling=self.request.sampling,
            estimated=estimated,
            reasoning=self._reasoning,
            reasoning_tokens=self._reasoning_tokens(made),
        )

    def _check_end(self) -> None:
        if self.ended in _FAILED:
            raise RemoteError(f"{self.who} failed in the middle of its answer", hint=_HINT)
        if self.ended == "content_filter":
            raise RemoteError(
                f"{self.who} withheld the answer: its filter objected",
                hint="Ask in other words, or use a model of your own.",
            )

    def _judged(
        self, text: str, made: int, *, cut: bool
    ) -> tuple[tuple[ToolCall, ...], str | None]:
        """The calls, and what is wrong with them or with the answer, of `made` tokens."""
        written = [(call.name, call.arguments) for call in self._calls]
        if cut and written:
            return (), f"the tool call was cut off after {made} tokens"
        calls, malformed = read_calls(self.request, written)
        if not (malformed or written or cut) and self.request.answer_schema is not None:
            malformed = answer_fault(self.request.answer_schema, text)
        return calls, malformed

    @property
    def _reasoning(self) -> str:
        return "".join(self._reasoned).strip()

    def _take(self, delta: JsonObject) -> Token:
        thoughts = [self._of(delta, key, str) for key in ("reasoning_content", "reasoning")]
        thought = next((text for text in thoughts if text), "")
        text = self._of(delta, "content", str) or self._of(delta, "refusal", str) or ""
        calls = self._of(delta, "tool_calls", list) or []
        for call in calls:
            self._take_call(call)
        self.heard += bool(thought or text or calls)
        if thought:
            self._answer.closing = ()  # the server tells them apart
            self._thoughts.append(thought)
        token = self._answer.add(text)
        self._reasoned.append(thought + token.reasoning)
        return Token(token.text, reasoning=self._reasoned[-1])

    def _take_call(self, piece: Any) -> None:
        if not isinstance(piece, dict):
            raise self._error("a tool call that is not an object")
        function = self._of(piece, "function", dict) or {}
        name = self._of(function, "name", str) or ""
        call = self._call(self._of(piece, "index", int), self._of(piece, "id", str) or "", name)
        if name != call.name:  # some repeat it in every piece
            call.name += name
            if len(call.name) > _LONGEST_NAME:
                raise self._error(f"the name of a function of over {_LONGEST_NAME} characters")
        call.pieces.append(self._of(function, "arguments", str) or "")

    def _call(self, index: int | None, number: str, name: str) -> _Call:
        """The call that a piece belongs to. Its index says so; but some servers number every call
        0 or not at all, and then another id, or a name, begins another call. A name at an index
        that is new does, whatever its id: some servers give all calls one id."""
        last = self._calls[-1] if self._calls and not name else None
        known = last if index is None else self._by_index.get(index)
        begins = bool(name) and index is not None and known is None
        if number and not begins and (known is None or known.number not in ("", number)):
            known = next((call for call in self._calls if call.number == number), None)
        if known is None:
            if len(self._calls) >= MAX_CALLS:
                raise self._error(f"more than {MAX_CALLS} tool calls")
            known = _Call(number)
            self._calls.append(known)
        if index is not None:
            self._by_index[index] = known
        return known

    def _tokens(self, prompt_estimate: int, context_tokens: int) -> tuple[int, int, bool]:
        """Prompt and completion tokens, and whether they are estimates.

        A server that says nothing, or what cannot be, is not believed: a token has at least one
        byte, and no more of them are made than were asked for.
        """
        most = self.request.sampling.max_tokens
        said = self.usage or {}
        prompt, made = _natural(said.get("prompt_tokens")), _natural(said.get("completion_tokens"))
        size = self._size()
        if 0 < prompt <= context_tokens and min(1, size) <= made <= most:
            return prompt, made, False
        return prompt_estimate, min(most, size), True

    def _size(self) -> int:
        """Bytes of output, thoughts and calls included."""
        texts = [*self._thoughts, *(call.name + call.arguments for call in self._calls)]
        return self._answer.bytes + sum(len(text.encode()) for text in texts)

    def _reasoning_tokens(self, made: int) -> int:
        """As the server says; else the thoughts' share of the output."""
        details = (self.usage or {}).get("completion_tokens_details")
        told = _natural(details.get("reasoning_tokens")) if isinstance(details, dict) else -1
        share = made * len(self._reasoning.encode()) // max(1, self._size())
        return min(made, share if told < 0 else told)

    def _cached(self) -> int:
        details = (self.usage or {}).get("prompt_tokens_details")
        return max(0, _natural(details.get("cached_tokens"))) if isinstance(details, dict) else 0

    def _of(self, value: JsonObject, key: str, kind: type[T]) -> T | None:
        """The value at `key`; None where it is missing or null."""
        found = value.get(key)
        if found is None:
            return None
        if type(found) is not kind:
            raise self._error(f"a {key} that is not a {kind.__name__}")
        return found

    def _error(self, what: str) -> RemoteError:
        return RemoteError(f"{self.who} sent {what}", hint=_HINT)


def _natural(value: Json) -> int:
    """A count, or -1 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _as_text(call: _Call) -> str:
    return f'<tool_call>{{"name": {dumps(call.name)}, "arguments": {call.arguments}}}</tool_call>'
