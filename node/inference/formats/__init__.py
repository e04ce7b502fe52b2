"""How families of models write tool calls and thoughts: one class a family, one file a notation.

A family is recognised from the chat template's own text, and from the special tokens of the
vocabulary where the template says nothing. An engine does, for each generation:

    prompt = prompter.prompt(request.messages, request.tools)
    asked = Asked(request.tools, request.tool_choice, many, prompt.thinking, request.answer_schema)
    grammar = form.grammar(asked)            # needed where tools or a schema are given
    reader = form.reader(asked, stop)        # push each token's text; stop where reader.done
    shown, parsed = reader.close(cut=...)

The grammar covers thoughts, text and calls at once, so nothing is switched on at a trigger.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from node.inference.formats.base import (
    Asked,
    CallFormat,
    Choice,
    Parsed,
    Reader,
    Shown,
    State,
    parse,
)
from node.inference.formats.deepseek import DeepSeek, DeepSeekFenced
from node.inference.formats.gemma import FunctionGemma, Gemma4
from node.inference.formats.generic import Fenced, Generic
from node.inference.formats.harmony import Harmony
from node.inference.formats.hermes import Hermes
from node.inference.formats.llama import Llama
from node.inference.formats.marked import THINK, Marked
from node.inference.formats.mistral import Mistral, MistralList
from node.inference.formats.xml import Glm, QwenCoder

Holds = Callable[[str], bool]

# The first that fits is taken: what only one family writes comes before what several do.
_FAMILIES: Final[tuple[tuple[Callable[[Holds], bool], CallFormat], ...]] = (
    (lambda has: has("<|channel|>") and has("<|message|>"), Harmony()),
    (lambda has: has("<|tool_call>"), Gemma4()),
    (lambda has: has("<start_function_call>"), FunctionGemma()),
    (lambda has: has("<｜tool▁calls▁begin｜>") and has("```json"), DeepSeekFenced()),
    (lambda has: has("<｜tool▁calls▁begin｜>"), DeepSeek()),
    (lambda has: has("[TOOL_CALLS]") and has("[CALL_ID]"), Mistral(ids=True)),
    (lambda has: has("[TOOL_CALLS]") and has("[ARGS]"), Mistral()),
    (lambda has: has("[TOOL_CALLS]"), MistralList()),
    (lambda has: has("<tool_call>") and has("<arg_key>"), Glm()),
    (lambda has: has("<tool_call>") and has("<function="), QwenCoder()),
    (lambda has: has("<tool_call>"), Hermes()),
    (lambda has: has("<|python_tag|>"), Llama()),
)
# Templates that say nothing of tools: how the models behind these turns were taught to write JSON.
_TURNS: Final[tuple[tuple[Callable[[Holds], bool], CallFormat], ...]] = (
    (lambda has: has("<start_of_turn>"), Fenced()),
    (lambda has: has("<|start_header_id|>") and has('"parameters"'), Llama()),
)
_THOUGHTS: Final = (THINK, ("[THINK]", "[/THINK]"), ("<|channel>thought\n", "<channel|>"))


def recognise(template: str, specials: Collection[str] = ()) -> CallFormat:
    """The format of the model with this chat template and these special tokens."""
    in_template = template.__contains__
    in_vocabulary = frozenset(specials).__contains__
    for families, has in (
        (_FAMILIES, in_template),
        (_TURNS, in_template),
        (_FAMILIES, in_vocabulary),
    ):
        for fits, form in families:
            if fits(has):
                return _with_thoughts(form, lambda mark: mark in template or in_vocabulary(mark))
    return _with_thoughts(Generic(), lambda mark: mark in template or in_vocabulary(mark))


def _with_thoughts(form: CallFormat, has: Holds) -> CallFormat:
    if not isinstance(form, Marked):
        return form
    thought = next((pair for pair in _THOUGHTS if has(pair[1])), None)
    return replace(form, thought=thought)


__all__ = [
    "Asked",
    "CallFormat",
    "Choice",
    "Parsed",
    "Reader",
    "Shown",
    "State",
    "parse",
    "recognise",
]
