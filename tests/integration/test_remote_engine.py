"""The remote engine against a server of its own over real sockets, good, broken and hostile."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from helpers.inference import collect

from node.clock import ManualClock
from node.errors import (
    ContextOverflowError,
    EngineBusyError,
    FreeholdError,
    IdentityError,
    InferenceError,
    ModelError,
    RemoteError,
    RemoteRefusedError,
)
from node.inference.remote.engine import RemoteEngine
from node.inference.remote.entries import RemoteModel, RemoteModels
from node.inference.remote.http import Server
from node.inference.remote.limits import RemoteLimits
from node.inference.testing.server import (
    LLAMA_SERVER,
    MODEL,
    OLLAMA,
    ROUTER,
    SERVICE,
    VLLM,
    Answer,
    ModelServer,
    call,
    chunk,
    ending,
    event,
    refuse,
    say,
    usage,
    whole,
    write_call,
)
from node.inference.types import (
    Finish,
    FunctionSpec,
    Generation,
    Message,
    Outward,
    Sampling,
    ToolCall,
)

KEY = "sk-very-secret-0123456789"
ADD = FunctionSpec(
    "add",
    "Adds.",
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "maximum": 9}},
        "required": ["a"],
    },
)
SMALL = RemoteLimits(
    connect_s=20, ask_s=20, first_token_s=60, between_s=60, whole_s=60, line_bytes=20_000
)


def asking(text: str = "How are you?", **more: Any) -> Generation:
    return Generation("far", (Message("system", "Be brief."), Message("user", text)), **more)


def engine(
    tmp_path: Path, server: ModelServer, limits: RemoteLimits | None = None, **entry: Any
) -> RemoteEngine:
    models = RemoteModels(tmp_path)
    models.add(RemoteModel(**{"name": "far", "url": server.url, **entry}))
    keyed = {"Authorization": f"Bearer {KEY}"} if entry.get("key") else {}
    return RemoteEngine(models, headers=lambda _remote: keyed, limits=limits)


async def ask(
    tmp_path: Path,
    answer: Any,
    request: Generation | None = None,
    limits: RemoteLimits | None = None,
    **more: Any,
) -> Finish:
    """What one scripted answer comes to."""
    async with ModelServer([answer], **more) as server:
        remote = engine(tmp_path, server, limits)
        try:
            return (await collect(remote, request or asking()))[1]
        finally:
            await remote.aclose()


async def fails(tmp_path: Path, answer: Any, *words: str, **more: Any) -> FreeholdError:
    with pytest.raises(InferenceError) as caught:
        await ask(tmp_path, answer, **more)
    for word in words:
        assert word in caught.value.diagnostics()
    return caught.value


@dataclass(frozen=True)
class LoopbackTls:
    """A certificate for 127.0.0.1 that nobody trusts but who is given it, or its authority's, which
    is as plain `openssl req -x509` makes one and does not say what its key is for."""

    context: ssl.SSLContext
    folder: Path


@pytest.fixture(scope="module")
def loopback_tls(tmp_path_factory: pytest.TempPathFactory) -> LoopbackTls:
    folder = tmp_path_factory.mktemp("tls")
    root, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate("home", root.public_key(), "home", root, is_authority=True)
    certificate = _certificate("loopback", key.public_key(), "home", root)
    (folder / "authority.pem").write_bytes(authority.public_bytes(Encoding.PEM))
    file = folder / "certificate.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    secret = folder / "key.pem"
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, secret)
    return LoopbackTls(context, folder)


def _certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool = False,
) -> x509.Certificate:
    subject, by = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)
    )
    now = datetime.now(UTC)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder(by, subject, key, x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(addresses, critical=False)
        .sign(signer, hashes.SHA256())
    )


# ── what is sent, what comes back ───────────────────────────────────────────────────────────


async def test_text_streams_and_is_counted(tmp_path: Path) -> None:
    async with ModelServer([say("I am well, thank you", prompt=17)]) as server:
        remote = engine(tmp_path, server)
        text, finish = await collect(remote, asking())
        await remote.aclose()
    assert text == finish.text == finish.raw == "I am well, thank you"
    assert (finish.reason, finish.prompt_tokens, finish.completion_tokens) == ("stop", 17, 5)
    assert (finish.remote, finish.estimated, finish.model_sha256) == (server.url, False, "")


async def test_the_request_is_what_the_api_says(tmp_path: Path) -> None:
    done = ToolCall("add", {"a": 1})
    messages = (
        Message("user", "1+?"),
        Message("assistant", "", (done, ToolCall("add", {"a": 2}))),
        Message("tool", "3", name="add"),
        Message("tool", "4", name="add"),
    )
    sampling = Sampling(temperature=0.5, top_k=7, seed=3, max_tokens=9, stop=("END",))
    request = Generation("far", messages, (ADD,), sampling=sampling)
    async with ModelServer([say("4")]) as server:
        remote = engine(tmp_path, server, key="far-key")
        await collect(remote, request)
        await remote.aclose()
    (asked,) = server.generations
    body = asked.body
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["accept-encoding"] == "identity"
    assert (body["model"], body["stream"], body["max_tokens"], body["top_k"]) == (MODEL, True, 9, 7)
    assert (body["stop"], body["seed"], body["stream_options"]) == (
        ["END"], 3, {"include_usage": True},
    )  # fmt: skip
    assert body["tool_choice"] == "auto"
    assert body["tools"][0]["function"]["parameters"] == ADD.parameters
    ids = [each["id"] for each in body["messages"][1]["tool_calls"]]
    assert [each["tool_call_id"] for each in body["messages"][2:]] == ids
    assert len(set(ids)) == 2
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def unsupported(setting: str, code: str = "unsupported_parameter") -> Answer:
    error = {"message": f"Unsupported: {setting!r}", "param": setting, "code": code}
    return replace(whole({"error": error}), status=400)


async def test_a_model_is_asked_again_without_what_it_does_not_take(tmp_path: Path) -> None:
    """As OpenAI's that reason: with the new name of the limit, and no temperature."""
    replies = [unsupported("max_tokens"), unsupported("temperature", "unsupported_value")]
    async with ModelServer([*replies, say("4"), say("5"), *replies]) as server:
        remote = engine(tmp_path, server)
        for text in "45":
            assert (await collect(remote, asking()))[1].text == text
        with pytest.raises(RemoteRefusedError, match="Unsupported"):
            await collect(remote, asking())
        await remote.aclose()
    first, second, third, *later = (each.body for each in server.generations)
    assert first["max_tokens"] == second["max_completion_tokens"]
    assert ("max_tokens" in second, "temperature" in second) == (False, True)
    assert third == {name: value for name, value in second.items() if name != "temperature"}
    assert later == [third, third]


async def test_a_redirect_is_a_refusal(tmp_path: Path) -> None:
    """So that nothing counts as made."""
    away = Answer(status=307, headers={"Location": "http://127.0.0.1:1/"})
    assert isinstance(await fails(tmp_path, away, "redirects"), RemoteRefusedError)


async def test_the_environment_s_proxies_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert (await ask(tmp_path, say("Yes."))).text == "Yes."


async def test_what_a_request_cannot_do_without_is_not_left_out(tmp_path: Path) -> None:
    error = await fails(tmp_path, unsupported("tools"), "status 400", "Unsupported: 'tools'")
    assert isinstance(error, RemoteRefusedError)


async def test_a_refusal_is_the_answer(tmp_path: Path) -> None:
    pieces = [chunk({"content": None, "refusal": "I can't "}), chunk({"refusal": "help."})]
    assert (await ask(tmp_path, Answer([*pieces, *ending()]))).text == "I can't help."


async def test_calls_come_in_pieces_and_in_parallel(tmp_path: Path) -> None:
    calls = (ToolCall("add", {"a": 1, "b": 2}), ToolCall("add", {"a": 30}))
    finish = await ask(tmp_path, call(*calls), asking(tools=(ADD,)))
    assert finish.tool_calls == calls
    assert (finish.reason, finish.malformed, finish.text) == ("tool_calls", None, "")


async def test_calls_all_numbered_nought_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    def one(number: str, arguments: str) -> bytes:
        function = {"name": "add", "arguments": arguments}
        return chunk({"tool_calls": [{"index": 0, "id": number, "function": function}]})

    answer = Answer([one("x", '{"a": 1}'), one("y", '{"a": 2}'), *ending("tool_calls")])
    finish = await ask(tmp_path, answer, asking(tools=(ADD,)))
    assert [each.arguments for each in finish.tool_calls] == [{"a": 1}, {"a": 2}]


async def test_a_reply_that_is_no_stream_is_taken_whole(tmp_path: Path) -> None:
    message = {"role": "assistant", "content": "All at once."}
    value = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage(8, 3)}
    finish = await ask(tmp_path, whole(value))
    assert (finish.text, finish.prompt_tokens) == ("All at once.", 8)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_is_never_the_answer(tmp_path: Path, field: str) -> None:
    pieces = [chunk({field: "Let me think."}), chunk({"content": "Yes."})]
    finish = await ask(tmp_path, Answer([*pieces, *ending()]))
    assert (finish.text, finish.raw) == ("Yes.", "Yes.")
    assert finish.reasoning == "Let me think."
    assert 0 < finish.reasoning_tokens < finish.completion_tokens


@pytest.mark.parametrize("cut", range(1, 30))
async def test_thoughts_between_marks_are_never_shown(tmp_path: Path, cut: int) -> None:
    text = "<think>no: it is 5</think>\n\nFour."
    pieces = [chunk({"content": text[:cut]}), chunk({"content": text[cut:]})]
    async with ModelServer([Answer([*pieces, *ending()])]) as server:
        remote = engine(tmp_path, server)
        shown, finish = await collect(remote, asking())
        await remote.aclose()
    assert (shown, finish.text, finish.reasoning) == ("Four.", "Four.", "no: it is 5")


async def test_a_schema_of_the_answer_is_asked_for_and_checked(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with ModelServer([say('{"n": 4}'), say('{"n": "four"}'), say("four")]) as server:
        remote = engine(tmp_path, server)
        found = [(await collect(remote, asking(answer_schema=schema)))[1] for _ in range(3)]
        await remote.aclose()
    asked = server.generations[0].body["response_format"]["json_schema"]
    assert asked["schema"] == schema
    assert [each.malformed is None for each in found] == [True, False, False]
    assert "does not fit the schema" in str(found[1].malformed)
    assert "must be JSON" in str(found[2].malformed)


async def test_stop_strings_past_the_fourth_are_seen_to_here(tmp_path: Path) -> None:
    stops = ("1", "2", "3", "4", "END")
    pieces = [chunk({"content": "keep E"}), chunk({"content": "ND drop"})]
    async with ModelServer([Answer([*pieces, *ending()])]) as server:
        remote = engine(tmp_path, server)
        shown, finish = await collect(remote, asking(sampling=Sampling(stop=stops)))
        await remote.aclose()
    assert (shown, finish.text) == ("keep ", "keep")
    assert server.generations[0].body["stop"] == ["1", "2", "3", "4"]


# ── calls that cannot be used ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("subtract", '{"a": 1}', 'there is no tool "subtract"; the tools are: add'),
        ("add", '{"a": 1', "not valid JSON"),
        ("add", '{"a": 1} {"a": 2}', "there is more behind it"),
        ("add", '{"a": 1, "a": 2}', "the same name twice"),
        ("add", '{"a": NaN}', "NaN is not JSON"),
        ("add", "[1]", "not an object"),
        ("add", '{"a": "one"}', "a: 'one' is not of type 'integer'"),
        ("add", '{"a": "' + "one" * 200 + '"}', "a: it is not of type 'integer'"),
        ("add", "", "'a' is a required property"),
        ("add", '{"a": 1, "b": 10}', "b: 10 is greater than the maximum of 9"),
    ],
)
async def test_a_call_that_cannot_be_used_says_why(
    tmp_path: Path, name: str, arguments: str, words: str
) -> None:
    finish = await ask(tmp_path, write_call(name, arguments), asking(tools=(ADD,)))
    assert words in str(finish.malformed)
    assert (finish.tool_calls, finish.text, finish.reason) == ((), "", "stop")
    assert arguments in finish.raw


async def test_choice_is_held_to_whatever_the_server_does(tmp_path: Path) -> None:
    called = await ask(
        tmp_path, call(ToolCall("add", {"a": 1})), asking(tools=(ADD,), tool_choice="none")
    )
    said = await ask(tmp_path, say("No."), asking(tools=(ADD,), tool_choice="required"))
    assert "no function may be called now" in str(called.malformed)
    assert "a function must be called" in str(said.malformed)


async def test_calls_are_made_one_at_a_time_where_that_was_asked_for(tmp_path: Path) -> None:
    one_at_a_time = asking(tools=(ADD,), parallel_tool_calls=False)
    two = call(ToolCall("add", {"a": 1}), ToolCall("add", {"a": 2}))
    async with ModelServer([two]) as server:
        remote = engine(tmp_path, server)
        _, finish = await collect(remote, one_at_a_time)
        await remote.aclose()
    assert server.generations[0].body["parallel_tool_calls"] is False
    assert finish.malformed == "call one function at a time"


async def test_a_call_that_was_cut_off_is_none(tmp_path: Path) -> None:
    answer = Answer([*list(call(ToolCall("add", {"a": 1})).body)[:-3], *ending("length")])
    finish = await ask(tmp_path, answer, asking(tools=(ADD,)))
    assert (finish.reason, finish.tool_calls) == ("length", ())
    assert "was cut off" in str(finish.malformed)


# ── sizes ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("facts", "kind", "context"),
    [(None, "llama-server", 4096), (VLLM, "vllm", 8192), (OLLAMA, "ollama", 16384),
     ({**OLLAMA, "/api/ps": {"models": []}}, "ollama", 6144),
     ({**OLLAMA, "/api/ps": {}, "/api/show": {}}, "ollama", 4096)],
)  # fmt: skip
async def test_each_kind_of_server_is_known(
    tmp_path: Path, facts: Any, kind: str, context: int
) -> None:
    async with ModelServer(facts=facts) as server:
        remote = engine(tmp_path, server)
        info = await remote.info("far")
        await remote.aclose()
    assert (info.architecture, info.context_tokens) == (kind, context)
    assert (info.remote, info.sha256, info.path) == (True, "", server.url)


async def test_a_llama_server_with_several_models_is_asked_about_the_one(tmp_path: Path) -> None:
    async with ModelServer([say("Yes.")], facts=ROUTER) as server:
        remote = engine(tmp_path, server, model=MODEL)
        info = await remote.info("far")
        counted = await remote.count(asking("one two three"))
        await remote.aclose()
    assert (info.architecture, info.context_tokens, counted) == ("llama-server", 4096, 9)


async def test_a_llama_server_takes_a_name_that_it_does_not_list(tmp_path: Path) -> None:
    """One with a single model takes any; one with several knows them by other names, too."""
    async with ModelServer() as server:
        remote = engine(tmp_path, server, model="gpt-4o")
        info = await remote.info("far")
        await remote.aclose()
    assert (info.architecture, info.context_tokens) == ("llama-server", 4096)


def unloaded(name: str, **shown: Any) -> dict[str, Any]:
    """An Ollama that loads its model when it is asked to, and shows it under its whole name."""
    loaded: list[Any] = []

    def load(body: Any) -> Any:
        loaded.append({"name": name, "model": name, "context_length": 32768})
        return {"model": body["model"], "response": "", "done": True}

    told = {"/api/ps": lambda _: {"models": loaded}, "/api/generate": load}
    return {**OLLAMA, **told, "/api/show": {"parameters": "", **shown}}


@pytest.mark.parametrize("name", [MODEL, f"{MODEL}:latest"])
async def test_the_context_of_an_ollama_model_is_what_it_has_when_it_is_loaded(
    tmp_path: Path, name: str
) -> None:
    """It is unloaded after five idle minutes; a conversation would not fit the 4096 of before."""
    async with ModelServer(facts=unloaded(name)) as server:
        remote = engine(tmp_path, server, model=MODEL)
        info = await remote.info("far")
        await remote.aclose()
    assert (info.architecture, info.context_tokens) == ("ollama", 32768)
    (load,) = (asked.body for asked in server.asked if asked.path == "/api/generate")
    assert load["options"] == {"num_predict": 1}


async def test_a_model_that_ollama_has_elsewhere_is_not_loaded(tmp_path: Path) -> None:
    facts = unloaded(MODEL, remote_host="https://ollama.com:443")
    async with ModelServer(facts=facts) as server:
        remote = engine(tmp_path, server)
        info = await remote.info("far")
        await remote.aclose()
    assert info.context_tokens == 4096
    assert not any(asked.path == "/api/generate" for asked in server.asked)


@pytest.mark.parametrize(
    "other",
    [Answer([b"<!doctype html>"], kind="text/html"), refuse(403, "no"), refuse(401, "no"),
     Answer(status=302, headers={"Location": "/login"})],
)  # fmt: skip
async def test_a_service_may_answer_anything_where_only_ollama_has_something(
    tmp_path: Path, other: Answer
) -> None:
    async with ModelServer([say("Yes.")], facts={**SERVICE, "/api/version": other}) as server:
        remote = engine(tmp_path, server, model=MODEL)
        _, finish = await collect(remote, asking())
        info = await remote.info("far")
        await remote.aclose()
    assert (finish.text, info.architecture) == ("Yes.", "openai")


async def test_cookies_are_neither_kept_nor_sent(tmp_path: Path) -> None:
    """Else a server could fill memory with them, and every request would carry them all."""
    answer = replace(say("Yes."), headers={"Set-Cookie": "a=b"})
    async with ModelServer([answer, say("No.")]) as server:
        remote = engine(tmp_path, server)
        for _ in range(2):
            await collect(remote, asking())
        await remote.aclose()
    assert len(server.generations) == 2
    assert not any("cookie" in each.headers for each in server.asked)


async def test_prompts_are_counted_by_the_server_where_it_can(tmp_path: Path) -> None:
    async with ModelServer() as llama, ModelServer(facts=VLLM) as vllm:
        first, second = engine(tmp_path / "a", llama), engine(tmp_path / "b", vllm)
        assert await first.count(asking("one two three")) == 9
        assert await first.count(asking(tools=(ADD,))) > 20
        assert await second.count(asking("one two three", tools=(ADD,))) == 16
        await first.aclose()
        await second.aclose()


@pytest.mark.parametrize("facts", [LLAMA_SERVER, VLLM], ids=["llama-server", "vllm"])
async def test_prompts_are_estimated_where_a_service_refuses_to_count(
    tmp_path: Path, facts: Mapping[str, Any]
) -> None:
    """What stands before a server may let pass what is OpenAI's only."""
    closed = {**facts, "/tokenize": refuse(403, "no"), "/apply-template": refuse(401, "no")}
    async with ModelServer([say("Yes.")], facts=closed) as server:
        remote = engine(tmp_path, server)
        assert 20 < await remote.count(asking()) < 200
        assert (await collect(remote, asking()))[1].text == "Yes."
        await remote.aclose()


@pytest.mark.parametrize("facts", [LLAMA_SERVER, VLLM], ids=["llama-server", "vllm"])
@pytest.mark.parametrize("told", [{}, {"count": "9"}, {"count": 0, "tokens": []}, {"count": -1}])
async def test_a_count_that_cannot_be_is_none(
    tmp_path: Path, facts: Mapping[str, Any], told: Any
) -> None:
    """Of a prompt that takes nothing, all would fit."""
    async with ModelServer(facts={**facts, "/tokenize": told}) as server:
        remote = engine(tmp_path, server)
        assert 20 < await remote.count(asking()) < 200
        await remote.aclose()


async def test_tools_that_a_server_leaves_out_of_a_prompt_are_estimated(tmp_path: Path) -> None:
    """As older ones of llama.cpp do where they are asked what a template makes of them."""
    async with ModelServer(facts={**LLAMA_SERVER, "/apply-template": {"prompt": "a b"}}) as server:
        remote = engine(tmp_path, server)
        bare = await remote.count(asking())
        assert await remote.count(asking(tools=(ADD,))) > bare + 500
        await remote.aclose()


async def test_what_a_server_said_of_itself_is_believed_for_a_while(tmp_path: Path) -> None:
    clock, entry = ManualClock(), {"id": MODEL, "owned_by": "vllm", "max_model_len": 1000}
    facts = {**VLLM, "/v1/models": {"data": [entry]}}
    async with ModelServer([refuse(500, "gone")], facts=facts) as server:
        models = RemoteModels(tmp_path)
        models.add(RemoteModel("far", server.url))
        remote = RemoteEngine(models, clock=clock)

        async def context(now: int) -> int:
            entry["max_model_len"] = now
            return (await remote.info("far")).context_tokens

        assert [await context(1000), await context(2000)] == [1000, 1000]
        clock.advance(61)
        assert [await context(2000), await context(3000)] == [2000, 2000]
        with pytest.raises(RemoteError):
            await collect(remote, asking())
        assert await context(3000) == 3000, "after an error it may be another server"
        await remote.aclose()


async def test_a_long_prompt_is_counted_within_bounds(tmp_path: Path) -> None:
    """The list of its tokens is longer than any other small answer may be."""
    limits = RemoteLimits(line_bytes=2000)
    facts = dict(LLAMA_SERVER)
    async with ModelServer(facts=facts) as server:
        remote = engine(tmp_path, server, limits)
        assert await remote.count(asking("a " * 5000)) == 5006
        facts["/tokenize"] = lambda _: {"tokens": [1] * 10**6}
        await remote.aclose()
    async with ModelServer(facts=facts) as server:
        remote = engine(tmp_path, server, limits)
        with pytest.raises(RemoteError, match="for a short answer"):
            await remote.count(asking("a " * 5000))
        await remote.aclose()


async def test_what_a_server_counted_is_known_of_the_next_turn(tmp_path: Path) -> None:
    answers = [say("Fine.", prompt=21), say("Good.", prompt=30)]
    async with ModelServer(answers, facts=OLLAMA) as server:
        remote = engine(tmp_path, server)
        before = await remote.count(asking())
        await collect(remote, asking())
        now = await remote.count(asking())
        longer = (*asking().messages, Message("assistant", "Fine."), Message("user", "Sure?"))
        more = await remote.count(Generation("far", longer))
        await remote.aclose()
    assert now == 21 < before
    assert 21 + 6 < more < before + 100


async def test_what_was_counted_without_tools_is_not_known_of_the_next_turn_with_them(
    tmp_path: Path,
) -> None:
    async with ModelServer([say("Fine.", prompt=21)], facts=OLLAMA) as server:
        remote = engine(tmp_path, server)
        await collect(remote, asking(tools=(ADD,), tool_choice="none"))
        assert "tools" not in server.generations[0].body
        assert await remote.count(asking(tools=(ADD,))) > 500
        await remote.aclose()


async def test_a_service_needs_the_model_named_and_its_context_known(tmp_path: Path) -> None:
    async with ModelServer(facts=SERVICE) as server:
        with pytest.raises(ModelError, match="has 2 models; say which: 'served-model', 'another'"):
            await engine(tmp_path / "a", server).info("far")
        with pytest.raises(ModelError, match="does not say how long the context"):
            await engine(tmp_path / "b", server, model="another").info("far")
        known = engine(tmp_path / "c", server, model="another", context_tokens=1000)
        assert (await known.info("far")).context_tokens == 1000
        named = engine(tmp_path / "d", server, model=MODEL)
        assert (await named.info("far")).context_tokens == 32768


@pytest.mark.parametrize(
    "told",
    [None, {}, {"prompt_tokens": -5, "completion_tokens": 2}, usage(20, 10**12), usage(10**9, 3),
     {"prompt_tokens": True, "completion_tokens": 2}, usage(20, 0)],
)  # fmt: skip
async def test_usage_that_cannot_be_is_not_believed(tmp_path: Path, told: Any) -> None:
    answer = Answer([chunk({"content": "Fine."}), *ending("stop", told)])
    finish = await ask(tmp_path, answer)
    assert finish.estimated
    assert finish.completion_tokens == 5
    assert 20 < finish.prompt_tokens < 200


async def test_an_estimate_is_never_of_more_than_the_context(tmp_path: Path) -> None:
    answer = Answer([chunk({"content": "Fine."}), *ending("stop", None)])
    assert (await ask(tmp_path, answer, asking("x1" * 5000))).prompt_tokens == 4096


@pytest.mark.parametrize(
    "message",
    ["the request exceeds the available context size, try increasing it",
     "This model's maximum context length is 4096 tokens. However, you requested 5000"],
)  # fmt: skip
async def test_an_overflow_is_known_by_its_words(tmp_path: Path, message: str) -> None:
    error = await fails(tmp_path, refuse(400, message))
    assert isinstance(error, ContextOverflowError)


# ── servers that break or mean harm ─────────────────────────────────────────────────────────


async def forever(part: bytes) -> AsyncIterator[bytes]:
    """As fast as it is read."""
    while True:
        yield part


async def drip(part: bytes, every_s: float) -> AsyncIterator[bytes]:
    """Slowly: against bounds on time, time must pass."""
    while True:
        yield part
        await asyncio.sleep(every_s)


async def nothing() -> AsyncIterator[bytes]:
    """Holds the connection open and sends not a byte."""
    await asyncio.Event().wait()
    yield b""


EVIL: dict[str, tuple[Any, str]] = {
    "endless": (lambda _: Answer(forever(chunk({"content": "x" * 500}))), "far more than was"),
    "endless comments": (lambda _: Answer(drip(b": hm\n\n", 0.01)), "did not begin to answer"),
    "endless line": (lambda _: Answer(forever(b"x" * 5000)), "a line of over 20000 bytes"),
    "empty pieces": (lambda _: Answer(drip(chunk({}), 0.01)), "did not begin to answer"),
    "slow drip": (
        lambda _: Answer(drip(chunk({"content": "a"}), 0.05)),
        "took over 1.5 s for one answer",
    ),
    "falls silent": (
        lambda _: Answer(_then([chunk({"content": "a"})], drip(b": hm\n\n", 0.01))),
        "fell silent",
    ),
    "says nothing": (lambda _: Answer(nothing()), "did not begin to answer"),
    "breaks off": (Answer([chunk({"content": "a"})]), "ended its answer in the middle"),
    "breaks off in JSON": (Answer([chunk({"content": "a"})[:-9]]), "not JSON"),
    "ends early": (
        Answer([chunk({"content": "a"})], headers={"Content-Length": "9999"}), "broke off",
    ),
    "not JSON": (Answer([b"data: {oops}\n\n"]), "not JSON"),
    "a page": (Answer([b"<html>Welcome</html>"], kind="text/html"), "not JSON"),
    "a list": (Answer([event([1])]), "not an object"),
    "nested": (Answer([b"data: " + b"[" * 9000 + b"\n\n"]), "not JSON"),
    "wrong kinds": (Answer([event({"choices": {"a": 1}})]), "a choices that is not a list"),
    "wrong text": (Answer([chunk({"content": 7})]), "a content that is not a str"),
    "wrong call": (Answer([chunk({"tool_calls": [7]})]), "a tool call that is not an object"),
    "many calls": (
        Answer([chunk({"tool_calls": [{"index": n, "id": f"{n}"}]}) for n in range(99)]),
        "more than 64 tool calls",
    ),
    "endless event": (Answer([b"data: 1\n" * 4000]), "an event of over 20000 bytes"),
    "huge whole": (
        Answer([b'{"choices": [' + b"0," * 13_000 + b"0]}"], kind="application/json"),
        "far more than was",
    ),
    "long name": (
        Answer([chunk({"tool_calls": [{"index": 0, "function": {"name": f"{n:05}"}}]})
                for n in range(300)]),
        "the name of a function of over 1000",
    ),
    "own error": (Answer([event({"error": {"message": "out of memory"}})]), "out of memory"),
    "redirect": (Answer(status=307, headers={"Location": "http://127.0.0.1:1/"}), "redirects"),
    "compressed": (Answer([b"\x1f\x8b"], headers={"Content-Encoding": "gzip"}), "gzip"),
    "hangs up": (Answer(silent=True), "closed the connection without an answer"),
    "fails": (Answer([chunk({"content": "a"}), *ending("error")]), "failed in the middle"),
    "aborts": (Answer([chunk({"content": "a"}), *ending("abort")]), "failed in the middle"),
    "filtered": (Answer([chunk({"content": "a"}), *ending("content_filter")]), "withheld"),
    "refuses": (refuse(401, "invalid key\x1b[31m"), "invalid key [31m"),
    "long refusal": (refuse(500, "x" * 19_000), "x…"),
    "huge refusal": (refuse(500, "x" * 30_000), "over 20000 bytes for a short answer"),
}  # fmt: skip


async def _then(first: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for part in first:
        yield part
    async for part in rest:
        yield part


async def cut() -> AsyncIterator[bytes]:
    raise ConnectionResetError
    yield b""


LINGERING: dict[str, Any] = {
    "stays open": lambda: drip(b": hm\n\n", 0.01),
    "says nothing more": nothing,
    "breaks off": lambda: _then([b"data: {", b""], cut()),
    "goes on and on": lambda: forever(b": " + b"x" * 900 + b"\n\n"),
}


@pytest.mark.parametrize("name", LINGERING)
async def test_an_answer_that_is_whole_is_not_lost_with_its_connection(
    tmp_path: Path, name: str
) -> None:
    told = [chunk({"content": "Yes."}), chunk({}, "stop")]
    limits = replace(SMALL, after_s=0.2)
    answer = Answer(_then(told, LINGERING[name]()))
    finish = await asyncio.wait_for(ask(tmp_path, lambda _: answer, None, limits), 20)
    assert (finish.text, finish.reason, finish.estimated) == ("Yes.", "stop", True)


# of those that are bounded in time, by what; any other is waited for
TIMED: dict[str, Any] = {
    "did not begin to answer": {"first_token_s": 0.4},
    "fell silent": {"between_s": 0.3},
    "took over 1.5 s for one answer": {"whole_s": 1.5},
}


@pytest.mark.parametrize("name", EVIL)
async def test_a_hostile_server_is_bounded(tmp_path: Path, name: str) -> None:
    answer, words = EVIL[name]
    sampling = Sampling(max_tokens=16)
    async with ModelServer([answer]) as server:
        limits = replace(SMALL, **TIMED.get(words, {}))
        remote = engine(tmp_path, server, limits, context_tokens=4096)
        with pytest.raises(InferenceError) as caught:
            await collect(remote, asking(sampling=sampling))
        await remote.aclose()
    assert words in caught.value.message
    assert "far (127.0.0.1" in caught.value.message
    assert len(server.generations) == 1, "a request that may have been worked on is not repeated"


@pytest.mark.parametrize(
    "facts",
    [{}, {"/v1/models": []}, {"/v1/models": {"data": 7}}, {"/v1/models": {"data": [[]]}},
     {"/v1/models": {"data": [{"owned_by": "llamacpp"}]}},
     {"/v1/models": {"data": [{"id": "m", "owned_by": "x"}]}, "/api/version": {"version": "1"}},
     {"/v1/models": {"data": [{"owned_by": "llamacpp"}]}, "/props": [1]},
     {"/v1/models": {"data": [{"owned_by": "vllm", "max_model_len": "8192"}]}},
     {"/v1/models": {"data": [{"id": "m" * 900, "owned_by": "vllm", "max_model_len": 8192}]}},
     {"/v1/models": {"data": [{"owned_by": "vllm", "max_model_len": 10**12}]}}],
)  # fmt: skip
async def test_facts_that_are_none_are_an_error(tmp_path: Path, facts: Any) -> None:
    async with ModelServer(facts=facts) as server:
        remote = engine(tmp_path, server)
        with pytest.raises(ModelError):
            await remote.info("far")
        await remote.aclose()


# ── attempts ────────────────────────────────────────────────────────────────────────────────


class Waits:
    """Takes the place of waiting, and keeps how long it was."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def waiting(remote: RemoteEngine, monkeypatch: pytest.MonkeyPatch) -> Waits:
    waits = Waits()
    first = Server.__init__

    def patched(self: Server, *args: Any, **more: Any) -> None:
        first(self, *args, **{**more, "sleep": waits})

    monkeypatch.setattr(Server, "__init__", patched)
    return waits


async def test_a_busy_server_is_asked_again_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = [refuse(429, "slow", {"Retry-After": "7"}), refuse(503, "loading model")]
    async with ModelServer([*busy, say("Here.")]) as server:
        remote = engine(tmp_path, server)
        waits = waiting(remote, monkeypatch)
        _, finish = await collect(remote, asking())
        await remote.aclose()
    assert finish.text == "Here."
    assert waits.seconds == [7.0, 1.0]


async def test_a_date_to_come_again_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    date = {"Retry-After": "Tue, 14 Nov 2023 22:13:25 GMT"}  # five seconds after the clock's now
    async with ModelServer([refuse(503, "x", date), say("Here.")]) as server:
        models = RemoteModels(tmp_path)
        models.add(RemoteModel("far", server.url))
        remote = RemoteEngine(models, clock=ManualClock(1_700_000_000.0))
        waits = waiting(remote, monkeypatch)
        await collect(remote, asking())
        await remote.aclose()
    assert waits.seconds == [5.0]


async def test_a_wait_that_is_too_long_is_told_and_not_sat_out(tmp_path: Path) -> None:
    async with ModelServer([refuse(429, "x", {"Retry-After": "3600"})]) as server:
        remote = engine(tmp_path, server)
        with pytest.raises(EngineBusyError, match="come again in 3600 s"):
            await collect(remote, asking())
        await remote.aclose()
    assert len(server.generations) == 1


async def test_a_question_waits_no_longer_than_for_its_answer(tmp_path: Path) -> None:
    """It is told that the server is busy, not that there is none."""
    busy = refuse(429, "x", {"Retry-After": "25"})
    async with ModelServer(facts={"/v1/models": busy}) as server:
        remote = engine(tmp_path, server)
        with pytest.raises(EngineBusyError, match="come again in 25 s"):
            await remote.info("far")
        await remote.aclose()
    assert len(server.asked) == 1


async def test_attempts_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ModelServer([refuse(503, "x")] * 9) as server:
        remote = engine(tmp_path, server)
        waits = waiting(remote, monkeypatch)
        with pytest.raises(EngineBusyError, match="busy"):
            await collect(remote, asking())
        await remote.aclose()
    assert (len(server.generations), waits.seconds) == (4, [0.5, 1.0, 2.0])


async def test_a_server_that_is_not_up_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ModelServer() as server:
        pass
    remote = engine(tmp_path, server)
    waits = waiting(remote, monkeypatch)
    with pytest.raises(RemoteError, match="cannot be reached"):
        await remote.info("far")
    await remote.aclose()
    assert waits.seconds == [0.5, 1.0, 2.0]


# ── leaving early, keys, certificates ───────────────────────────────────────────────────────


async def test_leaving_the_stream_closes_the_connection(tmp_path: Path) -> None:
    answer = Answer(_then([chunk({"content": "a"})], nothing()))
    async with ModelServer([answer]) as server:
        remote = engine(tmp_path, server)
        async with aclosing(remote.generate(asking())) as tokens:
            assert (await anext(tokens)).text == "a"
        await asyncio.wait_for(server.left.wait(), 5)
        await remote.aclose()


async def test_a_cancelled_task_closes_the_connection(tmp_path: Path) -> None:
    async with ModelServer([Answer(nothing())]) as server:
        remote = engine(tmp_path, server)
        task = asyncio.create_task(collect(remote, asking()))
        await asyncio.wait_for(server.reached.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.left.wait(), 5)
        await remote.aclose()


async def test_the_key_is_in_no_error_and_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    errors = []
    telling = [
        refuse(401, f"Incorrect API key provided: {KEY}"),
        refuse(500, "x" * 285 + KEY),
        Answer([event({"error": f"Authorization: Bearer {KEY}"})]),
        say("Fine."),
    ]
    async with ModelServer(telling) as server:
        remote = engine(tmp_path, server, key="far-key")
        for _ in telling[:-1]:
            with pytest.raises(RemoteError) as caught:
                await collect(remote, asking())
            errors.append(caught.value)
        await collect(remote, asking())
        await remote.aclose()
    assert [each.headers["authorization"] for each in server.generations] == [f"Bearer {KEY}"] * 4
    assert all("[key]" in each.message for each in errors)
    assert KEY[:6] not in "".join(repr(each) + each.diagnostics() for each in errors)
    assert KEY not in caplog.text
    assert KEY not in (tmp_path / "remote.toml").read_text()


async def test_a_key_that_no_header_can_hold_is_told_and_not_shown(tmp_path: Path) -> None:
    models = RemoteModels(tmp_path)
    models.add(RemoteModel("far", "http://127.0.0.1:9"))
    remote = RemoteEngine(models, headers=lambda _: {"Authorization": "Bearer sk-schlüssel"})
    with pytest.raises(IdentityError, match=r"far \(127.0.0.1:9\) is not ASCII") as caught:
        await remote.info("far")
    assert "schl" not in caught.value.diagnostics()
    await remote.aclose()


async def test_certificates_are_checked(tmp_path: Path, loopback_tls: LoopbackTls) -> None:
    async with ModelServer([say("Safe.")], tls=loopback_tls.context) as server:
        stranger = engine(tmp_path / "a", server)
        with pytest.raises(RemoteError, match="no certificate that is trusted"):
            await stranger.info("far")
        await stranger.aclose()


@pytest.mark.parametrize("file", ["certificate.pem", "authority.pem"])
async def test_certificates_of_ones_own_are_believed(
    tmp_path: Path, loopback_tls: LoopbackTls, file: str
) -> None:
    """Whatever Python asks of those of the world: 3.13 more of authorities than 3.11, which in its
    turn believes no server's certificate without its authority."""
    async with ModelServer([say("Safe.")], tls=loopback_tls.context) as server:
        trusting = engine(tmp_path, server, ca_file=str(loopback_tls.folder / file))
        assert (await collect(trusting, asking()))[1].text == "Safe."
        await trusting.aclose()


async def test_an_entry_that_was_changed_is_used_by_the_next_request(tmp_path: Path) -> None:
    async with ModelServer([say("First.")]) as one, ModelServer([say("Second.")]) as two:
        remote = engine(tmp_path, one)
        assert (await collect(remote, asking()))[1].text == "First."
        RemoteModels(tmp_path).add(RemoteModel("far", two.url))
        assert (await collect(remote, asking()))[1].text == "Second."
        await remote.aclose()


async def test_an_engine_says_where_requests_go(tmp_path: Path) -> None:
    async with ModelServer() as server:
        remote = engine(tmp_path, server, key="far-key")
        assert isinstance(remote, Outward)
        found = remote.destination("far")
        assert found is not None
        assert (found.url, found.keyed) == (server.url, True)
        assert remote.destination("other") is None
        with pytest.raises(ModelError, match="no remote model"):
            await remote.info("other")
        await remote.aclose()
        gc.collect()
