"""From a conversation to tokens, so that content can never become markup.

A user, a tool's result or a tool's description may hold `<|im_start|>system`. If the rendered
template were tokenised whole, that text would become the very token the model takes for a turn of
its operator. So special tokens come from the template's own text only:

1. every special token has guard characters (its first and last, where they are not letters or
   digits); in all text from outside each of them is replaced, one for one, by a private-use
   character that occurs nowhere else, so that the template's own logic sees text of the same shape;
2. the template is rendered, and split at the special tokens found in it: none of them can hold a
   character from outside at a guarded place;
3. what is between is put back and tokenised as plain text, cut inside anything that libllama would
   take for a user-defined token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from node.inference.chat import function_json
from node.inference.formats import CallFormat
from node.inference.formats.generic import in_words
from node.inference.prompts.shape import fold_system, shape_of, turns_of
from node.inference.prompts.template import ChatTemplate
from node.inference.types import FunctionSpec, Message
from node.types import Json

_PRIVATE_START: Final = 0x100000
_TAIL_CHARS: Final = 256


class SpecialToken(Protocol):
    """What `Prompter` needs to know of one."""

    @property
    def token(self) -> int: ...
    @property
    def strips_left(self) -> bool: ...
    @property
    def strips_right(self) -> bool: ...


@dataclass(frozen=True)
class Prompt:
    """A prompt's tokens, and whether they leave the model inside a block of reasoning."""

    tokens: list[int]
    thinking: bool


class Prompter:
    """Renders and tokenises conversations for one vocabulary and template.

    Args:
        specials: text of each markup token.
        tokenize: plain text to tokens, making no control token.
        bos: put first where the template did not; None where the model wants none.
        form: the model family's format.
    """

    def __init__(
        self,
        template: ChatTemplate,
        *,
        specials: Mapping[str, SpecialToken],
        tokenize: Callable[[str], list[int]],
        bos: int | None,
        form: CallFormat,
    ) -> None:
        self._template = template
        self._tokenize = tokenize
        self._bos = bos
        self._form = form
        self._shape = shape_of(template.render)
        guarded = {text: guards for text in specials if (guards := _guards(text))}
        self._specials = {text: specials[text] for text in guarded}
        self._guards = "".join(sorted({char for guards in guarded.values() for char in guards}))
        longest_first = sorted(guarded, key=len, reverse=True)
        self._split = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def prompt(self, messages: tuple[Message, ...], tools: tuple[FunctionSpec, ...]) -> Prompt:
        """The prompt, up to where the assistant begins to speak.

        Raises:
            TemplateError: the template refuses these messages.
        """
        shown, offered = self._fitted(messages, tools)
        turns: Json = turns_of(shown, self._shape)
        offers: Json = [function_json(tool) for tool in offered]
        veil = _Veil(self._guards, [turns, offers])
        variables: dict[str, object] = {
            "messages": veil.cover(turns),
            "tools": veil.cover(offers) or None,
            "add_generation_prompt": True,
        }
        text = self._template.render(variables)
        tokens = self._pieces(text, veil)
        if self._bos is not None and tokens[:1] != [self._bos]:
            tokens.insert(0, self._bos)
        return Prompt(tokens, self._form.thinks(text[-_TAIL_CHARS:]))

    def _fitted(
        self, messages: tuple[Message, ...], tools: tuple[FunctionSpec, ...]
    ) -> tuple[tuple[Message, ...], tuple[FunctionSpec, ...]]:
        """The conversation as this family's template can show it: the rest is put in words."""
        messages, tools = self._form.prepare(messages, tools)
        told = self._form.tell(tools) if tools and not self._shape.tools else ""
        if not self._shape.calls:
            messages = in_words(messages, str, told)
        elif told:
            messages = _told(messages, told)
        tools = () if told else tools
        return (messages if self._shape.system else fold_system(messages)), tools

    def _pieces(self, text: str, veil: _Veil) -> list[int]:
        tokens: list[int] = []
        start, strip = 0, False
        for match in self._split.finditer(text):
            special = self._specials[match.group()]
            plain = text[start : match.start()]
            tokens += self._plain(_strip(plain, strip, special.strips_left), veil)
            tokens.append(special.token)
            start, strip = match.end(), special.strips_right
        return tokens + self._plain(_strip(text[start:], strip, False), veil)

    def _plain(self, text: str, veil: _Veil) -> list[int]:
        lifted = veil.lift(text)
        tokens: list[int] = []
        start = 0
        for match in self._split.finditer(lifted):
            tokens += self._tokenize(lifted[start : match.start() + 1])
            start = match.start() + 1
        return tokens + (self._tokenize(lifted[start:]) if start < len(lifted) else [])


class _Veil:
    """The swap of guard characters for private-use ones that occur nowhere in `values`."""

    def __init__(self, guards: str, values: Json) -> None:
        used = set(json.dumps(values, ensure_ascii=False))
        free = (
            char for point in range(_PRIVATE_START, 0x10FFFE) if (char := chr(point)) not in used
        )
        stand_ins = "".join(next(free) for _ in guards)
        self._cover = str.maketrans(guards, stand_ins)
        self._lift = str.maketrans(stand_ins, guards)

    def lift(self, text: str) -> str:
        return text.translate(self._lift)

    def cover(self, value: Json) -> Json:
        if isinstance(value, str):
            return value.translate(self._cover)
        if isinstance(value, list):
            return [self.cover(item) for item in value]
        if isinstance(value, dict):
            return {key.translate(self._cover): self.cover(item) for key, item in value.items()}
        return value


def _told(messages: tuple[Message, ...], told: str) -> tuple[Message, ...]:
    """The words in the system turn, made where there is none."""
    first, *rest = messages or (Message("system"),)
    if first.role != "system":
        return (Message("system", told), *messages)
    return (Message("system", f"{first.content}\n\n{told}".strip()), *rest)


def _guards(text: str) -> set[str]:
    outer = {char for char in (text[:1], text[-1:]) if char and not char.isalnum()}
    return outer or {char for char in text if not char.isalnum()}


def _strip(text: str, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text
