"""Conversations to ids, with the places whose token the loss looks at."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2
from marks import MARKED, label
from tokenizer import Tokenizer

FIRST, NAMED = 4, 4
TEMPLATE = Path(__file__).with_name("template.jinja").read_text()

_CALL = re.compile(r'(?<=<tool_call>)(\{"name": .*)(?=</tool_call>)')


def _tojson(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class Encoder:
    """Renders by the model's own chat template and finds the assistant's tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = _tojson
        self.template = environment.from_string(TEMPLATE)
        self.tokenizer = tokenizer
        self._start = tokenizer.encode("<|im_start|>assistant\n")
        self._call = tokenizer.encode('<tool_call>{"name": "')
        self._end = tokenizer.ids["<|im_end|>"]

    def render(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], prompt: bool = False
    ) -> str:
        """The text the model sees."""
        return self.template.render(messages=messages, tools=tools, add_generation_prompt=prompt)

    def beginning(self, ids: list[int]) -> int:
        """How many of the ids are the system's message with its functions."""
        return ids.index(self._end) + 1

    def encode(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]
    ) -> tuple[list[int], list[int]]:
        """Ids, and the places of those the assistant has to say: see `marked`."""
        return self.marked(messages, tools)[:2]

    def marked(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]
    ) -> tuple[list[int], list[int], list[tuple[int, int]]]:
        """Ids, places of those the assistant has to say (its end of turn among them), and marks:
        places with the token that stands for what has to be known there.

        A turn's first place is named FIRST times: there it decides to call or to answer. The
        first place of a function's name is named NAMED times: there it decides which one.
        """
        ids: list[int] = []
        marks: list[tuple[int, int]] = []
        for part in _CALL.split(self.render(messages, tools)):
            if part.startswith('{"name": '):
                ids += self.tokenizer.encode_json(part)
                continue
            for piece in MARKED.split(part):
                if MARKED.fullmatch(piece):
                    marks.append((len(ids), label(piece)))
                else:
                    ids += self.tokenizer.encode(piece)
        start, size = self._start, len(self._start)
        places: list[int] = []
        speaking = False
        for at in range(size, len(ids)):
            if not speaking and ids[at - size] == start[0] and ids[at - size : at] == start:
                speaking = True
                places += [at] * (FIRST - 1)
            if speaking:
                places.append(at)
                if ids[at - len(self._call) : at] == self._call:
                    places += [at] * (NAMED - 1)
                speaking = ids[at] != self._end
        return ids, places, marks
