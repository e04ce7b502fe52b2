"""The size, schema and citations guards, and which of them look where."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import FreeholdError
from node.runs.agent import AgentManifest, GuardNames
from node.runs.content import MAX_DEPTH, clean
from node.runs.effect import GuardContext, GuardStage
from node.runs.figures import figures
from node.runs.guards import GuardSet, SchemaGuard, SizeGuard, check_guard_name
from node.runs.guards_citations import CitationsGuard, is_rounded
from node.schemas import Checker, checker
from node.types import Json, canonical

NAME = GuardContext("calc", tool="calc")


def nested(depth: int) -> Json:
    value: Json = 1
    for _ in range(depth):
        value = [value]
    return value


# ── size ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stage", GuardStage)
def test_content_of_ordinary_size_passes(stage: GuardStage) -> None:
    assert SizeGuard().check(stage, {"text": "x" * 250_000}, NAME).verdict == "pass"
    assert SizeGuard().check(stage, nested(MAX_DEPTH), NAME).verdict == "pass"


@pytest.mark.parametrize("content", ["x" * 262_144, ["x" * 1000] * 300, nested(MAX_DEPTH + 1)])
@pytest.mark.parametrize("stage", GuardStage)
def test_only_a_result_is_cut(stage: GuardStage, content: Json) -> None:
    verdict = SizeGuard().check(stage, content, NAME)
    assert verdict.verdict == ("rewrite" if stage is GuardStage.TOOL_RESULT else "fail")
    if stage is GuardStage.TOOL_RESULT:
        assert SizeGuard().check(stage, verdict.value, NAME).verdict == "pass"


def test_a_cut_says_how_much_is_missing() -> None:
    verdict = SizeGuard().check(GuardStage.TOOL_RESULT, {"text": "y" * 300_000}, NAME)
    assert isinstance(verdict.value, dict)
    text = str(verdict.value["text"])
    assert text.endswith("[cut: 234464 of 300000 characters left out]")
    assert text.startswith("y" * 65_536)


# ── schema ──────────────────────────────────────────────────────────────────────────────────

SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.usefixtures("no_collector")
def test_no_arguments_are_nested_too_deep_to_be_judged() -> None:
    required = Checker({"type": "object", "required": ["q"]})
    for depth in range(600, sys.getrecursionlimit()):
        assert required.wrong({"x": nested(depth)})


def known(tool: str, function: str) -> Checker | None:
    return checker(SCHEMA) if (tool, function) == ("calc", "calc") else None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"n": 3}, ""),
        ({"n": 0}, "n: 0 is less than the minimum of 1"),
        ({"n": "3"}, "n: '3' is not of type 'integer'"),
        ({"n": "3" * 400}, "n: it is not of type 'integer'"),
        ({}, "'n' is a required property"),
        ({"n": 1, "m": 2}, "'m' was unexpected"),
        ([], "is not of type 'object'"),
    ],
)
def test_arguments_are_held_to_the_schema(arguments: Json, said: str) -> None:
    verdict = SchemaGuard(known).check(GuardStage.TOOL_ARGUMENTS, arguments, NAME)
    assert verdict.verdict == ("fail" if said else "pass")
    assert said in verdict.reason


def test_arguments_of_an_unknown_function_fail() -> None:
    verdict = SchemaGuard(known).check(GuardStage.TOOL_ARGUMENTS, {}, GuardContext("x.y"))
    assert (verdict.verdict, verdict.reason) == ("fail", "there is no function x.y")


def test_a_schema_can_fetch_nothing() -> None:
    remote = checker({"$ref": "http://127.0.0.1:9/schema.json"})
    assert remote.wrong({}).startswith("the schema cannot be applied")


def test_a_schema_that_calls_itself_forever_ends() -> None:
    assert "RecursionError" in checker({"$ref": "#"}).wrong({})


def test_what_is_no_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="is not valid"):
        checker({"type": "whatever"})


# ── citations ───────────────────────────────────────────────────────────────────────────────


def verdict_on(answer: str, *results: Json, prompt: str = "") -> str:
    context = GuardContext("", tuple(results), prompt)
    return CitationsGuard().check(GuardStage.ANSWER, answer, context).verdict


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("The sum is 50.", {"sum": 50}),
        ("The sum is 1,234,567.50.", "1234567.5"),
        ("About 3.33 or 3.3.", 3.3333333),
        ("67 percent", 66.6667),
        ("On 2026-11-21 at 07:05", "2026-11-21T07:05:00"),
        ("It is " + str(2**400), str(2**400)),
        ("It is 1500.", "1.5e3"),
        ("-42 degrees", -42),
        ("It costs $19.90 (20% off).", ["19.9", "20 %"]),
        ("Just 7 things", {"sum": 50}),
        ("File a12b34.txt", {"sum": 50}),
        ("Room 101", {"101": "a"}),
        ("No figures here.", {}),
        # rounded by the tool, as the answer takes it over or rounds it on
        ("It is ≈0.3333333333333333333333333333333333.", "≈0.3333333333333333333333333333333333"),
        ("It is 0.3333333333333333333333333333333333.", "≈0.3333333333333333333333333333333333"),
        ("About 0.33", "≈0.3333333333333333333333333333333333"),
        ("≈1.41", {"value": "≈1.414213562373095048801688724209698"}),
        ("≈-1.41", {"value": "≈-1.414213562373095048801688724209698"}),
        ("≈50", 50),
        # rounded before the point, and said so
        ("≈1,200", 1234),
        ("about 12,300,000", 12345678),
        ("~$1500", 1496.2),
        # separators and trailing zeros
        ("1,234,567", 1234567),
        ("1'234'567.50", 1234567.5),
        ("1\u202f234\u202f567", 1234567),
        ("1_234_567", 1234567),
        ("1.234.567", 1234567),
        ("1234567", "1,234,567.00"),
        ("12.50", 12.5),
        ("$.99, or (-.25)", [0.99, -0.25]),
        ("0.99", "a=.99"),
        ("One .7z and two .3gp files", "a.7z b.3gp c.3gp"),
        ("It is .5e3", 500),
        ("012", 12),
        ("12 and 345", "[12,345]"),
        # exponents
        ("1.23e45", "≈1.2345E+45"),
        ("1.23 × 10^45", "≈1.2345E+45"),
        ("1.5×10³", 1500),
        ("2·10⁻³ or 0.002", 0.002),
        # percent
        ("20%", 0.2),
        ("33.3 percent", "0.33333"),
        ("0.25", "25 %"),
        ("12.5%", "12.5%"),
        # signs
        ("−42", -42),
        ("minus 42", "-42"),
        ("-$42.10", -42.1),
        ("a loss of 42", -42),
        ("a loss of " + "7" * 40, "-" + "7" * 40),
        ("42 degrees below zero", "-42"),
        ("from 10-20", [10, 20]),
        ("+42", 42),
        ("A-42 is taken", "A-42"),
    ],
)
def test_figures_that_were_seen_pass(answer: str, result: Json) -> None:
    assert verdict_on(answer, result) == "pass"


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("The sum is 51.", {"sum": 50}),
        ("It is 1,234.", "1235"),
        ("It is 123.", "1234"),
        ("About 3.34", 3.3333333),
        ("It is 500.", "50"),
        ("It is " + str(2**400 + 1), str(2**400)),
        ("In 2027", "2026-11-21"),
        ("It is 99.", "nothing"),
        ("It is .99", {"n": 99}),
        ("It is -.25", 0.25),
        ("12.5", {"n": 12}),
        ("≈0.34", "≈0.3333333333333333333333333333333333"),
        ("0.33333333333333333333333333333333331", "≈0.3333333333333333333333333333333333"),
        ("≈1,300", 1234),
        ("1,200", 1234),
        ("≈1,230.0", 1234),
        ("1,234,568", 1234567),
        ("1.23 × 10^44", "≈1.2345E+45"),
        ("1.24e45", "≈1.2345E+45"),
        ("20%", 2000),
        ("20%", 0.02),
        ("0.2", "2%"),
        ("20", 0.2),
        ("2000%", 0.2),
        ("42", -42),
        ("-42", 42),
        ("minus 42", 42),
        ("−42 in all", "42"),
    ],
)
def test_figures_that_nothing_holds_fail(answer: str, result: Json) -> None:
    assert verdict_on(answer, result) == "fail"


def test_the_prompt_is_evidence_too() -> None:
    assert verdict_on("I looked at 1984.", "a book", prompt="Read 1984") == "pass"


def test_only_answers_of_runs_with_results_are_judged() -> None:
    assert verdict_on("It is 99.") == "pass"
    context = GuardContext("calc", (50,))
    assert CitationsGuard().check(GuardStage.TOOL_RESULT, 99, context).verdict == "pass"


numbers = st.decimals(
    min_value=10, max_value=10**12, places=3, allow_nan=False, allow_infinity=False
)


@given(value=numbers, places=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_a_figure_is_found_however_it_is_rounded(value: object, places: int) -> None:
    assert verdict_on(f"It is {value:.{places}f}.", {"n": str(value)}) == "pass"
    assert verdict_on(f"It is {value:,.{places}f}.", {"n": str(value)}) == "pass"


@given(st.text("0123456789.,-−≈~%eE+×^⁻³'_ \u202fa$", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_and_holds_itself(text: str) -> None:
    assert verdict_on(text, text) == "pass"
    assert all(figure.digits for figure in figures(text))


class Counted(Sequence[Decimal]):
    """Values in order of size, and how many of them were looked at."""

    def __init__(self, values: Iterable[Decimal]) -> None:
        self._values = sorted(values)
        self.looked_at = 0

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: int) -> Decimal:  # type: ignore[override]
        self.looked_at += 1
        return self._values[place]


def test_a_figure_is_looked_for_among_few_of_many_values() -> None:
    """A page of numbers, and an answer of numbers that each end at another digit."""
    page = Counted(Decimal(number) / 7 for number in range(8_000))
    claims = list(figures(" ".join(f"12e{place}" for place in range(3, 103))))
    assert len(claims) == 100
    assert not any(is_rounded(claim, page) for claim in claims)
    assert page.looked_at <= 100 * len(claims)


@pytest.mark.parametrize(
    ("said", "seen", "passes"),
    [
        ("0.12", "0.125", True),
        ("0.13", "0.125", True),
        ("0.14", "0.125", False),
        ("0.12", "0.115", True),
        ("-0.13", "-0.125", True),
        ("-0.12", "-0.125", True),
        ("12.5", "12.46 and 11 and 13", True),
        ("12.5", "12.4499 and 12.5501", False),
        ("about 1200", "1249.99", True),
        ("about 1200", "1250", True),
        ("about 1200", "1150", True),
        ("about 1200", "1149.99", False),
        ("12.3%", "0.1234", True),
    ],
)
def test_a_figure_is_rounded_one_of_two_ways(said: str, seen: str, passes: bool) -> None:
    assert verdict_on(f"It is {said}.", seen) == ("pass" if passes else "fail")


# ── all of them ─────────────────────────────────────────────────────────────────────────────

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
ALL = AgentManifest("a", "", guards=GuardNames(*[("citations", "secrets", "size")] * 4))


@given(content=json_values, result=json_values, stage=st.sampled_from(GuardStage))
@settings(max_examples=200, deadline=None)
def test_no_guard_ever_raises(content: Json, result: Json, stage: GuardStage) -> None:
    guards = GuardSet(checkers=known).guards(ALL, stage)
    for guard in guards:
        verdict = guard.check(stage, content, GuardContext("calc", (result,), "12", "calc"))
        assert verdict.verdict in ("pass", "fail", "rewrite")


def test_three_guards_always_look_and_no_name_adds_one_twice() -> None:
    guards = GuardSet(checkers=known)
    plain = guards.guards(AgentManifest("a", ""), GuardStage.ANSWER)
    assert [guard.name for guard in plain] == ["size", "secrets", "schema"]
    chosen = guards.guards(ALL, GuardStage.ANSWER)
    assert [guard.name for guard in chosen] == ["size", "secrets", "schema", "citations"]


def test_an_unknown_guard_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean citations") as caught:
        check_guard_name("citation")
    assert not isinstance(caught.value, FreeholdError)


@given(content=json_values)
@settings(max_examples=150, deadline=None)
def test_clean_content_can_be_hashed(content: Json) -> None:
    assert canonical(clean(content))


def test_lone_surrogates_and_depth_are_cleaned() -> None:
    assert clean({"\ud800": ["a\udfffb", "😀", float("inf")]}) == {"�": ["a�b", "😀", None]}
    assert canonical(clean(nested(5000)))
