"""Each family by a tiny model of its tokens and template: what it is shown, writes and means."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.errors import GrammarError
from node.inference import FunctionSpec, Message, ToolCall, recognise
from node.inference.formats import Asked, CallFormat, Choice, Parsed, parse
from node.inference.prompts.prompt import Prompter
from node.inference.prompts.template import ChatTemplate
from node.inference.testing.families import FAMILIES, Language
from node.inference.testing.gguf import CONTROL, PLAIN_TEMPLATE, TinyModel, write_tiny_gguf
from node.types import JsonObject

native = pytest.importorskip("node.inference.llama.native")
EXAMPLES = int(os.environ.get("FREEHOLD_TEST_EXAMPLES", "15"))
bounded = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
every_family = pytest.mark.parametrize("name", list(FAMILIES))

WEATHER: JsonObject = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "parts": {"type": "array", "items": {"enum": ["wind", "rain"]}, "maxItems": 3},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "near": {
            "type": "object",
            "properties": {"exact": {"type": "boolean"}, "of": {"type": ["string", "null"]}},
            "required": ["exact"],
            "additionalProperties": False,
        },
    },
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = (
    FunctionSpec("weather", "looks at the sky", WEATHER),
    FunctionSpec("now", "says the time", {"type": "object", "properties": {}}),
)
ROME = ToolCall("weather", {"city": 'Rome "old"\nand <new>', "days": 3})
NOW = ToolCall("now", {})
ASKED = Asked(TOOLS)


@dataclass
class Family:
    """One tiny model, and what is made for it."""

    path: Path

    @cached_property
    def vocab(self) -> Any:
        return self.model.vocab

    @cached_property
    def model(self) -> Any:
        return native.Model(str(self.path))

    @cached_property
    def form(self) -> CallFormat:
        return recognise(self.model.template(), self.vocab.specials)

    @cached_property
    def language(self) -> Language:
        return Language(self.vocab)

    @cached_property
    def prompter(self) -> Prompter:
        spec = FAMILIES[self.path.stem]
        texts = [text for text, _ in spec.specials]
        bos = next((text for text in texts if "bos" in text or "begin" in text), "<s>")
        template = ChatTemplate(
            self.model.template(), bos=bos, eos=spec.eos, wall=lambda: 0.0, deadline_s=20
        )
        return Prompter(
            template,
            specials=self.vocab.specials,
            tokenize=self.vocab.tokenize,
            bos=None,
            form=self.form,
        )

    def shown(self, *messages: Message, tools: tuple[FunctionSpec, ...] = TOOLS) -> str:
        tokens = self.prompter.prompt(messages, tools).tokens
        return b"".join(self.vocab.piece(token) for token in tokens).decode()


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    folder = tmp_path_factory.mktemp("families")
    made: dict[str, Family] = {}

    def get(name: str) -> Family:
        if name not in made:
            made[name] = Family(write_tiny_gguf(folder / f"{name}.gguf", FAMILIES[name]))
        return made[name]

    return get


Get = Callable[[str], Family]


# ── which family it is ──────────────────────────────────────────────────────────────────────


@every_family
def test_a_family_is_known_by_its_template(name: str, family: Get) -> None:
    assert family(name).form.name == name
    assert recognise(FAMILIES[name].template or "").name == name


@every_family
def test_a_family_is_known_by_its_tokens_where_the_template_says_nothing(name: str) -> None:
    specials = [text for text, _ in FAMILIES[name].specials]
    known = recognise(PLAIN_TEMPLATE, specials).name
    # without its template a family is known as far as its tokens tell it from the others
    nearest = {"qwen-coder": "hermes", "deepseek-fenced": "deepseek", "fenced": "generic"}
    with_ids = known == "mistral"
    assert known == nearest.get(name, name) or (with_ids and name == "mistral")


def test_thoughts_are_known_by_their_end() -> None:
    """Their beginning may be in no template but in the prompt that it makes of a variable."""
    assert "<think>" in recognise(f"{PLAIN_TEMPLATE}<tool_call></think>").markers


def test_the_template_goes_before_the_tokens() -> None:
    tokens = ["<|python_tag|>", "<|start_header_id|>"]
    assert recognise(FAMILIES["hermes"].template or "", tokens).name == "hermes"


# ── what the model is shown ─────────────────────────────────────────────────────────────────

SHOWN = {
    "hermes": '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>',
    "qwen-coder": (
        "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n"
        "</function>\n</tool_call>"
    ),
    "glm": (
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n</tool_call>"
    ),
    "llama": '{"name": "weather", "parameters": {"city": "Rome"}}<|eot_id|>',
    "mistral-list": (
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}, "id": "call00001"}'
    ),
    "mistral": '[TOOL_CALLS]weather[ARGS]{"city": "Rome"}',
    "fenced": '```tool_call\n{"name": "weather", "arguments": {"city": "Rome"}}\n```',
    "function-gemma": "<start_function_call>call:weather{city:<escape>Rome<escape>}",
    "gemma4": '<|tool_call>call:weather{city:<|"|>Rome<|"|>}<tool_call|>',
    "harmony": (
        "<|start|>assistant to=functions.weather<|channel|>commentary json<|message|>"
        '{"city": "Rome"}<|call|>'
    ),
    "deepseek-fenced": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n"
        '```json\n{"city": "Rome"}\n```<｜tool▁call▁end｜>'
    ),
    "deepseek": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>"
        '{"city": "Rome"}<｜tool▁call▁end｜>'
    ),
    "generic": '{"name": "weather", "arguments": {"city": "Rome"}}',
}
TURNS = (
    Message("system", "Be brief."),
    Message("user", "What is it like outside?"),
    Message("assistant", "", (ToolCall("weather", {"city": "Rome"}), NOW)),
    Message("tool", "It is sunny.", name="weather"),
    Message("tool", "It is noon.", name="now"),
)


@every_family
def test_a_conversation_is_shown_whole(name: str, family: Get) -> None:
    shown = family(name).shown(*TURNS)
    assert SHOWN[name] in shown
    for words in ("Be brief.", "What is it like outside?", "It is sunny.", "It is noon."):
        assert words in shown
    assert "weather" in shown
    assert "now" in shown
    assert "None" not in shown


@every_family
def test_the_system_turn_and_no_tools(name: str, family: Get) -> None:
    shown = family(name).shown(*TURNS[:2], tools=())
    assert "Be brief." in shown
    assert "weather" not in shown


def test_a_prompt_that_begins_a_thought_says_so(family: Get) -> None:
    asked = (Message("user", "Why?"),)
    assert family("deepseek-fenced").prompter.prompt(asked, ()).thinking
    assert not family("deepseek").prompter.prompt(asked, ()).thinking
    assert not family("hermes").prompter.prompt((Message("user", "<think>"),), ()).thinking


# ── content is never markup ─────────────────────────────────────────────────────────────────


@every_family
@bounded
@given(data=st.data())
def test_no_content_becomes_a_special_token(name: str, family: Get, data: st.DataObject) -> None:
    made = family(name)
    specials = {mark.token for mark in made.vocab.specials.values()}
    marks = [text for text, _ in FAMILIES[name].specials]
    nasty = st.lists(
        st.sampled_from([*marks, *(mark[:-1] for mark in marks), *"<>[]|｜", "\n"])
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
        max_size=6,
    ).map(" x".join)
    user, result, about, value = (f"x{data.draw(nasty)}x" for _ in range(4))

    def special(user: str, result: str, about: str, value: str) -> list[int]:
        messages = (
            Message("system", about),
            Message("user", user),
            Message("assistant", "", (ToolCall("weather", {"city": value}),)),
            Message("tool", result, name="weather"),
        )
        tools = (FunctionSpec("weather", about, {**WEATHER, "title": value}),)
        tokens = made.prompter.prompt(messages, tools).tokens
        return [token for token in tokens if token in specials]

    assert special(user, result, about, value) == special("u", "r", "a", "v")


# ── what the model writes ───────────────────────────────────────────────────────────────────

_CITY = r'{"city": "Rome \"old\"\nand <new>", "days": 3}'
TWO_CALLS = {
    "hermes": (
        f'<tool_call>\n{{"name": "weather", "arguments": {_CITY}}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    ),
    "qwen-coder": (
        '<tool_call>\n<function=weather>\n<parameter=city>\nRome "old"\nand <new>\n</parameter>\n'
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=now>\n</function>\n</tool_call>"
    ),
    "glm": (
        '<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome "old"\nand <new></arg_value>'
        "\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n"
        "<tool_call>now\n</tool_call>"
    ),
    "mistral-list": (
        f'[TOOL_CALLS][{{"name": "weather", "arguments": {_CITY}}}, '
        '{"name": "now", "arguments": {}, "id": "bbc5b7ede"}]'
    ),
    "mistral": f"[TOOL_CALLS]weather[ARGS]{_CITY}[TOOL_CALLS]now[ARGS]{{}}",
    "fenced": (
        f'```tool_call\n{{"name": "weather", "arguments": {_CITY}}}\n```\n'
        '```tool_call\n{"name": "now", "arguments": {}}\n```'
    ),
    "function-gemma": (
        '<start_function_call>call:weather{city:<escape>Rome "old"\nand <new><escape>,days:3}'
        "<end_function_call><start_function_call>call:now{}<end_function_call>"
        "<start_function_response>"
    ),
    "gemma4": (
        '<|tool_call>call:weather{city:<|"|>Rome "old"\nand <new><|"|>,days:3}<tool_call|>'
        "<|tool_call>call:now{}<tool_call|><|tool_response>"
    ),
    "deepseek-fenced": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n"
        f"```json\n{_CITY}\n```<｜tool▁call▁end｜>\n"
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n"
        "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
    "deepseek": (
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{_CITY}<｜tool▁call▁end｜>"
        "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
}
ONE_CALL = {
    "llama": [
        f'{{"name": "weather", "parameters": {_CITY}}}',
        f'<|python_tag|>{{"name":"weather","parameters":{_CITY}}}',
    ],
    "generic": [f'{{"name": "weather", "arguments": {_CITY}}}'],
    "harmony": [
        f"<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{_CITY}",
        f" to=functions.weather<|channel|>commentary json<|message|>{_CITY}",
        f"<|channel|>commentary to=functions.weather<|message|>{_CITY}",
    ],
}


@pytest.mark.parametrize("name", list(TWO_CALLS))
def test_several_calls_at_once(name: str, family: Get) -> None:
    form, holds, raw = family(name).form, family(name).language.holds, TWO_CALLS[name]
    assert parse(form, raw, ASKED) == Parsed(tool_calls=(ROME, NOW))
    assert holds(form.grammar(ASKED), raw)
    assert holds(form.grammar(Asked(TOOLS, "required")), raw)
    assert not holds(form.grammar(Asked(TOOLS, "none")), raw)
    assert not holds(form.grammar(Asked(TOOLS, many=False)), raw)
    with_text = f"I shall look.\n{raw}"
    assert parse(form, with_text, ASKED) == Parsed(text="I shall look.", tool_calls=(ROME, NOW))
    assert holds(form.grammar(ASKED), with_text)
    assert not holds(form.grammar(Asked(TOOLS, "required")), with_text)


@pytest.mark.parametrize(("name", "raw"), [(n, raw) for n in ONE_CALL for raw in ONE_CALL[n]])
def test_one_call(name: str, raw: str, family: Get) -> None:
    form, holds = family(name).form, family(name).language.holds
    assert parse(form, raw, ASKED) == Parsed(tool_calls=(ROME,))
    assert holds(form.grammar(ASKED), raw)
    assert holds(form.grammar(Asked(TOOLS, "required")), raw)
    assert not holds(form.grammar(Asked(TOOLS, "none")), raw)


@every_family
def test_plain_words(name: str, family: Get) -> None:
    form, holds = family(name).form, family(name).language.holds
    raw = ("<|channel|>final<|message|>" if name == "harmony" else "") + "It is <b>4</b> [sic]."
    for asked in (ASKED, Asked(TOOLS, "none"), Asked()):
        assert parse(form, raw, asked) == Parsed(text="It is <b>4</b> [sic].")
        assert holds(form.grammar(asked), raw)
    assert not holds(form.grammar(Asked(TOOLS, "required")), raw)


@every_family
def test_an_answer_of_a_schema(name: str, family: Get) -> None:
    form, holds = family(name).form, family(name).language.holds
    made = form.grammar(Asked(answer={"type": "array", "items": {"type": "integer"}}))
    before = "<|channel|>final<|message|>" if name == "harmony" else ""
    assert holds(made, before + "[1, 2]")
    assert not holds(made, before + "[1, x]")
    assert not holds(made, before + "one")


OBJECT: JsonObject = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}


@every_family
@pytest.mark.parametrize("text", ["weather", "</think>", "<tool_call>[TOOL_CALLS]<think>", "}"])
@pytest.mark.parametrize("size", [1, 3, 99])
def test_an_answer_in_json_is_no_call(name: str, text: str, size: int, family: Get) -> None:
    """Where functions are offered, too: what the grammar lets through as an answer is read so."""
    form, holds = family(name).form, family(name).language.holds
    asked = Asked(TOOLS, answer=OBJECT)
    before = "<|channel|>final<|message|>" if name == "harmony" else ""
    answer = f'{{"name": "{text}"}}'
    assert holds(form.grammar(asked), before + answer)
    reader = form.reader(asked)
    raw = before + answer
    shown = "".join(reader.push(raw[at : at + size]).text for at in range(0, len(raw), size))
    rest, parsed = reader.close()
    assert parsed == Parsed(text=answer)
    assert shown + rest.text == answer


@every_family
def test_where_an_answer_is_json_a_call_is_a_call(name: str, family: Get) -> None:
    form, asked = family(name).form, Asked(TOOLS, answer=OBJECT)
    raw = f"\n{TWO_CALLS[name] if name in TWO_CALLS else ONE_CALL[name][0]}"
    assert parse(form, raw, asked).tool_calls[0] == ROME


# ── thoughts ────────────────────────────────────────────────────────────────────────────────

THOUGHT = {
    "hermes": ("<think>\n", "</think>\n\n"),
    "glm": ("<think>", "</think>\n"),
    "mistral": ("[THINK]", "[/THINK]"),
    "gemma4": ("<|channel>thought\n", "<channel|>"),
    "deepseek": ("<think>", "</think>\n"),
    "deepseek-fenced": ("<think>", "</think>\n"),
    "harmony": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
}


@pytest.mark.parametrize("name", list(THOUGHT))
def test_thoughts_are_kept_apart(name: str, family: Get) -> None:
    form, holds = family(name).form, family(name).language.holds
    opening, closing = THOUGHT[name]
    said = "<|channel|>final<|message|>It is 4." if name == "harmony" else "It is 4."
    call = TWO_CALLS[name] if name in TWO_CALLS else ONE_CALL[name][0]
    calls = (ROME, NOW) if name in TWO_CALLS else (ROME,)
    thought = "2 and 2? I could say <b>."
    for rest, parsed in (
        (said, Parsed(text="It is 4.", reasoning=thought)),
        (call, Parsed(tool_calls=calls, reasoning=thought)),
    ):
        raw = opening + thought + closing + rest
        assert parse(form, raw, ASKED) == parsed
        assert holds(form.grammar(ASKED), raw)
        begun = Asked(TOOLS, thinking=True)
        assert parse(form, thought + closing + rest, begun) == parsed
        assert holds(form.grammar(begun), thought + closing + rest)
    assert holds(form.grammar(Asked(TOOLS, "required")), opening + thought + closing + call)
    assert holds(form.grammar(ASKED), said)
    assert not holds(form.grammar(ASKED), said + opening)


def test_a_template_s_end_is_the_model_s_own(tmp_path: Path) -> None:
    """And not another token that ends an answer, as text of no turns did before it was taught."""
    from node.inference.llama import loading

    specials = (("<|endoftext|>", CONTROL), ("<|im_end|>", CONTROL))
    tiny = TinyModel(template="{{ messages[0].content }}{{ eos_token }}", specials=specials)
    model = native.Model(str(write_tiny_gguf(tmp_path / "tiny.gguf", tiny)))
    form = recognise(tiny.template or "", model.vocab.specials)
    prompter = loading._prompter(model, tiny.template, form)
    assert prompter.prompt((Message("user", "a"),), ()).tokens == [ord("a"), 257]


@pytest.mark.parametrize("name", ["qwen-coder", "glm"])
def test_arguments_that_tags_cannot_be_made_for_are_refused(name: str, family: Get) -> None:
    """Else the function could be called with no arguments only, and each call would be wrong."""
    form = family(name).form

    def grammar(schema: JsonObject) -> str:
        return form.grammar(Asked((FunctionSpec("f", "", schema),)))

    for schema in (
        {"$ref": "#/$defs/own", "$defs": {"own": WEATHER}},
        {"anyOf": [WEATHER, {"type": "object", "properties": {"zip": {"type": "string"}}}]},
        {**WEATHER, "oneOf": [{"properties": {"zip": {"type": "string"}}}]},
        {**WEATHER, "oneOf": [{"anyOf": [{"$ref": "#/$defs/own"}]}], "$defs": {"own": WEATHER}},
    ):
        with pytest.raises(GrammarError, match=r"f: the schema at # holds .* cannot write"):
            grammar(schema)
    assert grammar({**WEATHER, "anyOf": [{"required": ["days"]}, {"required": ["unit"]}]})
    round_and_round: JsonObject = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/n"}]}
    assert grammar({"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": round_and_round}})


def test_a_text_that_would_end_its_tag_is_refused(family: Get) -> None:
    schema: JsonObject = {"type": "object", "properties": {"a": {"enum": ["x\n</parameter>"]}}}
    with pytest.raises(GrammarError, match=r"holds the text </parameter>"):
        family("qwen-coder").form.grammar(Asked((FunctionSpec("f", "", schema),)))


def test_an_argument_that_may_be_more_than_text_is_json(family: Get) -> None:
    either: JsonObject = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    tools = (FunctionSpec("f", "", {"type": "object", "properties": {"a": either}}),)
    for written, meant in (("3", 3), ('"3"', "3")):
        argument = f"<parameter=a>\n{written}\n</parameter>\n"
        raw = f"<tool_call>\n<function=f>\n{argument}</function>\n</tool_call>"
        parsed = parse(family("qwen-coder").form, raw, Asked(tools))
        assert parsed.tool_calls == (ToolCall("f", {"a": meant}),)


@pytest.mark.parametrize("name", list(THOUGHT))
def test_thoughts_are_shown_as_such_and_counted(name: str, family: Get) -> None:
    opening, closing = THOUGHT[name]
    said = "<|channel|>final<|message|>It is 4." if name == "harmony" else "It is 4."
    reader = family(name).form.reader(ASKED)
    shown = [reader.push(piece) for piece in (opening, "so ", "what", closing, said)]
    last, parsed = reader.close()
    assert "".join(one.text for one in [*shown, last]) == "It is 4."
    assert "".join(one.reasoning for one in [*shown, last]).strip() == "so what"
    assert reader.reasoning_tokens == 4
    assert parsed == Parsed(text="It is 4.", reasoning="so what")


@pytest.mark.parametrize("name", list(THOUGHT))
def test_a_thought_that_is_cut_off_is_no_answer(name: str, family: Get) -> None:
    reader = family(name).form.reader(ASKED)
    reader.push(THOUGHT[name][0] + "so what")
    assert reader.state == "reasoning"
    assert reader.close(cut=True)[1] == Parsed(reasoning="so what")


# ── streams ─────────────────────────────────────────────────────────────────────────────────


SECRET = {
    "hermes": ("<tool_call>", "<think>", "</think>"),
    "qwen-coder": ("<tool_call>",),
    "glm": ("<tool_call>", "<think>", "</think>"),
    "llama": ("<|python_tag|>",),
    "mistral-list": ("[TOOL_CALLS]",),
    "mistral": ("[TOOL_CALLS]", "[THINK]", "[/THINK]"),
    "fenced": ("```tool_call\n",),
    "function-gemma": ("<start_function_call>", "<start_function_response>"),
    "gemma4": ("<|tool_call>", "<channel|>", "<|tool_response>"),
    "harmony": ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"),
    "deepseek": ("<｜tool▁calls▁begin｜>", "<think>", "</think>"),
    "deepseek-fenced": ("<｜tool▁calls▁begin｜>", "<think>", "</think>"),
}


@every_family
@bounded
@given(data=st.data())
def test_whatever_is_written_is_read_the_same_in_pieces(
    name: str, family: Get, data: st.DataObject
) -> None:
    form = family(name).form
    calls = [TWO_CALLS[name]] if name in TWO_CALLS else ONE_CALL[name]
    marks = [text for text, _ in FAMILIES[name].specials]
    raw = data.draw(
        st.lists(
            st.sampled_from([*calls, *marks, *marks, "{", "}", '"', "Yes. ", "\n", "call:"])
            | st.text(max_size=4),
            max_size=8,
        ).map("".join)
    )
    asked = Asked(data.draw(st.sampled_from([TOOLS, ()])), thinking=data.draw(st.booleans()))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=12)) | {0, len(raw)})
    reader = form.reader(asked)
    shown = [reader.push(raw[start:end]) for start, end in pairwise(cuts)]
    last, parsed = reader.close()
    assert parsed == parse(form, raw, asked)
    assert not (parsed.tool_calls and parsed.malformed)
    text = "".join(one.text for one in [*shown, last])
    if asked.tools:
        for mark in SECRET.get(name, ()):
            assert mark not in text


@every_family
def test_half_a_mark_is_never_shown(name: str, family: Get) -> None:
    calls = TWO_CALLS[name] if name in TWO_CALLS else ONE_CALL[name][0]
    before = "" if name in ("llama", "generic", "harmony") else "Let me look.\n"
    reader = family(name).form.reader(ASKED)
    shown = "".join(reader.push(char).text for char in before + calls)
    assert shown == before
    last, parsed = reader.close()
    assert last.text == ""
    assert parsed.tool_calls
    assert parsed.malformed is None


@every_family
def test_stop_strings_end_text_and_not_calls(name: str, family: Get) -> None:
    form = family(name).form
    before = "<|channel|>final<|message|>" if name == "harmony" else ""
    reader = form.reader(ASKED, ("STOP", "Rome"))
    shown = "".join(reader.push(piece).text for piece in (before, "one S", "TO", "P two"))
    assert (shown, reader.done) == ("one ", True)
    assert reader.close()[1] == Parsed(text="one")
    reader = form.reader(ASKED, ("STOP", "Rome"))
    reader.push(TWO_CALLS[name] if name in TWO_CALLS else ONE_CALL[name][0])
    assert reader.close()[1].tool_calls[0] == ROME


@every_family
def test_a_call_that_is_cut_off_says_so(name: str, family: Get) -> None:
    raw = (TWO_CALLS[name] if name in TWO_CALLS else ONE_CALL[name][0])[:-30]
    reader = family(name).form.reader(ASKED)
    reader.push(raw)
    parsed = reader.close(cut=True)[1]
    assert parsed.tool_calls == ()
    assert parsed.malformed is not None
    assert "cut off after 1 tokens" in parsed.malformed


def test_a_model_that_waits_for_the_result_is_done(family: Get) -> None:
    reader = family("gemma4").form.reader(ASKED)
    marked = '<|tool_call>call:weather{city:<|"|><|tool_response><|"|>}<tool_call|>'
    for char in marked:
        reader.push(char)
    assert not reader.done
    reader.push("<|tool_response>")
    assert reader.done
    assert reader.close()[1].tool_calls == (ToolCall("weather", {"city": "<|tool_response>"}),)
    said = family("gemma4").form.reader(ASKED)
    assert (said.push("It is 4.<|tool_response>no").text, said.done) == ("It is 4.", True)
    assert said.close()[1] == Parsed(text="It is 4.")


def test_messages_without_their_whole_form_are_read(family: Get) -> None:
    """In harmony a header may follow a message at once, and text may begin like a header."""
    form = family("harmony").form
    raw = "<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Yes."
    assert parse(form, raw, ASKED) == Parsed(text="Yes.", reasoning="Hm.")
    reader, said = form.reader(ASKED), "assistant " + "x" * 400
    assert "".join(reader.push(char).text for char in said) == said


def test_what_is_said_before_the_answer_stands_apart_from_it(family: Get) -> None:
    reader = family("harmony").form.reader(ASKED)
    before = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
    pieces = (before, "<|channel|>final<|message|>", "Ye", "s.")
    shown = "".join(reader.push(piece).text for piece in pieces)
    assert shown == reader.close()[1].text == "I look.\n\nYes."


def coder(*parameters: str) -> str:
    written = "".join(f"<parameter={each}\n</parameter>\n" for each in parameters)
    return f"<tool_call>\n<function=weather>\n{written}</function>\n</tool_call>"


@pytest.mark.parametrize(
    ("name", "raw", "problem"),
    [
        ("qwen-coder", coder("days>\n3 4"), "must be one JSON value"),
        ("qwen-coder", coder("days>\n3", "days>\n4"), "is there twice"),
        ("gemma4", '<|tool_call>call:weather{city:"Rome"}<tool_call|>', "must stand between two"),
        ("gemma4", "<|tool_call>call:weather{days:3,days:4}<tool_call|>", "is there twice"),
        ("gemma4", "<|tool_call>call:weather{city:" + "[" * 100_000, "nested over 64 deep"),
        ("deepseek", "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>", "the tool calls"),
        ("mistral-list", "[TOOL_CALLS][]", "is empty"),
        ("mistral-list", '[TOOL_CALLS][{"name": "now", "arguments": {}}] so', "no text may follow"),
        ("harmony", "<|channel|>commentary to=functions.now<|message|>{} {}", "one JSON object"),
    ],
)
def test_a_malformed_call_of_each_notation_says_what_is_wrong(
    name: str, raw: str, problem: str, family: Get
) -> None:
    parsed = parse(family(name).form, raw, ASKED)
    assert (parsed.text, parsed.tool_calls) == ("", ())
    assert problem in str(parsed.malformed)


# ── every answer of the grammar can be read ─────────────────────────────────────────────────


class Wanderer:
    """Draws answers from a grammar: bytes of whole UTF-8 characters, and whole marks at a time."""

    def __init__(self, family: Family, grammar: str, seed: int) -> None:
        self._vocab = family.vocab
        self._end = min(family.vocab.end_tokens)
        self._marks = [text.encode() for text, _ in FAMILIES[family.path.stem].specials]
        self._marks += [b'"', b"}", b"\n</parameter>\n", b"</arg_value>\n", b"]"]
        self._random = np.random.default_rng(seed)
        self._matcher = family.vocab.grammar(grammar)
        self._written = bytearray()

    def answer(self, most: int = 1200) -> str | None:
        """None where it grows too long, or where only half a character could go on."""
        try:
            while len(self._written) < most:
                if self._random.random() < 0.5 and self._mark():
                    continue
                token = self._byte()
                if token is None:
                    return None
                if token == self._end:
                    return self._written.decode()
                self._matcher.accept(token)
                self._written.append(token)
            return None
        finally:
            self._matcher.close()

    def _mark(self) -> bool:
        """Writes a mark, if the grammar takes all of it."""
        mark = self._marks[self._random.integers(len(self._marks))]
        ahead = self._matcher.copy()
        for token in mark:
            if not ahead.allows(token):
                ahead.close()
                return False
            ahead.accept(token)
        self._matcher.close()
        self._matcher = ahead
        self._written += mark
        return True

    def _byte(self) -> int | None:
        logits = np.zeros(self._vocab.size, np.float32)
        logits[256:] = -np.inf
        logits[self._end] = 0
        self._matcher.mask(logits)
        allowed = [int(token) for token in np.flatnonzero(np.isfinite(logits))]
        fitting = [token for token in allowed if token == self._end or self._fits(token)]
        if self._end in fitting and self._random.random() < 0.5:
            return self._end
        return fitting[self._random.integers(len(fitting))] if fitting else None

    def _fits(self, token: int) -> bool:
        """Whether text so far and this byte begin a text: libllama would let others by."""
        try:
            codecs.getincrementaldecoder("utf-8")().decode(bytes([*self._written, token]))
        except UnicodeDecodeError:
            return False
        return True


def wander(family: Family, grammar: str, seed: int) -> str | None:
    return Wanderer(family, grammar, seed).answer()


@every_family
@pytest.mark.parametrize("choice", ["required", "auto", "none"])
def test_every_answer_of_the_grammar_is_read(name: str, choice: Choice, family: Get) -> None:
    made = family(name)
    calls = answers = 0
    for seed in range(max(3, EXAMPLES // 5)):
        asked = Asked(TOOLS, choice, thinking=bool(seed % 2) and name in THOUGHT)
        raw = wander(made, made.form.grammar(asked), seed)
        if raw is None:
            continue
        parsed = parse(made.form, raw, asked)
        assert parsed.malformed is None, raw
        for call in parsed.tool_calls:
            schema = next(tool.parameters for tool in TOOLS if tool.name == call.name)
            jsonschema.validate(call.arguments, schema)
        if choice != "auto":
            assert bool(parsed.tool_calls) is (choice == "required"), raw
        calls += len(parsed.tool_calls)
        answers += 1
    assert answers
    assert calls or choice != "required"


def test_only_so_many_grammars_are_kept(family: Get) -> None:
    vocab = family("hermes").vocab
    for number in (*range(20), 15):
        vocab.grammar(f'root ::= "{number}"').close()
    assert len(vocab._grammars) == 8
    assert list(vocab._grammars)[-1] == 'root ::= "15"'


def test_a_wandering_answer_can_be_wrong(family: Get) -> None:
    """The check above can fail: the same answers are no calls of other tools."""
    made = family("hermes")
    raw = wander(made, made.form.grammar(Asked(TOOLS[1:], "required")), 1)
    assert raw is not None
    assert re.search("now", raw)
    assert parse(made.form, raw, Asked(TOOLS[:1])).malformed
