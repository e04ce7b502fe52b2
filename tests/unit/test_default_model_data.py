"""The data the default model is trained on is right, repeatable, and apart from the bench's."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest

CODE = Path(__file__).resolve().parent.parent.parent / "scripts" / "default_model"
if str(CODE) not in sys.path:
    sys.path.insert(0, str(CODE))


@pytest.fixture(scope="module")
def made() -> list[Any]:
    from data import Maker

    maker = Maker(5)
    return [maker.conversation() for _ in range(400)]


def calls(conversation: Any) -> Iterator[dict[str, Any]]:
    for turn in conversation.messages:
        for call in turn.get("tool_calls", ()):
            yield call["function"]


def test_every_call_is_of_an_offered_function_and_fits_its_schema(made: list[Any]) -> None:
    seen = 0
    for conversation in made:
        schemas = {t["function"]["name"]: t["function"]["parameters"] for t in conversation.tools}
        for call in calls(conversation):
            jsonschema.validate(call["arguments"], schemas[call["name"]])
            order = [key for key in schemas[call["name"]]["properties"] if key in call["arguments"]]
            assert list(call["arguments"]) == order
            seen += 1
    assert seen > 300


def test_names_of_offered_functions_differ(made: list[Any]) -> None:
    for conversation in made:
        names = [tool["function"]["name"] for tool in conversation.tools]
        assert len(names) == len(set(names))


def test_the_same_seed_makes_the_same_conversations(made: list[Any]) -> None:
    from data import Maker

    again = Maker(5)
    assert [again.conversation().messages for _ in range(20)] == [m.messages for m in made[:20]]
    assert Maker(6).conversation().messages != made[0].messages


def test_what_cannot_be_done_is_refused_and_what_can_is_not(made: list[Any]) -> None:
    from tasks import NO_TOOL

    refused = [task for m in made for task in m.tasks if task.answer == NO_TOOL]
    done = [task for m in made for task in m.tasks if task.calls]
    assert len(refused) > 30
    assert len(done) > 200
    assert not any(task.calls for task in refused)
    for conversation in made:
        if not conversation.tools:
            assert not list(calls(conversation))


def test_an_error_is_told_and_ends_the_task(made: list[Any]) -> None:
    failed = [t for m in made for t in m.tasks if t.calls and "error" in t.calls[-1].result]
    assert len(failed) > 10
    for task in failed:
        assert task.answer.startswith("I could not ")
        assert not any("error" in call.result for call in task.calls[:-1])


def test_figures_in_answers_come_from_the_results(made: list[Any]) -> None:
    for conversation in made:
        for task in conversation.tasks:
            last = task.calls[-1] if task.calls else None
            if last is None or last.kind != "calc" or "error" in last.result:
                continue
            assert task.answer == f"{last.arguments['expression']} is {last.result['value']}."


def test_held_out_phrasings_are_trained_on_nowhere() -> None:
    import heldout
    import patterns
    import talk

    assert set(heldout.PATTERNS) == set(patterns.PATTERNS)
    trained = {text for texts in patterns.PATTERNS.values() for text in texts}
    for intent, texts in heldout.PATTERNS.items():
        assert len(texts) >= 2, intent
        assert not trained & set(texts)
    small = {text for _, texts in talk.SMALL_TALK for text in texts}
    assert not small & set(heldout.SMALL_TALK)
    assert not set(talk.HOPELESS) & set(heldout.HOPELESS)


def test_composed_requests_are_many_and_none_is_what_the_bench_asks() -> None:
    from composing import Composer, asked_by_bench, plain
    from various import WAYS
    from words import Words

    composer = Composer(Words(random.Random(2)))
    asked = asked_by_bench()
    enough = len(asked) > 100  # nothing here may print what the bench asks
    assert enough
    for intent, ways in WAYS.items():
        forms = {plain(composer.form(ways, noise=0.25)) for _ in range(300)}
        assert len(forms) > 60, intent
        shared = len(forms & asked)
        assert shared == 0


def test_spare_entries_are_not_trained_on() -> None:
    from composing import entries, is_spare
    from various import WAYS

    spared = 0
    for ways in WAYS.values():
        trained = {entry for part in entries(ways, spare=False).values() for entry in part}
        assert not any(is_spare(entry) for entry in trained)
        spared += len({e for part in entries(ways, spare=True).values() for e in part} - trained)
    assert spared >= 20


def test_unknown_words_stand_before_values_that_are_told_by_their_form_alone() -> None:
    from noise import Noise
    from words import Words

    noise = Noise(Words(random.Random(3)))
    for _ in range(60):
        form = noise.strayed("put <text> in the <path> now")
        assert form.startswith("put <text> in the ")
        assert form.endswith(" <path> now")
        assert 1 <= len(form.split()) - 6 <= 3
    assert noise.strayed("<path> <text> <url>") == "<path> <text> <url>"


def test_noise_never_touches_values() -> None:
    from noise import Noise
    from words import Words

    noise = Noise(Words(random.Random(3)))
    for _ in range(500):
        form = noise.over("please write <text> into <path>, will you")
        assert "<text>" in form
        assert "<path>" in form
        assert "<text> into" in form


def test_a_verb_gets_its_ing_form() -> None:
    from composing import gerund

    said = ["read it", "write it", "put a", "double-check b", "see c", "tie d", "dump e"]
    assert [gerund(one).split()[0] for one in said] == [
        "reading",
        "writing",
        "putting",
        "doubling-check",
        "seeing",
        "tying",
        "dumping",
    ]


def test_exercises_have_the_right_answer() -> None:
    from drills import NONE, Drills
    from words import Words

    drills = Drills(Words(random.Random(4), odd=0.4))
    seen = set()
    for _ in range(200):
        [one] = drills.group(1)
        named, last = one.messages[0]["content"], one.messages[-1]
        seen.add(named)
        if named == "Find.":
            rows = json.loads(one.messages[2]["content"])["content"].split("\n")
            said = one.messages[1]["content"].split()
            if last["content"] == NONE:
                assert not any(row.startswith(tuple(said)) for row in rows)
            else:
                assert any(last["content"] in row for row in rows)
        if named == "Tell.":
            table = json.loads(one.messages[2]["content"])["content"]
            assert table.replace("\n", ", ") == last["content"]
        if named == "Say.":
            path, told = (message["content"] for message in one.messages[1:3])
            table = json.loads(told)["content"].strip("\n")
            assert last["content"] == f"{path} says: {table}.".replace("\n", ", ")
        if named == "Choose.":
            call = last["tool_calls"][0]["function"]
            offered = {t["function"]["name"]: t["function"]["description"] for t in one.tools}
            said = one.messages[1]["content"].split()[:-1]
            assert set(said) <= set(offered[call["name"]].split())
        if named == "Take the path.":
            path = last["tool_calls"][0]["function"]["arguments"]["path"]
            assert [w.rstrip(":,") for w in one.messages[1]["content"].split()].count(path) == 1
        if named == "Take the path and the text.":
            both = last["tool_calls"][0]["function"]["arguments"]
            said = one.messages[1]["content"]
            assert said.replace(both["path"], "").count(both["content"]) == 1
        if named == "Take both.":
            texts = last["tool_calls"][0]["function"]["arguments"]
            said = one.messages[1]["content"]
            assert 0 < said.index(texts["old"]) < said.rindex(texts["new"])
    calling = {"Choose.", "Take the path.", "Take the path and the text.", "Take both."}
    telling = {"Find.", "Find the line.", "Repeat.", "Sum.", "List.", "Tell.", "Say."}
    assert seen == calling | telling


@pytest.mark.parametrize("held_out", [False, True])
def test_words_keep_to_their_side(held_out: bool) -> None:
    from words import Words, is_held_out

    words = Words(random.Random(1), held_out)
    drawn = [word for _ in range(300) for word in (words.made(), words.common())]
    assert len(set(drawn)) > 200
    assert {is_held_out(word) for word in drawn} == {held_out}


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        (Fraction(1, 4), "0.25"),
        (Fraction(12), "12"),
        (Fraction(-1, 8), "-0.125"),
        (Fraction(10, 3), "≈3." + "3" * 33),
        (Fraction(-7, 3), "≈-2." + "3" * 33),
    ],
)
def test_decimals_are_those_of_calc(value: Fraction, digits: str) -> None:
    from sums import decimal

    assert decimal(value) == digits


def test_results_are_what_a_tool_message_carries(made: list[Any]) -> None:
    contents = [t["content"] for m in made for t in m.messages if t["role"] == "tool"]
    assert len(contents) > 300
    assert all(isinstance(json.loads(content), dict) for content in contents)
