"""Judging what a model said."""

from __future__ import annotations

import time
from typing import Any

import pytest

from node.inference import ToolCall
from node.runs.offer import Offer
from node.runs.reply import Fault, Reply, judge

OFFER = Offer("t", "1", "read", "", {"type": "object"}, True, True, frozenset())


def judged(text: str, *, finish: str = "stop", seen: str = "", **more: Any) -> Reply | Fault:
    value = {"text": text, "finish": finish, **more}
    return judge(value, {"read": OFFER}, most_calls=2, seen=seen)


@pytest.mark.parametrize(
    "text",
    [
        "Hello.",
        "-" * 80,
        "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 9,
        "10^99 is 1" + "0" * 99,
        "The key is " + "q" * 58,
        "ha " * 12,
        " " * 40 + "x",
    ],
)
def test_text_is_an_answer(text: str) -> None:
    reply = judged(text)
    assert isinstance(reply, Reply)
    assert (reply.text, reply.calls) == (text, ())


@pytest.mark.parametrize("loop", ["cut ", "es", "I read it. ", "no\n"])
def test_a_text_that_loops_is_no_answer_unless_it_was_read(loop: str) -> None:
    text = "Well, " + loop * 40
    assert judged(text) == Fault("the answer repeats itself", text=True)
    assert judged(text, finish="length") == Fault("the answer repeats itself", text=True)
    assert isinstance(judged(text, seen=loop * 16), Reply)


def test_empty_and_cut_off_text_is_no_answer() -> None:
    assert judged(" \n ") == Fault("the answer was empty", text=True)
    assert judged("so", finish="length") == Fault(
        "the answer was cut off; it is too long", text=True
    )


def test_calls_of_what_was_offered_are_paired_with_it() -> None:
    reply = judged("I look.", tool_calls=[{"name": "read", "arguments": {"a": 1}}])
    assert isinstance(reply, Reply)
    assert reply.calls == ((OFFER, ToolCall("read", {"a": 1})),)
    assert reply.message.tool_calls == (ToolCall("read", {"a": 1}),)


def test_a_fault_in_a_call_is_not_one_of_a_text() -> None:
    many = [{"name": "read", "arguments": {}}] * 3
    assert judged("", tool_calls=many) == Fault("call at most 2 functions at once")
    assert judged("", malformed="bad " * 200) == Fault(("bad " * 200)[:400])
    unknown = judged("", tool_calls=[{"name": "rm", "arguments": {}}])
    assert unknown == Fault("there is no function rm; there are: read")


@pytest.mark.parametrize("unit", ["ab", "aab", "abcdefghijklmnopqrstuvwx", "a b c d "])
def test_judging_a_long_text_is_quick(unit: str) -> None:
    text = (unit * 15 + "!") * (60_000 // len(unit) // 15)
    started = time.thread_time()
    assert isinstance(judged(text), Reply)
    assert time.thread_time() - started < 5
