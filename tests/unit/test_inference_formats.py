"""Reading what a model wrote, and grammars of text that must not hold a call."""

from __future__ import annotations

import contextlib
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import GrammarError
from node.inference import FunctionSpec, Message, ToolCall, recognise
from node.inference.formats import Asked, CallFormat, parse
from node.inference.formats.base import one_call_a_turn
from node.inference.grammar.strict_json import StrictJsonError, parse_prefix
from node.inference.testing.gguf import CHATML_TEMPLATE, PLAIN_TEMPLATE

EXAMPLES = int(os.environ.get("FREEHOLD_TEST_EXAMPLES", "200"))
HERMES, GENERIC = recognise(CHATML_TEMPLATE), recognise(PLAIN_TEMPLATE)
TOOLS = (FunctionSpec("add", "adds", {"type": "object", "properties": {}}),)
ASKED = Asked(TOOLS)
CALL = '{"name": "add", "arguments": {"a": 1}}'


def test_the_family_is_known_from_the_template() -> None:
    assert (HERMES.name, GENERIC.name) == ("hermes", "generic")


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("<tool_call>{", "not valid JSON"),
        ("<tool_call>" + CALL, "must have </tool_call> here"),
        ("<tool_call>" + CALL + "</tool_call> done", "must have <tool_call> here"),
        ('<tool_call>{"name": "sub", "arguments": {}}</tool_call>', "the tools are: add"),
        ('<tool_call>{"name": "add", "arguments": []}</tool_call>', "must be an object"),
        ('<tool_call>{"name": "add"}</tool_call>', '"arguments"'),
        ('<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>', "NaN"),
        ('<tool_call>{"name": "add", "arguments": {"a": 1e999}}</tool_call>', "too large"),
        ('<tool_call>{"name": "add", "arguments": {"a": 1, "a": 2}}</tool_call>', "twice"),
        ('<tool_call>{"name": "add", "arguments": {"a": "\\ud800"}}</tool_call>', "surrogate"),
        (
            '<tool_call>{"name": "add", "arguments": {"a": '
            + "[" * 70
            + "]" * 70
            + "}}</tool_call>",
            "deep",
        ),
    ],
)
def test_a_malformed_call_says_what_is_wrong(raw: str, problem: str) -> None:
    parsed = parse(HERMES, raw, ASKED)
    assert parsed.tool_calls == ()
    assert parsed.text == ""
    assert parsed.malformed is not None
    assert problem in parsed.malformed


def test_a_call_may_hold_its_own_markup_in_a_string() -> None:
    arguments = {"a": "</tool_call><tool_call>"}
    raw = f"<tool_call>{json.dumps({'name': 'add', 'arguments': arguments})}</tool_call>"
    assert parse(HERMES, raw, ASKED).tool_calls == (ToolCall("add", arguments),)


def test_a_call_may_have_an_id_and_say_that_it_is_one() -> None:
    raw = f'<tool_call>{{"id": "1", "type": "function", {CALL[1:]}</tool_call>'
    assert parse(HERMES, raw, ASKED).tool_calls == (ToolCall("add", {"a": 1}),)


def test_a_call_is_known_as_soon_as_it_can_be() -> None:
    def state(form: CallFormat, raw: str) -> tuple[str, str]:
        reader = form.reader(ASKED)
        return reader.push(raw).text, reader.state

    assert state(HERMES, "<tool") == ("", "text")
    assert state(HERMES, "<tool_call>") == ("", "call")
    assert state(HERMES, "<b>") == ("<b>", "text")
    assert state(GENERIC, "") == ("", "start")
    assert state(GENERIC, "\n {") == ("", "call")
    assert state(GENERIC, "4 {") == ("4 {", "text")


def test_no_tool_may_be_called_where_none_may() -> None:
    raw = f"<tool_call>{CALL}</tool_call>"
    parsed = parse(HERMES, raw, Asked(TOOLS, "none"))
    assert parsed.tool_calls == ()
    assert parsed.malformed == "no tool may be called in this answer"


def test_calls_at_once_become_calls_one_after_another() -> None:
    calls = tuple(ToolCall("add", {"a": number}) for number in (1, 2, 3))
    results = tuple(Message("tool", str(number), name="add") for number in (1, 2, 3))
    turns = one_call_a_turn((Message("user", "x"), Message("assistant", "", calls), *results))
    assert [turn.role for turn in turns] == ["user", *["assistant", "tool"] * 3]
    assert [turn.tool_calls[0] for turn in turns if turn.tool_calls] == list(calls)
    assert [turn.content for turn in turns if turn.role == "tool"] == ["1", "2", "3"]
    two = (ToolCall("add", {}), ToolCall("now", {}))
    late = (Message("tool", "noon", name="now"), Message("tool", "4", name="add"))
    each = one_call_a_turn((Message("assistant", "I look.", two), *late))
    assert {turn.content for turn in each} == {"I look.", "", "noon", "4"}
    assert [turn.name or turn.tool_calls[0].name for turn in each] == ["now", "now", "add", "add"]
    alone = one_call_a_turn((Message("assistant", "", calls), results[0]))
    assert [turn.role for turn in alone] == ["assistant", "tool", "assistant", "assistant"]


def test_text_is_text() -> None:
    assert parse(HERMES, "  It is 4.\n", ASKED).text == "It is 4."
    assert parse(GENERIC, "It is {4}.", ASKED).text == "It is {4}."
    assert parse(GENERIC, CALL, ASKED).tool_calls == (ToolCall("add", {"a": 1}),)
    assert parse(GENERIC, CALL, Asked()).text == CALL
    assert parse(GENERIC, CALL, Asked(TOOLS, "none")).text == CALL


pieces = st.lists(
    st.sampled_from(["<tool_call>", "</tool_call>", CALL, "{", "}", '"', ",", "name", " ", "\n"])
    | st.text(max_size=4),
    max_size=12,
).map("".join)


@settings(max_examples=EXAMPLES, deadline=None)
@given(raw=pieces)
def test_whatever_was_written_is_text_calls_or_malformed(raw: str) -> None:
    """Text may stand before calls where a mark begins them, and only there."""
    before, mark, _ = raw.partition("<tool_call>")
    for form, text in ((HERMES, before.strip()), (GENERIC, "")):
        parsed = parse(form, raw, ASKED)
        if parsed.malformed is not None:
            assert (parsed.text, parsed.tool_calls) == ("", ())
        elif parsed.tool_calls or (form is HERMES and mark):
            assert (parsed.text, bool(parsed.tool_calls)) == (text, True)
        else:
            assert parsed.text == raw.strip()
        for call in parsed.tool_calls:
            assert call.name == "add"


whole = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | whole,
        lambda inner: st.lists(inner) | st.dictionaries(whole, inner),
        max_leaves=8,
    ),
    tail=st.text(max_size=3),
)
def test_strict_json_reads_what_json_writes(value: object, tail: str) -> None:
    text = json.dumps(value)
    assert parse_prefix(text + " " + tail) == (value, len(text))


@settings(max_examples=EXAMPLES, deadline=None)
@given(text=st.text(max_size=30) | pieces)
def test_strict_json_raises_nothing_else(text: str) -> None:
    with contextlib.suppress(StrictJsonError):
        value, end = parse_prefix(text)
        assert 0 < end <= len(text)
        assert json.loads(text[:end]) == value


def test_huge_numbers_and_depths_are_refused() -> None:
    for text in ("9" * 5000, "[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(StrictJsonError):
            parse_prefix(text)


def test_names_are_checked_before_a_grammar_is_made() -> None:
    for name in ("", "a b", 'a"', "x" * 65, "<tool_call>"):
        with pytest.raises(GrammarError, match="name of a function"):
            HERMES.grammar(Asked((FunctionSpec(name, "", {}),)))
    with pytest.raises(GrammarError, match="two functions"):
        HERMES.grammar(Asked(TOOLS * 2))
    with pytest.raises(GrammarError, match="no tool"):
        HERMES.grammar(Asked(choice="required"))


def test_a_template_without_tools_is_told_of_them_in_words() -> None:
    messages = (
        Message("system", "Be brief."),
        Message("user", "1+1?"),
        Message("assistant", "", (ToolCall("add", {"a": 1}),)),
        Message("tool", "2", name="add"),
    )
    plain, offered = GENERIC.prepare(messages, TOOLS)
    assert offered == ()
    assert plain[0].content.startswith("Be brief.")
    assert '"name": "add"' in plain[0].content
    assert plain[2] == Message("assistant", CALL)
    assert plain[3] == Message("user", "Result of add:\n2")
    assert HERMES.prepare(messages, TOOLS) == (messages, TOOLS)
