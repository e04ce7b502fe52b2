"""The bound on code that asks nobody, and the schemas that need it."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from node.alarm import time_limit
from node.inference.grammar.fits import schema_fault
from node.schemas import checker
from node.types import Json, JsonObject

# each `a` more doubles the time; this one takes hours
CATASTROPHIC: JsonObject = {
    "type": "object",
    "properties": {"text": {"type": "string", "pattern": "^(a+)+$"}},
}
LOOP: JsonObject = {"$ref": "#/$defs/loop"}
ENDLESS: Json = {"text": "a" * 48 + "!"}


def _branching(levels: int) -> JsonObject:
    """References that double at each level."""
    steps: dict[str, Json] = {
        f"s{at}": {"allOf": [{"$ref": f"#/$defs/s{at + 1}"}] * 2} for at in range(levels)
    }
    return {"type": "object", "$ref": "#/$defs/s0", "$defs": {**steps, f"s{levels}": {}}}


def _go_on(until: float) -> None:
    while time.monotonic() < until:
        pass


def test_code_that_goes_on_is_ended() -> None:
    with pytest.raises(TimeoutError), time_limit(0.05):
        re.search("^(a+)+$", "a" * 48 + "!")
    with pytest.raises(TimeoutError), time_limit(0.05):
        _go_on(time.monotonic() + 5)


def test_code_that_goes_on_although_it_was_told_is_told_again() -> None:
    def goes_on() -> None:
        with suppress(TimeoutError):
            _go_on(time.monotonic() + 5)
        _go_on(time.monotonic() + 5)

    with pytest.raises(TimeoutError), time_limit(0.05):
        goes_on()


def test_code_that_ends_hears_nothing_of_it_later() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(0.02):
        rings = signal.getsignal(signal.SIGALRM)
    assert callable(rings)
    rings(signal.SIGALRM, None)  # as where it does so while the block ends
    _go_on(time.monotonic() + 0.05)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_error_of_the_block_comes_out_and_nothing_stays_armed() -> None:
    with pytest.raises(KeyError), time_limit(5):
        raise KeyError
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_on_another_thread_it_bounds_nothing_and_breaks_nothing() -> None:
    done: list[int] = []

    def work() -> None:
        with time_limit(0.001):
            done.append(sum(range(100_000)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [sum(range(100_000))]


@pytest.mark.parametrize(
    ("schema", "value"), [(CATASTROPHIC, ENDLESS), (_branching(40), {})], ids=["pattern", "refs"]
)
def test_a_schema_that_takes_for_ever_is_a_fault_in_words(schema: JsonObject, value: Json) -> None:
    assert "cannot be applied within" in checker(schema).wrong(value)
    assert "cannot be applied within" in schema_fault(schema, value)
    assert checker(CATASTROPHIC).wrong({"text": "aaa"}) == ""


def _at_depth(frames: int, judge: Callable[[Json], str], value: Json) -> str:
    return judge(value) if frames == 0 else _at_depth(frames - 1, judge, value)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("loop", [{"not": LOOP}, {"oneOf": [{}, LOOP]}], ids=["not", "oneOf"])
def test_a_schema_that_refers_to_itself_is_a_fault_in_words_wherever_it_ends(
    loop: JsonObject,
) -> None:
    """Where the limit is met in Rust code, that panics: with something that is no Exception."""
    schema: JsonObject = {"properties": {"p": LOOP}, "$defs": {"loop": loop}}
    for judge in (checker(schema).wrong, partial(schema_fault, schema)):
        for frames in range(25):
            assert "cannot be applied" in _at_depth(frames, judge, {"p": 1})


def test_a_pattern_that_python_cannot_count_to_is_no_schema() -> None:
    with pytest.raises(ValueError, match="repetition"):
        checker({"type": "object", "properties": {"a": {"pattern": "x{99999999999}"}}})
