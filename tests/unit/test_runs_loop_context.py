"""Fitting a conversation: what is given up first, and what never is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.inference import FunctionSpec, Message, ToolCall
from node.runs.context import Conversation, Exchange, Plan, plan

TOOLS = (FunctionSpec("read", "Read", {"type": "object"}),)


async def count(messages: tuple[Message, ...], tools: tuple[FunctionSpec, ...]) -> int:
    """A token a character, four a message, ten a tool."""
    return sum(len(message.content) + 4 for message in messages) + 10 * len(tools)


def talk(*sizes: int, goal: str = "the goal", summary: str = "") -> Conversation:
    exchanges = tuple(
        Exchange(
            Message("assistant", "", (ToolCall("read", {"path": f"{n}"}),)),
            (Message("tool", chr(97 + n) * size, name="read"),),
        )
        for n, size in enumerate(sizes)
    )
    return Conversation("be brief", goal, exchanges=exchanges, summary=summary)


async def made_to_fit(conversation: Conversation, room: int) -> tuple[Plan, Conversation]:
    """The plan, and the conversation after it with the longest summary it allows."""
    found = await plan(conversation, tools=TOOLS, room=room, count=count)
    left = conversation
    if found.keep is not None:
        left = left.cut(found.keep)
    if found.summarise:
        left = left.without(found.summarise)
        whole = "s" * found.summary_tokens
        note = len("\n\nNotes on what was done so far: ")
        left = Conversation(left.instructions, left.goal, (), whole[note:], left.exchanges)
    return found, left


async def test_the_oldest_are_summarised_and_the_newest_kept_whole() -> None:
    found, left = await made_to_fit(talk(200, 200, 200, 200), 600)
    assert found.fits
    assert 1 <= found.summarise <= 3
    assert found.keep is None
    assert left.exchanges[-1].results[0].content == "d" * 200
    assert await count(left.messages(), TOOLS) <= 600


async def test_a_last_result_that_is_too_long_is_cut_and_says_so() -> None:
    found, left = await made_to_fit(talk(5000), 600)
    assert (found.summarise, found.keep is not None) == (0, True)
    content = left.exchanges[-1].results[0].content
    assert content.endswith("of 5000 characters left out]")
    assert 300 < len(content) < 600
    assert left.goal == "the goal"


async def test_both_where_one_is_not_enough() -> None:
    found, left = await made_to_fit(talk(300, 300, 5000), 600)
    assert found.summarise == 2
    assert found.keep is not None
    assert await count(left.messages(), TOOLS) <= 600


async def test_what_cannot_fit_says_by_how_much() -> None:
    found = await plan(talk(100, goal="g" * 700), tools=TOOLS, room=600, count=count)
    assert not found.fits
    assert found.least_tokens > found.room


async def test_a_request_for_a_summary_fits_too() -> None:
    conversation = talk(5000, 5000, 50)
    found = await plan(conversation, tools=TOOLS, room=600, count=count)
    request = conversation.notes(found.summarise, found.notes)
    assert await count(request, ()) <= 600 - found.summary_tokens
    assert "read(path=0): aaaa" in request[-1].content
    assert "read(path=1): bbbb" in request[-1].content


@given(
    sizes=st.lists(st.integers(0, 2000), min_size=1, max_size=8),
    room=st.integers(200, 3000),
    goal=st.integers(1, 300),
)
@settings(max_examples=200, deadline=None)
async def test_a_plan_that_fits_does_fit(sizes: list[int], room: int, goal: int) -> None:
    conversation = talk(*sizes, goal="g" * goal)
    found, left = await made_to_fit(conversation, room)
    assert Plan(**found.to_json()) == found  # type: ignore[arg-type]
    if not found.fits:
        assert (
            await count(conversation.without(len(sizes) - 1).cut(0).messages(), TOOLS) + (room // 8)
            > room - room // 8
        )
        return
    assert await count(left.messages(), TOOLS) <= room
    assert left.goal == "g" * goal
    assert len(left.exchanges) >= 1
    assert len(left.exchanges) + found.summarise == len(sizes)


def test_the_order_of_messages() -> None:
    conversation = Conversation(
        "be brief", "the goal", memory=(Message("user", "memory"),), summary="so far"
    ).with_exchange(talk(1).exchanges[0])
    conversation = conversation.with_repair("bad", "try again")
    assert [(each.role, each.content) for each in conversation.messages()] == [
        ("system", "be brief"),
        ("user", "the goal\n\nNotes on what was done so far: so far"),
        ("user", "memory"),
        ("assistant", ""),
        ("tool", "a"),
        ("assistant", "bad"),
        ("user", "try again"),
    ]
    assert conversation.with_exchange(talk(1).exchanges[0]).pending == ()


def test_without_instructions_there_is_no_system_message() -> None:
    assert Conversation("", "the goal").messages() == (Message("user", "the goal"),)


def test_an_outline_names_what_was_called() -> None:
    assert talk(1, 1, 1, summary="Before.").outline(2) == "Before. Then called: read, read."


@pytest.mark.parametrize("keep", [0, 1, 10])
def test_a_cut_is_visible(keep: int) -> None:
    content = talk(50).cut(keep).exchanges[0].results[0].content
    assert content == "a" * keep + f" [cut: {50 - keep} of 50 characters left out]"
