"""Grammars made from schemas, checked by libllama itself on a byte vocabulary."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, SchemaError

from node.errors import GrammarError
from node.inference import FunctionSpec, ToolCall, recognise
from node.inference.formats import Asked, parse
from node.inference.grammar.gbnf import LOOSE, Rules, Spelling
from node.inference.grammar.schema import Grammar
from node.inference.testing.gguf import CHATML_TEMPLATE, PLAIN_TEMPLATE, write_tiny_gguf
from node.types import Json, JsonObject

EXAMPLES = int(os.environ.get("FREEHOLD_TEST_EXAMPLES", "60"))
bounded = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
Accepts = Callable[[str, str], bool]


@pytest.fixture(scope="module")
def accepts(tmp_path_factory: pytest.TempPathFactory) -> Accepts:
    """Whether a grammar's language holds a text, byte by byte through libllama."""
    native = pytest.importorskip("node.inference.llama.native")
    path = write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")
    vocab = native.Model(str(path)).vocab

    def check(grammar: str, text: str) -> bool:
        matcher = vocab.grammar(grammar)
        try:
            for byte in text.encode():
                (token,) = vocab.tokenize(chr(byte)) if byte < 128 else (byte_tokens[byte],)
                if not matcher.allows(token):
                    return False
                matcher.accept(token)
            return bool(matcher.allows(min(vocab.end_tokens)))
        finally:
            matcher.close()

    byte_tokens = {vocab.piece(token)[0]: token for token in range(256)}
    return check


def arguments_grammar(schema: JsonObject) -> str:
    grammar = Grammar()
    grammar.rules["root"] = grammar.value("f", schema)
    return grammar.text()


def dumps(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


# ── a schema and values that it allows ──────────────────────────────────────────────────────

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


@st.composite
def strings(draw: st.DrawFn) -> tuple[JsonObject, st.SearchStrategy[Json]]:
    low = draw(st.integers(0, 4))
    high = draw(st.none() | st.integers(low, low + 5))
    schema: JsonObject = {"type": "string", "minLength": low}
    if high is not None:
        schema["maxLength"] = high
    characters = st.characters(exclude_categories=["Cs"])
    return schema, st.text(characters, min_size=low, max_size=8 if high is None else high)


@st.composite
def integers(draw: st.DrawFn) -> tuple[JsonObject, st.SearchStrategy[Json]]:
    low = draw(st.none() | st.integers(-(10**12), 10**12))
    high = draw(st.none() | st.integers(0 if low is None else low, 10**13))
    schema: JsonObject = {"type": "integer"}
    if low is not None:
        schema["minimum"] = low
    if high is not None:
        schema["maximum"] = high
    return schema, st.integers(-(10**20) if low is None else low, 10**20 if high is None else high)


@st.composite
def enums(draw: st.DrawFn) -> tuple[JsonObject, st.SearchStrategy[Json]]:
    values = draw(st.lists(text | st.integers() | st.booleans() | st.none(), min_size=1))
    return {"enum": list(values)}, st.sampled_from(values)


plain = st.sampled_from(
    [
        ({"type": "boolean"}, st.booleans()),
        ({"type": "null"}, st.none()),
        ({"type": "number"}, st.floats(-9e307, 9e307)),
        ({}, st.recursive(text | st.integers() | st.none(), st.lists, max_leaves=5)),
    ]
)
leaves = strings() | integers() | enums() | plain


@st.composite
def nullables(draw: st.DrawFn, inner: st.SearchStrategy) -> tuple[JsonObject, st.SearchStrategy]:
    schema, values = draw(inner)
    return {"anyOf": [schema, {"type": "null"}]}, values | st.none()


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy) -> tuple[JsonObject, st.SearchStrategy]:
    schema, values = draw(inner)
    low = draw(st.integers(0, 2))
    high = draw(st.none() | st.integers(low, 4))
    whole: JsonObject = {"type": "array", "items": schema, "minItems": low}
    if high is not None:
        whole["maxItems"] = high
    return whole, st.lists(values, min_size=low, max_size=5 if high is None else high)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy) -> tuple[JsonObject, st.SearchStrategy]:
    properties = draw(st.dictionaries(keys, inner, max_size=4))
    required = [key for key in properties if draw(st.booleans())]

    @st.composite
    def values(draw: st.DrawFn) -> Json:
        chosen = [key for key in properties if key in required or draw(st.booleans())]
        return {key: draw(properties[key][1]) for key in chosen}

    schema: JsonObject = {
        "type": "object",
        "properties": {key: inner_schema for key, (inner_schema, _) in properties.items()},
        "required": list(required),
        "additionalProperties": False,
    }
    return schema, values()


pairs = st.recursive(
    leaves, lambda inner: nullables(inner) | arrays(inner) | objects(inner), max_leaves=4
)


@bounded
@given(data=st.data(), pair=objects(pairs))
def test_every_value_the_schema_allows_is_in_the_grammar(
    accepts: Accepts, data: st.DataObject, pair: tuple[JsonObject, st.SearchStrategy[Json]]
) -> None:
    schema, values = pair
    value = data.draw(values)
    assert accepts(arguments_grammar(schema), dumps(value)), (schema, value)


@bounded
@given(data=st.data(), pair=objects(pairs), form=st.sampled_from([CHATML_TEMPLATE, PLAIN_TEMPLATE]))
def test_a_call_goes_round(
    accepts: Accepts, data: st.DataObject, pair: tuple[JsonObject, st.SearchStrategy], form: str
) -> None:
    schema, values = pair
    arguments = data.draw(values)
    tools = (FunctionSpec("other", "", {}), FunctionSpec("f", "does", schema))
    call_format = recognise(form)
    raw = dumps({"name": "f", "arguments": arguments})
    if call_format.name == "hermes":
        raw = f"<tool_call>{raw}</tool_call>"
    assert accepts(call_format.grammar(Asked(tools, "required")), raw)
    parsed = parse(call_format, raw, Asked(tools))
    assert parsed.malformed is None
    assert parsed.tool_calls == (ToolCall("f", arguments),)


# ── what must not be in it ──────────────────────────────────────────────────────────────────


@bounded
@example(low=-5, high=123)
@example(low=100, high=10_000)
@given(low=st.integers(-300, 1300), high=st.integers(-300, 1300))
def test_integers_outside_the_bounds_cannot_be_written(
    accepts: Accepts, low: int, high: int
) -> None:
    low, high = sorted((low, high))
    grammar = Grammar()
    grammar.rules["root"] = grammar.value("f", {"type": "integer", "minimum": low, "maximum": high})
    made = grammar.text()
    near = {low - 1, low, low + 1, high - 1, high, high + 1, 0, -1, 10, 99, 100, 999, 1000}
    for number in sorted(near):
        assert accepts(made, str(number)) is (low <= number <= high), (low, number, high)
    assert not accepts(made, "00")
    assert not accepts(made, "-0")


@pytest.mark.parametrize(
    "bad",
    [
        '{"a": 1}',  # the required b is missing
        '{"b": "x", "a": 1}',  # not in the schema's order
        '{"a":1, "b": "x"}',  # not the one spelling
        '{"a": 1, "b": "x", "c": 2}',  # not declared
        '{"a": 1.5, "b": "x"}',
        '{"a": 1, "b": "\n"}',  # a control character in a string
        '{"a": 1, "b": "\\q"}',
        '{"a": 1, "b": "xxxx"}',  # over maxLength
    ],
)
def test_what_the_schema_forbids_cannot_be_written(accepts: Accepts, bad: str) -> None:
    grammar = arguments_grammar(
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "string", "maxLength": 3}},
            "required": ["b"],
        }
    )
    assert accepts(grammar, '{"a": 1, "b": "x\\n"}')
    assert accepts(grammar, '{"b": ""}')
    assert not accepts(grammar, bad)


def test_a_list_has_as_many_items_as_it_may(accepts: Accepts) -> None:
    for low, high in ((0, 1), (0, 3), (1, 1), (2, 3)):
        item: JsonObject = {"type": "null"}
        made = arguments_grammar(
            {"type": "array", "items": item, "minItems": low, "maxItems": high}
        )
        held = [size for size in range(6) if accepts(made, dumps([None] * size))]
        assert held == list(range(low, high + 1))
    assert accepts(arguments_grammar({"type": "string", "minLength": 5000}), f'"{"x" * 5000}"')


def test_a_number_that_may_not_be_negative(accepts: Accepts) -> None:
    made = arguments_grammar({"type": "number", "minimum": 0})
    assert accepts(made, "1.5e-07")
    assert not accepts(made, "-1.5")
    assert accepts(arguments_grammar({"type": "number", "minimum": -0.5}), "-0.25")


ID: JsonObject = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
KIND: JsonObject = {"properties": {"kind": {"const": "a"}}, "required": ["kind"]}
BOTH = '{"id": "x", "kind": "a"}'


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({**ID, "oneOf": [KIND, {"properties": {"n": {"type": "null"}}}]}, BOTH, '{"kind": "a"}'),
        ({**ID, "anyOf": [{"$ref": "#/$defs/kind"}]}, '{"kind": "a", "id": "x"}', '{"id": "x"}'),
        ({**KIND, "$ref": "#/$defs/id"}, BOTH, '{"id": "x"}'),
        ({**ID, "anyOf": [{"required": ["id"]}, {"minProperties": 1}]}, '{"id": "x"}', "5"),
        ({"type": "string", "anyOf": [{"minLength": 3}, {"pattern": "x"}]}, '"abc"', "5"),
        ({"type": "object", "anyOf": [KIND, {"type": "object"}]}, '{"kind": "a"}', "5"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_what_stands_beside_a_choice_holds_too(
    accepts: Accepts, schema: JsonObject, good: str, bad: str, nested: bool
) -> None:
    """Else no call could be right of a tool that declares some arguments in the choice only."""
    whole: JsonObject = {"type": "object", "properties": {"p": schema}} if nested else {**schema}
    whole["$defs"] = {"kind": KIND, "id": ID}
    if not nested and schema.get("type") == "string":
        return
    made = arguments_grammar(whole)
    assert accepts(made, f'{{"p": {good}}}' if nested else good)
    assert not accepts(made, f'{{"p": {bad}}}' if nested else bad)


def test_choices_of_many_arguments_are_not_copied_without_end(accepts: Accepts) -> None:
    many: JsonObject = {f"p{number}": {"type": "null"} for number in range(300)}
    options: list[Json] = [{"properties": {f"o{number}": {}}} for number in range(300)]
    made = arguments_grammar({"type": "object", "properties": many, "anyOf": options})
    assert accepts(made, '{"p7": null, "o7": 1}')


def test_references_may_go_round(accepts: Accepts) -> None:
    schema: JsonObject = {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/node"}},
        "required": ["tree"],
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"leaves": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
                "required": ["leaves"],
            }
        },
    }
    grammar = arguments_grammar(schema)
    assert accepts(grammar, '{"tree": {"leaves": [{"leaves": []}, {"leaves": []}]}}')
    assert not accepts(grammar, '{"tree": {"leaves": [1]}}')


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"properties": {"a": {"not": {}}}}, "#/properties/a"),
        ({"properties": {"a": {"type": "date"}}}, "#/properties/a"),
        ({"properties": {"a": {"items": {"$ref": "other.json"}}}}, "#/properties/a/items"),
        ({"properties": {"a": {"enum": []}}}, "#/properties/a"),
        ({"properties": {"a": {"type": "integer", "minimum": "1"}}}, "#/properties/a"),
        ({"properties": {"a": {"type": "integer", "minimum": 2, "maximum": 1}}}, "#/properties/a"),
        ({"properties": {"a": {"type": "string", "minLength": -1}}}, "#/properties/a"),
        ({"properties": {}, "required": ["b"]}, "#"),
        ({"properties": {"a": 1}}, "#/properties/a"),
    ],
)
def test_what_cannot_be_expressed_is_named(schema: JsonObject, path: str) -> None:
    with pytest.raises(GrammarError) as caught:
        Grammar().arguments("lookup", {"type": "object", **schema})
    assert caught.value.message.startswith(f"lookup: the schema at {path} ")
    assert caught.value.hint


keywords = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "$ref",
        "$defs",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "additionalProperties",
        "exclusiveMinimum",
        "a",
    ]
) | st.text(max_size=3)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keywords, inner, max_size=4),
    max_leaves=12,
)


SAMPLES: dict[str, Json] = {
    "object": {},
    "array": [],
    "string": "a",
    "integer": 12345678,
    "number": 0.5,
    "boolean": True,
    "null": None,
}


@bounded
@given(
    schema=st.dictionaries(keywords, json_values, max_size=5),
    kind=st.none() | st.sampled_from(list(SAMPLES)),
)
def test_any_json_as_a_schema_makes_a_grammar_or_a_grammar_error(
    accepts: Accepts, schema: JsonObject, kind: str | None
) -> None:
    """libllama takes the grammar; it holds what the schema allows, and no other kind of value."""
    schema = {**schema, "type": kind} if kind else schema
    try:
        made = arguments_grammar(schema)
    except GrammarError:
        return
    accepted = {name for name, value in SAMPLES.items() if accepts(made, dumps(value))}
    if kind is None or schema.keys() & {"$ref", "const", "enum", "anyOf", "oneOf"}:
        return
    assert accepted <= ({"integer", "number"} if kind == "number" else {kind})
    with suppress(SchemaError):
        Draft202012Validator.check_schema(schema)
        assert kind in accepted or not Draft202012Validator(schema).is_valid(SAMPLES[kind])


@bounded
@example(text="<<tool_call>")
@example(text="<tool_<tool_call>")
@example(text="<tool_call")
@given(
    text=st.lists(
        st.sampled_from(["<tool_call>", "<", "<tool", "_call>", "tool_call>", "é"])
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3),
        max_size=6,
    ).map("".join)
)
def test_text_is_anything_but_a_call(accepts: Accepts, text: str) -> None:
    made = recognise(CHATML_TEMPLATE).grammar(Asked(choice="none"))
    assert accepts(made, text) is ("<tool_call>" not in text)


def test_one_grammar_whole() -> None:
    schema: JsonObject = {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
        },
        "required": ["city"],
    }
    tools = (FunctionSpec("weather", "", schema),)
    made = recognise(CHATML_TEMPLATE).grammar(Asked(tools, "required"))
    rules = dict(line.split(" ::= ", 1) for line in made.splitlines() if line)
    assert rules["root"] == "answer"
    assert rules["answer"] == r'[ \t\r\n]{0,3} ("<tool_call>" calls)'
    assert rules["calls"] == (r'"\n"? call "\n"? "</tool_call>" ("\n"? "<tool_call>" calls)?')
    assert rules["call"] == r'"{\"name\"" ": " call-body "" "}"'
    assert rules["call-body"] == r'"\"weather\"" ", " "\"arguments\"" ": " args'
    assert rules["args"] == r'"{" ("\"city\"" ": " json-string args-m-2) "}"'
    assert rules["args-m-2"] == r'", " "\"days\"" ": " args-p args-m | args-m'
    assert rules["args-p"] == '[1-9] | "1" ([0-4])'


# ── schemas of ill will ─────────────────────────────────────────────────────────────────────


def test_a_schema_cannot_make_a_grammar_without_end() -> None:
    names: list[Json] = [f"value {number}" for number in range(100_000)]
    with pytest.raises(GrammarError, match="524288 are the most"):
        arguments_grammar({"enum": names})
    types: JsonObject = {"type": ["object"] * 10}
    for _ in range(5):
        types = {"type": ["array"] * 10, "items": types}
    assert len(arguments_grammar(types)) < 100_000


@pytest.mark.parametrize("recursive", [True, False])
def test_choices_in_choices_do_not_multiply(accepts: Accepts, recursive: bool) -> None:
    """Two objects that begin alike, in two that begin alike, and so on: twofold a level."""
    inner: JsonObject = {"$ref": "#/$defs/n"} if recursive else {"type": "null"}
    schema = inner
    for _ in range(1 if recursive else 14):
        schema = {
            "anyOf": [
                {"type": "object", "properties": {"x": schema, "p": {}}, "required": ["x"]},
                {"type": "object", "properties": {"x": schema, "q": {}}, "required": ["x"]},
            ]
        }
    made = arguments_grammar({"$ref": "#/$defs/n", "$defs": {"n": schema}})
    value: Json = None
    for _ in range(14):
        value = {"x": value}
    assert accepts(made, dumps(value))  # at twofold a level this takes minutes


def test_definitions_that_refer_to_those_before_them_do_not_multiply(accepts: Accepts) -> None:
    """Each is known when the next refers to it, and means all that it does, twice."""
    definitions: dict[str, Json] = {"0": {"type": "null"}}
    value: Json = "deep in there any value is allowed"
    for level in range(1, 13):
        inner: JsonObject = {"$ref": f"#/$defs/{level - 1}"}
        definitions[str(level)] = {
            "anyOf": [
                {"type": "object", "properties": {"x": inner, end: {}}, "required": ["x"]}
                for end in "pq"
            ]
        }
        value = {"x": value}
    each: JsonObject = {f"a{level}": {"$ref": f"#/$defs/{level}"} for level in range(1, 13)}
    made = arguments_grammar({"type": "object", "properties": each, "$defs": definitions})
    assert accepts(made, dumps({"a12": value}))  # at twofold a level this takes a second


def alike(count: int, key: str, value: Json) -> JsonObject:
    """A choice of so many objects that all begin with this."""
    return {
        "anyOf": [
            {"type": "object", "properties": {key: value, f"z{one}": {}}, "required": [key]}
            for one in range(count)
        ]
    }


def test_a_definition_counts_for_all_that_is_in_it(accepts: Accepts) -> None:
    inner: JsonObject = {"x": alike(32, "n", {"type": "null"}), "y": alike(2, "n", {})}
    definitions: JsonObject = {
        "inner": {"type": "object", "properties": inner},
        "outer": {"type": "object", "properties": {"i": {"$ref": "#/$defs/inner"}}},
    }
    for name in definitions:
        known: JsonObject = {"$ref": f"#/$defs/{name}"}
        for count, is_any in ((2, False), (3, True)):  # of what may mean 64 things at once
            each: JsonObject = {"a": known, "b": alike(count, "k", known)}
            schema: JsonObject = {"type": "object", "properties": each, "$defs": definitions}
            assert accepts(arguments_grammar(schema), '{"b": {"k": 5}}') is is_any


def test_choices_beside_one_another_do_not_multiply(accepts: Accepts) -> None:
    each: JsonObject = {f"a{one}": alike(2, "n", {"type": "null"}) for one in range(8)}
    made = arguments_grammar({"type": "object", "properties": each})
    assert accepts(made, '{"a7": {"n": null}}')
    assert not accepts(made, '{"a7": 5}')


def test_a_choice_that_means_one_thing_is_kept(accepts: Accepts) -> None:
    tree: JsonObject = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/$defs/t"}}]
    }
    made = arguments_grammar({"$ref": "#/$defs/t", "$defs": {"t": tree}})
    assert accepts(made, '["a", [["b"], []]]')
    assert not accepts(made, '["a", [[1], []]]')


def test_a_function_takes_what_it_declares(accepts: Accepts) -> None:
    def made(schema: JsonObject) -> str:
        grammar = Grammar()
        grammar.rules["root"] = grammar.arguments("f", schema)
        return grammar.text()

    assert accepts(made({}), "{}")
    assert not accepts(made({}), '{"a": 1}')
    assert accepts(
        made({"type": "object", "additionalProperties": {"type": "integer"}}), '{"a": 1}'
    )
    with pytest.raises(GrammarError, match="is not of an object"):
        made({"type": "string"})


# ── spellings and text ──────────────────────────────────────────────────────────────────────


def spelled(spelling: Spelling, schema: JsonObject) -> str:
    grammar = Grammar(spelling)
    grammar.rules["root"] = grammar.value("f", schema)
    return grammar.text()


def test_other_spellings(accepts: Accepts) -> None:
    schema: JsonObject = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"enum": [["x", {"k": 1}]]}, "c": {}},
    }
    loose = spelled(LOOSE, schema)
    assert accepts(loose, '{"a":"x", "b": ["x", {"k": 1}],"c":{"d": [1,2]}}')
    bare = spelled(Spelling('":"', '","', quote="<q>"), schema)
    assert accepts(bare, '{a:<q>say "hi" <<q>,b:[<q>x<q>,{k:1}],c:{d:[1,<q><q>]}}')
    assert not accepts(bare, '{a:"x"}')
    with pytest.raises(GrammarError, match="this model cannot write"):
        spelled(Spelling(quote="<q>"), {"type": "object", "properties": {"a b": {}}})
    with pytest.raises(GrammarError, match="this model cannot write"):
        spelled(Spelling(quote="<q>"), {"enum": ["a<q>b"]})


@bounded
@example(marks=["aab", "ab"], parts=["a", "aab"])
@example(marks=["aaa"], parts=["aa", "aa"])
@example(marks=["a", "<a<"], parts=["<a"])
@given(
    marks=st.lists(st.text("ab<", min_size=1, max_size=4), min_size=1, max_size=3, unique=True),
    parts=st.lists(st.text("ab<]", max_size=5), max_size=4),
)
def test_text_holds_no_mark(accepts: Accepts, marks: list[str], parts: list[str]) -> None:
    rules = Rules()
    rules.rules["root"] = rules.until("text", dict.fromkeys(marks))
    whole = "".join(parts)
    assert accepts(rules.text(), whole) is not any(mark in whole for mark in marks)


@bounded
@given(before=st.text("ab<>", max_size=8), after=st.text("ab<>", max_size=3))
def test_text_ends_at_its_mark(accepts: Accepts, before: str, after: str) -> None:
    rules = Rules()
    rules.rules["root"] = rules.until("text", {"<ab>": '"!"'}, may_end=False)
    made = rules.text()
    assert accepts(made, f"{before}<ab>!") is (f"{before}<ab>".find("<ab>") == len(before))
    assert not accepts(made, before)
    assert not accepts(made, f"{before}<ab>{after}")


def test_models_folder_needs_no_network(tmp_path: Path) -> None:
    """The same file comes out for the same arguments, so that digests in tests mean something."""
    first = write_tiny_gguf(tmp_path / "a.gguf").read_bytes()
    assert first == write_tiny_gguf(tmp_path / "b.gguf").read_bytes()
