"""Frames, the sampler, and the scripted double."""

from __future__ import annotations

import asyncio
import io
import os
from contextlib import aclosing, suppress

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.errors import ContextOverflowError, InferenceError, ModelError, RunnerCrashedError
from node.inference import (
    Call,
    Engine,
    Fail,
    Finish,
    FunctionSpec,
    Generation,
    Message,
    Sampling,
    Say,
    ScriptedEngine,
    ToolCall,
    Wait,
)
from node.inference.llama import packing, protocol
from node.inference.llama.sampler import Logits, Sampler, places, top

EXAMPLES = int(os.environ.get("FREEHOLD_TEST_EXAMPLES", "100"))
REQUEST = Generation(
    "default",
    (Message("user", "a\n"), Message("assistant", "", (ToolCall("f", {"x": [1, None]}),))),
    tools=(FunctionSpec("f", "does", {"type": "object", "z": 1, "a": 2}),),
    tool_choice="required",
    sampling=Sampling(temperature=0.5, stop=("x", "y"), seed=7),
)
FINISH = Finish(
    reason="tool_calls",
    text="",
    raw="r",
    tool_calls=(ToolCall("f", {}),),
    prompt_tokens=3,
    completion_tokens=2,
    seconds=0.5,
    sampling=REQUEST.sampling,
)


# ── frames ──────────────────────────────────────────────────────────────────────────────────


def test_requests_and_finishes_go_round() -> None:
    frame = protocol.decode(protocol.encode(packing.pack_request(REQUEST))[4:])
    back = packing.unpack_request(frame)
    assert back == Generation("", *list(vars(REQUEST).values())[1:])
    assert list(back.tools[0].parameters) == ["type", "z", "a"]  # order of keys is kept
    assert (
        packing.unpack_finish(protocol.decode(protocol.encode(packing.pack_finish(FINISH))[4:]))
        == FINISH
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reason", 1),
        ("prompt_tokens", True),
        ("tool_calls", [["f", {}]]),
        ("tool_calls", [{"name": "f", "arguments": []}]),
        ("malformed", 0),
        ("sampling", {}),
        ("sampling", None),
    ],
)
def test_a_finish_of_the_wrong_kind_is_refused(key: str, value: object) -> None:
    frame = {**packing.pack_finish(FINISH), "tool_calls": [], key: value}
    with pytest.raises(protocol.ProtocolError):
        packing.unpack_finish(frame)


def test_numbers_that_are_not_json_are_refused() -> None:
    with pytest.raises(protocol.ProtocolError, match="NaN is not JSON"):
        protocol.decode(b'{"a": NaN}')


def test_errors_keep_their_class() -> None:
    error = ContextOverflowError("too long", hint="shorten")
    back = protocol.to_error(protocol.error_frame(3, error))
    assert type(back) is ContextOverflowError
    assert (back.message, back.hint) == ("too long", "shorten")
    assert type(protocol.to_error({"kind": "SystemExit"})) is InferenceError


def test_caps_hold_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_FRAME_BYTES", 100)
    with pytest.raises(InferenceError, match="over the limit of 100"):
        protocol.encode({"text": "x" * 100})
    with pytest.raises(protocol.ProtocolError, match="over the limit"):
        protocol.read(io.BytesIO(b"\xff\xff\xff\xff"))
    with pytest.raises(InferenceError, match="surrogates"):
        protocol.encode({"text": "\ud800"})


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2**53),
            st.text(st.characters(exclude_categories=["Cs"])),
            st.text(st.characters(exclude_categories=["Cs"])),
        )
    )
)
def test_a_step_s_pieces_are_one_frame(rows: list[tuple[int, str, str]]) -> None:
    frame = protocol.read(io.BytesIO(protocol.encode_pieces(rows)))
    assert frame is not None
    assert frame["event"] == "tokens"
    assert protocol.pieces(frame) == rows


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.binary(max_size=40))
def test_any_bytes_are_a_frame_an_end_or_a_protocol_error(data: bytes) -> None:
    try:
        frame = protocol.read(io.BytesIO(data))
    except protocol.ProtocolError:
        return
    assert frame is None or isinstance(frame, dict)


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "tools", "role", "content", "sampling", "tool_calls", "stop"]
            ),
            inner,
        )
    ),
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    frame=st.dictionaries(
        st.sampled_from([*vars(FINISH), "messages", "tools", "tool_choice"]), json_values
    )
)
def test_any_object_is_unpacked_or_a_protocol_error(frame: protocol.Frame) -> None:
    for unpack, kind in ((packing.unpack_request, Generation), (packing.unpack_finish, Finish)):
        with suppress(protocol.ProtocolError):
            found = unpack(frame)
            assert type(found) is kind


# ── the sampler ─────────────────────────────────────────────────────────────────────────────


class Only:
    """A grammar of single tokens, which counts how often all of it is asked for."""

    def __init__(self, *allowed: int) -> None:
        self.allowed = set(allowed)
        self.masks = 0

    def allows(self, token: int) -> bool:
        return token in self.allowed

    def mask(self, logits: Logits) -> None:
        self.masks += 1
        for token in range(len(logits)):
            if token not in self.allowed:
                logits[token] = -np.inf


def draw(
    logits: list[float],
    *,
    grammar: Only | None = None,
    **settings: float,
) -> int | None:
    return one(Sampler(Sampling(**settings), grammar), np.array(logits))  # type: ignore[arg-type]


def one(sampler: Sampler, logits: npt.NDArray[np.floating]) -> int | None:
    return sampler.draw(logits.astype(np.float32), int(logits.argmax()))


def test_greedy_takes_the_best_that_is_allowed() -> None:
    logits = [0.0, 5.0, 4.0, 3.0]
    assert draw(logits) == 1
    assert draw([0.0, -np.inf, 4.0, 3.0]) == 2
    assert draw([-np.inf] * 3) is None
    assert draw(logits, grammar=Only(0, 3)) == 3
    assert draw(logits, grammar=Only()) is None


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_ban_holds_unless_the_grammar_allows_nothing_else(temperature: float) -> None:
    logits = [9.0, 5.0, 4.0, 3.0, *([2.0] * 20)]
    ban = {"logit_bias": ((0, -100.0), (1, -100.0)), "temperature": temperature}
    assert draw(logits, grammar=Only(0, 3), **ban) == 3  # type: ignore[arg-type]
    assert draw(logits, grammar=Only(1), **ban) == 1  # type: ignore[arg-type]
    assert draw(logits, **ban) not in (0, 1)  # type: ignore[arg-type]


def test_the_whole_vocabulary_is_masked_only_after_several_refusals() -> None:
    near, far = Only(1), Only(99)
    logits = [float(token) for token in range(99, -1, -1)]
    assert draw(logits, grammar=near) == 1
    assert near.masks == 0
    assert draw(logits, grammar=far) == 99
    assert far.masks == 1


def test_a_seed_repeats_and_shares_follow_the_logits() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))

    def many(seed: int) -> list[int | None]:
        sampler = Sampler(Sampling(temperature=1.0, top_p=1.0, seed=seed), None)
        return [one(sampler, logits) for _ in range(4000)]

    assert many(1) == many(1) != many(2)
    shares = np.bincount(many(3)) / 4000
    assert np.allclose(shares, [0.5, 0.3, 0.15, 0.05], atol=0.03)


def test_any_seed_and_any_token_of_a_bias_will_do() -> None:
    """A caller has not seen the vocabulary."""
    logits = [0.0, 5.0, 4.0]
    for token in (3, 99, -1, 1 << 40):
        assert draw(logits, logit_bias=((token, 100.0),)) == 1  # type: ignore[arg-type]
    for seed in (-1, 1 << 80):
        assert draw([0.0, 500.0, 4.0], temperature=1.0, seed=seed) == 1


def test_top_k_and_top_p_cut_the_tail() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))

    def seen(**settings: float) -> set[int | None]:
        sampler = Sampler(Sampling(temperature=1.0, **settings), None)  # type: ignore[arg-type]
        return {one(sampler, logits) for _ in range(500)}

    assert seen(top_k=2, top_p=1.0) == {0, 1}
    assert seen(top_k=0, top_p=0.7) == {0, 1}
    assert seen(top_k=0, top_p=1.0) == {0, 1, 2, 3}


@settings(max_examples=EXAMPLES, deadline=None)
@given(tokens=st.sets(st.integers(0, 60)))
def test_places_are_the_tokens_and_few(tokens: set[int]) -> None:
    found, marked = places(tokens), np.zeros(64)
    for some in found:
        marked[some] = 1
    assert set(np.flatnonzero(marked)) == tokens
    runs = sum(token - 1 not in tokens for token in tokens)
    assert len(found) == (runs if runs <= 16 else 1)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    values=st.lists(st.floats(-40, 40, width=32) | st.just(-np.inf), min_size=1, max_size=60),
    count=st.integers(1, 60),
)
def test_the_largest_are_found(values: list[float], count: int) -> None:
    logits = np.array(values, dtype=np.float32)
    found = sorted(logits[top(logits, count)])
    assert found == sorted(logits)[-count:]


# ── the scripted double ─────────────────────────────────────────────────────────────────────


async def finish(engine: Engine, request: Generation = REQUEST) -> Finish:
    pieces = []
    async for token in engine.generate(request):
        pieces.append(token.text)
        if token.finish is not None:
            assert "".join(pieces) == token.finish.raw
            return token.finish
    raise AssertionError("no finish")


async def test_a_script_is_followed() -> None:
    engine = ScriptedEngine(
        [Say("Hello there."), Call(ToolCall("f", {"a": 1})), Say("{oops", malformed="not JSON")]
    )
    said, called, broken = [await finish(engine) for _ in range(3)]
    assert (said.reason, said.text, said.completion_tokens) == ("stop", "Hello there.", 4)
    assert (called.reason, called.tool_calls) == ("tool_calls", (ToolCall("f", {"a": 1}),))
    assert (broken.malformed, broken.text, broken.raw) == ("not JSON", "", "{oops")
    assert said.prompt_tokens == await engine.count(REQUEST)
    assert engine.requests == [REQUEST] * 3
    with pytest.raises(InferenceError, match="at its end"):
        await finish(engine)


async def test_a_script_may_be_a_function_of_the_request() -> None:
    engine = ScriptedEngine(lambda request: Say(request.messages[-1].content))
    assert (await finish(engine, Generation("default", (Message("user", "echo"),)))).text == "echo"


async def test_scripted_errors_and_limits() -> None:
    engine = ScriptedEngine([Fail(RunnerCrashedError("died"), "half a")], context_tokens=40)
    with pytest.raises(ModelError, match="no model 'other'"):
        await finish(engine, Generation("other", ()))
    with pytest.raises(ContextOverflowError, match=r"has 44 tokens.*holds 40"):
        await finish(engine, Generation("default", (Message("user", "a " * 20),)))
    stream = engine.generate(Generation("default", ()))
    assert [(await anext(stream)).text for _ in range(3)] == ["half", " ", "a"]
    with pytest.raises(RunnerCrashedError):
        await anext(stream)
    cut = ScriptedEngine([Call(ToolCall("f", {}))])
    short = Generation("default", (), sampling=Sampling(max_tokens=2))
    assert (await finish(cut, short)).malformed == "the tool call was cut off after 2 tokens"


async def test_a_scripted_answer_can_wait_and_be_cancelled() -> None:
    go, reached = asyncio.Event(), asyncio.Event()
    engine = ScriptedEngine([Wait(go, Say("a b c"), reached), Say("next")])
    task = asyncio.create_task(finish(engine))
    await reached.wait()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with aclosing(engine.generate(REQUEST)) as tokens:
        async for token in tokens:
            assert token.text == "next"
            break
