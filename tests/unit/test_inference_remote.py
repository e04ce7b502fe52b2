"""The remote engine's parts without a network: entries, chunks from anyone, estimates, routing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.clock import ManualClock
from node.errors import ContextOverflowError, InferenceError, ModelError, RemoteError
from node.inference.models.store import ModelStore
from node.inference.remote.calls import read_calls
from node.inference.remote.engine import RemoteEngine
from node.inference.remote.entries import REMOTE_FILE, RemoteModel, RemoteModels
from node.inference.remote.errors import server_error
from node.inference.remote.facts import estimate_text, estimate_tokens
from node.inference.remote.http import Server
from node.inference.remote.limits import Deadline, RemoteLimits
from node.inference.remote.reply import Reply
from node.inference.remote.request import messages_json, request_body, tools_json
from node.inference.routing import RoutedEngine
from node.inference.scripted import Say, ScriptedEngine
from node.inference.testing.gguf import write_tiny_gguf
from node.inference.types import (
    Finish,
    FunctionSpec,
    Generation,
    Message,
    Sampling,
    ToolCall,
)

REQUEST = Generation("far", (Message("user", "hello"),))
ADD = FunctionSpec("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})

# ── entries ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("address", "base"),
    [("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
     ("http://localhost:11434/", "http://localhost:11434/v1"),
     ("http://[::1]:1/v1/", "http://[::1]:1/v1"),
     ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1")],
)  # fmt: skip
def test_an_address_is_made_the_base_of_an_api(address: str, base: str) -> None:
    assert RemoteModel("far", address).url == base


@pytest.mark.parametrize(
    ("address", "words"),
    [("http://10.0.0.7:8080", "unencrypted"), ("http://localhost.evil.example", "unencrypted"),
     ("http://127.0.0.1.evil.example", "unencrypted"), ("ftp://x", "not an http"), ("", "not an"),
     ("https://", "not an"), ("https://user:key@host/v1", "more than"),
     ("http://127.0.0.1@evil.example/v1", "more than"), ("https://h/v1?key=1", "more than"),
     ("https://h/v1#x", "more than"),
     ("http://[::1", "not one"), ("https://\x00", "not one")],
)  # fmt: skip
def test_an_address_that_would_leak_is_refused(address: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        RemoteModel("far", address)


def test_plain_http_needs_to_be_said() -> None:
    assert RemoteModel("far", "http://10.0.0.7", plain_http=True).url == "http://10.0.0.7/v1"


def test_two_who_connect_at_once_lose_nothing(tmp_path: Path) -> None:
    def connect(number: int) -> None:
        RemoteModels(tmp_path).add(RemoteModel(f"m{number}", "https://a"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(connect, range(24)))
    assert len(RemoteModels(tmp_path).list()) == 24


def test_entries_are_kept_and_forgotten(tmp_path: Path) -> None:
    models, other = RemoteModels(tmp_path), RemoteModels(tmp_path)
    full = RemoteModel("far", "https://a/v1", "m", "k", 9, True, "/ca.pem")
    models.add(full)
    models.add(RemoteModel("away", "https://b"))
    assert other.get("far") == full
    assert [each.name for each in other.list()] == ["away", "far"]
    assert (tmp_path / REMOTE_FILE).stat().st_mode & 0o777 == 0o600
    models.remove("far")
    assert other.get("far") is None
    with pytest.raises(ModelError, match="no remote model"):
        models.remove("far")
    (tmp_path / REMOTE_FILE).unlink()
    assert other.list() == []


@pytest.mark.parametrize(
    "text",
    ["x", "far = 1", "[far]\nurl = 1", "[far]\nmodel = 'x'", "[far]\nurl = 'https://a'\nkee = 'x'",
     "[far]\nurl = 'https://a'\ncontext_tokens = true", "[FAR]\nurl = 'https://a'",
     "[far]\nurl = 'https://a'\ncontext_tokens = -1", "[far]\nurl = 'http://a'", "\udcff",
     f"[far]\nurl = 'https://a'\ncontext_tokens = {'9' * 5000}"],
)  # fmt: skip
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str) -> None:
    (tmp_path / REMOTE_FILE).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelError) as caught:
        RemoteModels(tmp_path).get("far")
    assert caught.value.hint


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_a_file_of_anything_is_read_or_refused(tmp_path_factory: Any, raw: bytes) -> None:
    folder = tmp_path_factory.mktemp("remotes")
    (folder / REMOTE_FILE).write_bytes(raw)
    with contextlib.suppress(ModelError):
        assert isinstance(RemoteModels(folder).list(), list)


# ── chunks ──────────────────────────────────────────────────────────────────────────────────

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=8),
    st.floats(allow_nan=False, allow_infinity=False),
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip
piece = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(-3, 5) | anything,
        "id": st.sampled_from(["a", "b", ""]) | anything,
        "function": anything
        | st.fixed_dictionaries(
            {}, optional={"name": st.sampled_from(["add", "x"]), "arguments": st.text(max_size=9)}
        ),
    },
)
delta = st.fixed_dictionaries(
    {},
    optional={
        "content": st.text(max_size=12) | st.sampled_from(["<think>", "</think>", "<thi", "STOP"]),
        "reasoning": st.text(max_size=4) | anything,
        "tool_calls": st.lists(piece, max_size=3) | anything,
    },
)
chunks = st.lists(
    anything.filter(lambda value: isinstance(value, dict))
    | st.fixed_dictionaries(
        {
            "choices": st.lists(
                st.fixed_dictionaries(
                    {"delta": delta},
                    optional={"finish_reason": st.sampled_from(["stop", "length", "x"])},
                ),
                max_size=2,
            )
        },
        optional={"usage": anything},
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(chunks, st.sampled_from(["auto", "none", "required"]), st.booleans())
def test_chunks_of_anyone_are_a_finish_or_an_error(
    values: list[Any], choice: Any, schema: bool
) -> None:
    request = Generation(
        "far",
        (Message("user", "x"),),
        (ADD,),
        choice,
        Sampling(max_tokens=50, stop=("1", "2", "3", "4", "STOP")),
        answer_schema={"type": "object"} if schema else None,
    )
    reply = Reply(request, "the server")
    try:
        tokens = [*(reply.add(value) for value in values), reply.rest()]
        shown = "".join(token.text for token in tokens)
        finish = reply.finish(seconds=0.0, prompt_estimate=7, context_tokens=100)
    except InferenceError:
        return
    assert 0 <= finish.completion_tokens <= 50
    assert 0 < finish.prompt_tokens <= 100
    assert "STOP" not in shown
    assert finish.reasoning == "".join(token.reasoning for token in tokens).strip()
    assert 0 <= finish.reasoning_tokens <= finish.completion_tokens
    assert finish.malformed or shown.strip().endswith(finish.text)
    assert finish.malformed or finish.reasoning or finish.text == shown.strip()
    assert not (finish.malformed and finish.tool_calls)
    for call in finish.tool_calls:
        assert call.name == "add"
        assert isinstance(call.arguments.get("a", 0), int)
    assert choice != "none" or not finish.tool_calls


def test_blanks_without_end_are_not_held_back() -> None:
    """Each piece is looked at once, not all that came before it."""
    reply = Reply(REQUEST, "the server")
    shown = [reply.add({"choices": [{"delta": {"content": " " * 100}}]}) for _ in range(20)]
    assert [bool(token.text) for token in shown] == [False] * 10 + [True] * 10


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_a_server_says_of_an_error_in_the_middle_is_told(wrapped: bool) -> None:
    error = {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}
    reply = Reply(REQUEST, "the server")
    reply.add({"choices": [{"delta": {"content": "so"}}]})
    with pytest.raises(ContextOverflowError, match="Context size has been exceeded"):
        reply.add({"error": error} if wrapped else error)


def replied(*deltas: Any, finish: str = "stop") -> tuple[str, Finish]:
    """What was shown of an answer in these deltas, and how it ended."""
    reply = Reply(replace(REQUEST, tools=(ADD,)), "the server")
    ends = {"choices": [{"delta": {}, "finish_reason": finish}]}
    chunks: list[Any] = [*({"choices": [{"delta": each}]} for each in deltas), ends]
    shown = "".join([*(reply.add(each).text for each in chunks), reply.rest().text])
    return shown, reply.finish(seconds=0.0, prompt_estimate=7, context_tokens=100)


@pytest.mark.parametrize("cut", range(1, 33, 4))
def test_thoughts_whose_beginning_the_prompt_had_are_not_the_answer(cut: int) -> None:
    """So do Qwen3's thinking models and R1 behind a server that does not tell thoughts apart."""
    text = "So 2 and 2: 4.\n</think>\n\nFour."
    _, finish = replied({"content": text[:cut]}, {"content": text[cut:]})
    assert (finish.text, finish.reasoning) == ("Four.", "So 2 and 2: 4.")


def test_thoughts_without_end_are_no_answer() -> None:
    shown, finish = replied({"content": "<think>Hm, "}, {"content": "hm"}, finish="length")
    assert (shown, finish.text, finish.reasoning) == ("", "", "Hm, hm")


def test_a_mark_in_an_answer_whose_thoughts_were_told_apart_is_text() -> None:
    said = "Thoughts end at </think> there."
    for before in ({"reasoning_content": "Hm."}, {"content": "<think>Hm.</think>"}):
        shown, finish = replied(before, {"content": said})
        assert (shown, finish.text, finish.reasoning) == (said, said, "Hm.")


def test_calls_with_one_id_are_told_apart_by_their_places() -> None:
    pieces = [
        {"index": n, "id": "call_add", "function": {"name": "add", "arguments": f'{{"a": {n}}}'}}
        for n in range(3)
    ]
    _, finish = replied({"tool_calls": pieces}, finish="tool_calls")
    assert finish.malformed is None
    assert [call.arguments for call in finish.tool_calls] == [{"a": 0}, {"a": 1}, {"a": 2}]


def test_an_answer_of_a_schema_that_is_cut_off_is_cut_off() -> None:
    reply = Reply(replace(REQUEST, answer_schema={"type": "object"}), "the server")
    reply.add({"choices": [{"delta": {"content": '{"a'}, "finish_reason": "length"}]})
    reply.rest()
    finish = reply.finish(seconds=0.0, prompt_estimate=7, context_tokens=100)
    assert (finish.reason, finish.malformed, finish.text) == ("length", None, '{"a')


def test_a_share_is_no_more_than_the_whole() -> None:
    reply = Reply(REQUEST, "the server")
    told = {"prompt_tokens_details": {"cached_tokens": 10**9}}
    details = {"completion_tokens_details": {"reasoning_tokens": 10**9}}
    reply.add({**LAST, "usage": {**LAST["usage"], **told, **details}})
    reply.add({"choices": [{"delta": {"content": "so"}, "finish_reason": "stop"}]})
    finish = reply.finish(seconds=0.0, prompt_estimate=7, context_tokens=100)
    assert (finish.prompt_tokens, finish.prompt_tokens_cached) == (20, 20)
    assert (finish.completion_tokens, finish.reasoning_tokens) == (40, 40)


@pytest.mark.parametrize("reason", ["length", "model_length"])
def test_an_answer_that_fills_the_context_is_cut_under_any_name(reason: str) -> None:
    assert replied({"content": "and so"}, finish=reason)[1].reason == "length"


def piece_of(call: Any = None, delta: Any = None, end: str | None = None) -> dict[str, Any]:
    told = delta or ({"tool_calls": [call]} if call else {})
    return {"choices": [{"index": 0, "delta": told, "finish_reason": end, "logprobs": None}]}


def call_of(index: int, number: str | None, name: str | None, arguments: str | None) -> Any:
    function = {"name": name, "arguments": arguments}
    told = {"index": index, "id": number, "type": number and "function", "function": function}
    return {key: value for key, value in told.items() if value is not None}


LAST = {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60}}
STREAMS: dict[str, list[Any]] = {
    "Ollama": [  # whole calls, all numbered 0 by some of its parsers; thoughts before them
        piece_of(delta={"role": "assistant", "content": "", "reasoning": "Hm."}),
        piece_of(delta={"content": "", "tool_calls": [call_of(0, "c1", "add", '{"a":1}')]}),
        piece_of(delta={"content": "", "tool_calls": [call_of(0, "c2", "add", '{"a":2}')]}),
        piece_of(end="tool_calls"),
        LAST,
    ],
    "vLLM": [  # arguments in pieces without id and name, the last beside the end
        piece_of(delta={"role": "assistant", "content": ""}),
        piece_of(delta={"reasoning": "Hm.", "reasoning_content": "Hm."}),
        piece_of(call_of(0, "chatcmpl-tool-1", "add", None)),
        piece_of(call_of(0, None, None, '{"a"')),
        piece_of(call_of(0, None, None, ": 1}")),
        piece_of(call_of(1, "chatcmpl-tool-2", "add", '{"a"')),
        piece_of(call_of(1, None, None, ": 2}"), end="tool_calls"),
        LAST,
    ],
    "SGLang": [  # all numbered 0, told apart by their ids
        piece_of(delta={"role": "assistant", "content": "", "reasoning_content": "Hm."}),
        piece_of(call_of(0, "0", "add", "")),
        piece_of(call_of(0, "0", None, '{"a": 1}')),
        piece_of(call_of(0, "1", "add", "")),
        piece_of(call_of(0, "1", None, '{"a": 2}')),
        piece_of(end="tool_calls"),
        LAST,
    ],
}


@pytest.mark.parametrize("name", STREAMS)
def test_each_server_s_way_of_calling_is_understood(name: str) -> None:
    reply = Reply(replace(REQUEST, tools=(ADD,)), "the server")
    shown = [*map(reply.add, STREAMS[name]), reply.rest()]
    finish = reply.finish(seconds=0.0, prompt_estimate=7, context_tokens=100)
    assert [call.arguments for call in finish.tool_calls] == [{"a": 1}, {"a": 2}]
    assert (finish.reason, finish.malformed, finish.reasoning) == ("tool_calls", None, "Hm.")
    assert (finish.prompt_tokens, finish.completion_tokens, finish.estimated) == (20, 40, False)
    assert not any(token.text for token in shown)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.text(max_size=40))
def test_calls_of_anyone_are_judged(name: str, arguments: str) -> None:
    request = Generation("far", (), (ADD,))
    calls, why = read_calls(request, [(name, arguments)])
    assert bool(calls) != bool(why)


@settings(max_examples=100, deadline=None)
@given(anything, st.integers(100, 599))
def test_errors_of_anyone_are_told_in_one_line(body: Any, status: int) -> None:
    error = server_error("the server", body, status)
    assert len(error.message) < 400
    assert error.message.isprintable()


async def events_of(raw: bytes, cuts: list[int]) -> list[str] | str:
    """The events in a stream that arrives in pieces, or the error it comes to."""

    async def pieces() -> AsyncIterator[bytes]:
        start = 0
        for end in [*sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]:
            yield raw[start:end]
            start = end

    limits = RemoteLimits(line_bytes=60)
    server = Server(
        RemoteModel("far", "http://127.0.0.1:9"),
        headers=lambda _remote: {},
        limits=limits,
        clock=ManualClock(),
    )
    response = httpx.Response(200, content=pieces())
    try:
        return [each async for each in server.reader.events(response, Deadline(limits), 400)]
    except RemoteError as error:
        return error.message
    finally:
        await server.aclose()


lines = st.sampled_from(
    [b"data: {}", b"data:x", b": hm", b"event: a", b"", b"data", b"error: no", b"\xff", b"a" * 70]
) | st.binary(max_size=9)


@settings(max_examples=150, deadline=None)
@given(st.lists(lines, max_size=9).map(b"\n".join), st.lists(st.integers(0, 400), max_size=5))
def test_a_stream_is_the_same_however_it_arrives(raw: bytes, cuts: list[int]) -> None:
    whole = asyncio.run(events_of(raw, []))
    assert asyncio.run(events_of(raw, cuts)) == whole
    longest = max(len(line) for line in raw.split(b"\n"))
    assert (longest > 60) is isinstance(whole, str)


def test_events_are_read_as_the_standard_says() -> None:
    raw = b": hello\r\ndata: a\r\ndata: b\r\n\r\nevent: x\ndata:c\n\n\ndata: last"
    assert asyncio.run(events_of(raw, [])) == ["a\nb", "c", "last"]


def test_a_result_is_of_the_call_of_its_name() -> None:
    """Calls made at once may end in any order."""
    calls = tuple(ToolCall(name, {}) for name in ("a", "b", "b"))
    results = [Message("tool", text, name=text[0]) for text in ("b1", "a1", "b2", "c1")]
    turns: Any = messages_json((Message("assistant", "", calls), *results))
    made = {turn["tool_call_id"]: turn["content"] for turn in turns[1:]}
    ids = [call["id"] for call in turns[0]["tool_calls"]]
    assert [made[number] for number in ids] == ["a1", "b1", "b2"]


def test_what_only_some_servers_know_goes_only_to_them() -> None:
    request = Generation("far", REQUEST.messages, (ADD,), "none")
    assert "top_k" in request_body(request, "m", "vllm")
    assert "top_k" not in request_body(request, "m", "openai")
    assert request_body(request, "m", "openai")["tool_choice"] == "none"
    assert "tools" not in request_body(request, "m", "ollama")


def test_a_function_without_arguments_is_of_an_object_all_the_same() -> None:
    tools: Any = tools_json(replace(REQUEST, tools=(FunctionSpec("now", "", {}),)))
    assert tools[0]["function"]["parameters"] == {"type": "object", "properties": {}}


def test_a_schema_that_refers_elsewhere_is_not_fetched() -> None:
    far = FunctionSpec("f", "", {"$ref": "http://127.0.0.1:9/schema.json"})
    calls, why = read_calls(Generation("far", (), (far,)), [("f", "{}")])
    assert not calls
    assert "cannot be applied" in str(why)


# ── estimates ───────────────────────────────────────────────────────────────────────────────

TEXTS = (
    "The quick brown fox jumps over the lazy dog, twice a day, and 3.14159 times on Sundays.",
    "Größenwahnsinnige Übersetzungsgeschwindigkeiten überraschen naïve Zuhörer.",
    "def f(x_1, *args):\n    return {'a': [x_1 ** 2 for _ in range(10)]}  # noqa: E501\n",
    "aGVsbG8gd29ybGQsIHRoaXMgaXMgYmFzZTY0Lg==",
    "東京都千代田区で会議があります。 Привет, мир! 👩‍👩‍👧‍👦",
    "    \t\t\n\n\n   indented    text",
    json.dumps({"name": "add", "parameters": {"type": "object", "required": ["a"]}}),
)


@pytest.mark.parametrize("text", TEXTS)
def test_an_estimate_lies_between_pieces_and_bytes(text: str) -> None:
    """No tokenizer joins a digit, a mark or a word with the next; none makes more than bytes."""
    pieces = re.findall(r"[A-Za-z]+|\d{3}|[^\sA-Za-z]", text)
    assert len(text.encode()) >= estimate_text(text) >= len(pieces)


def test_an_estimate_of_prose_is_about_twice_of_what_tokenizers_make() -> None:
    words = TEXTS[0].split()
    assert 1.3 * len(words) < estimate_text(TEXTS[0]) < 3.5 * len(words)


def test_an_estimate_counts_tools_and_every_turn() -> None:
    bare = estimate_tokens(REQUEST)
    two = Generation("far", (*REQUEST.messages, *REQUEST.messages))
    assert estimate_tokens(two) == 2 * bare
    assert estimate_tokens(Generation("far", REQUEST.messages, (ADD,))) > bare + 500
    assert estimate_tokens(replace(two, tools=(ADD,)), known=1) == bare


# ── routing ─────────────────────────────────────────────────────────────────────────────────


async def test_a_name_goes_to_its_engine(tmp_path: Path) -> None:
    models, store = RemoteModels(tmp_path), ModelStore(tmp_path)
    local = ScriptedEngine([Say("here")], models=("default", "near"))
    routed = RoutedEngine(local, RemoteEngine(models), pins=store)
    assert routed.destination("near") is None
    assert (await routed.info("default")).remote is False
    models.add(RemoteModel("default", "http://127.0.0.1:9"))
    found = routed.destination("default")
    assert found is not None
    assert found.url == "http://127.0.0.1:9/v1"
    await routed.aclose()


async def test_a_name_that_is_both_is_refused(tmp_path: Path) -> None:
    models, store = RemoteModels(tmp_path), ModelStore(tmp_path)
    store.add(write_tiny_gguf(tmp_path / "x.gguf"), "both")
    models.add(RemoteModel("both", "http://127.0.0.1:9"))
    routed = RoutedEngine(ScriptedEngine([]), RemoteEngine(models), pins=store)
    with pytest.raises(ModelError, match="local model's and a remote one's"):
        routed.destination("both")
    with pytest.raises(ModelError, match="local model's and a remote one's"):
        await routed.count(Generation("both", ()))


async def test_a_request_goes_nowhere_but_where_it_is_bound_for(tmp_path: Path) -> None:
    """The model was moved after whoever asks had decided, and perhaps asked a person."""
    models = RemoteModels(tmp_path)
    remote = RemoteEngine(models)
    routed = RoutedEngine(ScriptedEngine([Say("here")], models=("far",)), remote)
    models.add(RemoteModel("far", "http://127.0.0.1:9"))
    elsewhere = Generation("far", REQUEST.messages, bound_for="https://a.example/v1")
    here = Generation("far", REQUEST.messages, bound_for="")
    for request in (elsewhere, here):
        for engine in (routed, remote):
            with pytest.raises(ModelError, match="is not sent elsewhere"):
                await engine.count(request)
            with pytest.raises(ModelError, match="is not sent elsewhere"):
                await anext(aiter(engine.generate(request)))
    models.remove("far")
    with pytest.raises(ModelError, match="is at this machine now"):
        await routed.count(elsewhere)
    assert await routed.count(here) > 0
    await routed.aclose()
