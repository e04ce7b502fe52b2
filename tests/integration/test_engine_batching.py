"""Many generations on one model at once, with real runners: the shipped model and tiny ones."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers.inference import CALC, finish_of

from node.errors import InferenceError, ModelError, RunnerCrashedError
from node.inference import (
    EngineLimits,
    Finish,
    FunctionSpec,
    Generation,
    LlamaEngine,
    Message,
    ModelStore,
    Sampling,
    ToolCall,
)
from node.inference.llama import packing
from node.inference.llama.protocol import Load
from node.inference.testing.gguf import TinyModel, write_tiny_gguf
from node.types import JsonObject

PROMPTS = int(os.environ.get("FREEHOLD_TEST_PROMPTS", "16"))
GENERATIONS = int(os.environ.get("FREEHOLD_TEST_GENERATIONS", "120"))
TRIES = 3 if GENERATIONS < 1_000 else 1  # a short life sees an allocator take a piece more


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    folder = tmp_path_factory.mktemp("models")
    made = ModelStore(folder / "home")
    for name, seed in (("tiny", 1), ("other", 2)):
        made.add(write_tiny_gguf(folder / f"{name}.gguf", TinyModel(context=4096, seed=seed)))
    mute = "{{ messages[0].content if messages[0].content != 'silence' }}"
    made.add(write_tiny_gguf(folder / "mute.gguf", TinyModel(context=4096, template=mute)))
    return made


def ask(text: str, *, model: str = "tiny", **sampling: object) -> Generation:
    chosen = Sampling(**{"max_tokens": 24, **sampling})  # type: ignore[arg-type]
    return Generation(model, (Message("user", text),), sampling=chosen, parallel_tool_calls=False)


def question(number: int) -> Generation:
    """What the shipped model is asked; every third with a tool, and of different lengths."""
    asked = [
        f"What is {number * 7 % 90 + 3} * {number % 17 + 2}?",
        f"List the files, please. This is request {number}.",
        "The note says: " + "green leaves and blue stones. " * (number % 9) + "What does it say?",
    ][number % 3]
    tools = (CALC,) if number % 3 == 0 else ()
    return Generation("default", (Message("user", asked),), tools, sampling=Sampling(max_tokens=32))


PARTING = """
import json, sys
import numpy as np
from node.inference.llama import packing, protocol
from node.inference.llama.batch import Batch
from node.inference.llama.loading import load_model

load, told = json.load(sys.stdin)
loaded = load_model(protocol.Load(**{**load, "identity": tuple(load["identity"])}))
context = loaded.context


def logits(tokens, rows=128, others=0):
    for sequence in range(1 + others):
        context.cut(sequence, 0)
    for start in range(0, len(tokens), rows):
        part, batch = tokens[start : start + rows], Batch(280)
        for other in range(others):
            batch.add(1 + other, start, [token // 2 + other for token in part], wanted=False)
        batch.add(0, start, part, wanted=True)
        context.decode(batch)
    return context.logits(0).copy()


for request, said in told:
    answer = loaded.preparer.answer(packing.unpack_request(request))
    tokens, text = list(answer.prompt), b""
    while said.encode().startswith(text):
        found = logits(tokens)
        second, first = found.argsort()[-2:]
        before = list(tokens)
        tokens.append(int(first))
        text += answer._vocab.piece(tokens[-1])
    ways = [logits(before, rows, others) for rows, others in ((1, 0), (1, 7), (30, 7))]
    known = np.isfinite(found)
    noise = max(float(np.abs(way - found)[known].max()) for way in ways)
    print(json.dumps([float(found[first] - found[second]), noise]))
"""


def gaps(store: ModelStore, different: list[tuple[Generation, str]]) -> list[tuple[float, float]]:
    """Between the two best logits, where the model alone goes on otherwise than was said; and how
    much logits there differ between ways to cut the same text into batches, beside others or not.
    """
    checked = store.check("default")
    load = Load(str(checked.path), checked.pin.sha256, checked.identity, 2048, 1, reuse=False)
    told = [(packing.pack_request(request), said) for request, said in different]
    done = subprocess.run(
        [sys.executable, "-c", PARTING],
        input=json.dumps([asdict(load), told]).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return [(gap, noise) for gap, noise in map(json.loads, done.stdout.splitlines())]


@pytest.mark.timeout(120 + 3 * PROMPTS)
async def test_what_is_said_does_not_depend_on_who_else_speaks(store: ModelStore) -> None:
    """Greedy, each alone and then in eights: equal but for ties within the noise of floating point.

    FREEHOLD_TEST_PROMPTS=500 takes some minutes.
    """
    alone = LlamaEngine(store, limits=EngineLimits(max_running=1, reuse_prefix=False))
    together = LlamaEngine(store, limits=EngineLimits(max_running=8))
    different: list[tuple[Generation, str]] = []
    for first in range(0, PROMPTS, 8):
        requests = [question(number) for number in range(first, min(first + 8, PROMPTS))]
        ends = await asyncio.gather(*(finish_of(together, request) for request in requests))
        for request, end in zip(requests, ends, strict=True):
            if (await finish_of(alone, request)).raw != end.raw:
                different.append((request, end.raw))
    (status,) = together.metrics()
    assert status.generations >= PROMPTS - 8  # told every half second
    await asyncio.gather(alone.aclose(), together.aclose())
    found = gaps(store, different)
    assert len(found) == len(different)
    assert all(gap <= 2 * noise < 1 for gap, noise in found), (found, different)
    assert len({request.messages for request, _ in different}) <= 1 + PROMPTS // 100


async def test_eight_share_their_beginning(engine: LlamaEngine) -> None:
    shared = "word " * 200
    ends = await asyncio.gather(*(finish_of(engine, ask(f"{shared}{n}")) for n in range(8)))
    assert sum(end.prompt_tokens_cached > 900 for end in ends) == 7


async def test_a_conversation_goes_on_after_a_restart(store: ModelStore, tmp_path: Path) -> None:
    limits = EngineLimits(state_folder=tmp_path / "states")
    text = "tell me " * 100
    first = LlamaEngine(store, limits=limits)
    said = await finish_of(first, ask(text))
    await first.aclose()
    turn = Generation(
        "tiny",
        (Message("user", text), Message("assistant", said.raw), Message("user", "more")),
        sampling=Sampling(max_tokens=24),
    )
    second, plain = LlamaEngine(store, limits=limits), LlamaEngine(store)
    restored, whole = await finish_of(second, turn), await finish_of(plain, turn)
    assert restored.prompt_tokens_cached >= said.prompt_tokens
    assert whole.prompt_tokens_cached == 0
    assert restored.raw == whole.raw
    for path in (tmp_path / "states").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    await second.aclose()
    for path in (tmp_path / "states").iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    third = LlamaEngine(store, limits=limits)
    assert (await finish_of(third, turn)).raw == whole.raw  # a damaged state is none
    await asyncio.gather(third.aclose(), plain.aclose())


async def test_another_model_does_not_see_a_state(store: ModelStore, tmp_path: Path) -> None:
    engine = LlamaEngine(store, limits=EngineLimits(state_folder=tmp_path / "states"))
    request = ask("x" * 500)
    await finish_of(engine, request)
    await engine.unload("tiny")
    other = await finish_of(engine, ask("x" * 500, model="other"))
    assert other.prompt_tokens_cached == 0
    assert (await finish_of(engine, request)).prompt_tokens_cached > 500
    await engine.aclose()


@pytest.mark.skipif(sys.platform == "darwin", reason="a changed library's signature is wrong")
async def test_another_library_does_not_see_a_state(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that the same Python package uses: nothing in a state says who made it."""
    package = importlib.util.find_spec("llama_cpp")
    assert package is not None
    assert package.origin is not None
    own = Path(os.environ.get("LLAMA_CPP_LIB_PATH", Path(package.origin).parent / "lib"))
    other = shutil.copytree(own, tmp_path / "lib", symlinks=True)
    limits = EngineLimits(state_folder=tmp_path / "states")
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(other))
    cached = []
    for _ in range(3):
        engine = LlamaEngine(store, limits=limits)
        cached.append((await finish_of(engine, ask("x" * 500))).prompt_tokens_cached)
        await engine.aclose()
        if len(cached) == 2:
            with (other / "libllama.so").open("ab") as library:
                library.write(b"of another day")
    assert cached[1] > 500
    assert cached[2] == 0


async def test_what_is_kept_is_forgotten(store: ModelStore, tmp_path: Path) -> None:
    """Wherever it is: in the context, in a file, or on its way into one. Work goes on."""
    folder = tmp_path / "states"
    limits = EngineLimits(state_folder=folder)
    engine = LlamaEngine(store, limits=limits)
    kept = [ask("x" * 500), ask("y" * 500), ask("z" * 500, model="other")]
    await finish_of(engine, kept[0])
    await engine.unload("tiny")
    for request in kept[1:]:
        await finish_of(engine, request)
    assert list(folder.iterdir())
    unloading = asyncio.create_task(engine.unload("other"))
    long = ask("w" * 500, max_tokens=200)
    async with aclosing(engine.generate(long)) as tokens:
        await anext(tokens)
        await engine.forget()
        await unloading
        assert not list(folder.iterdir())
        last = [token async for token in tokens][-1]
    for request in kept:
        assert (await finish_of(engine, request)).prompt_tokens_cached < 30  # how all prompts begin
    await engine.aclose()
    again = LlamaEngine(store, limits=limits)
    whole = await finish_of(again, long)
    assert whole.prompt_tokens_cached > 500  # it was under way
    assert last.finish is not None
    assert last.finish.raw == whole.raw
    await again.aclose()
    await LlamaEngine(store, limits=limits).forget()  # nothing loaded
    assert not list(folder.iterdir())


STATE = """
import sys
import numpy as np
from node.inference.llama.batch import Batch
from node.inference.llama.native import Context, Model

model = Model(sys.argv[1])


def context():
    made = Context(model, cells=2048, sequences=4, batch_tokens=512, threads=1)
    made.ban([258])
    return made


def feed(context, sequence, start, tokens):
    batch = Batch(512)
    batch.add(sequence, start, tokens, wanted=True)
    context.decode(batch)
    logits = context.logits(0).copy()
    assert context.best() == [logits.argmax()]
    assert logits[258] == -np.inf < logits.min(where=np.arange(260) != 258, initial=0)
    return logits


prompt = [number * 7 % 250 for number in range(300)]
one, two, three = context(), context(), context()
feed(one, 0, 0, prompt)
state = bytes(one.save(0))
assert two.load(1, state)
feed(three, 0, 0, prompt[:200])
for sequence in range(1, 4):
    assert three.load(sequence, state)
    three.share(0, sequence, 200)
assert three.cut(0, 0)
for sequence in range(1, 4):
    assert three.cut(sequence, 250)
for start in range(0, 1600, 400):  # there is room: 200 cells are shared, 50 are each one's own
    feed(three, 0, start, [1] * 400)
shared = feed(three, 1, 250, prompt[250:])
alone = feed(two, 2, 0, prompt)
alone[258] = shared[258] = 0
assert np.abs(alone - shared).max() < 0.02 * np.abs(alone).max()
assert two.cut(2, 0)
for step in range(8):
    token = [step * 3 + 1]
    assert np.array_equal(feed(one, 0, 300 + step, token), feed(two, 1, 300 + step, token)), step
one.copy(0, 2, 150)
assert one.cut(2, 100)
fresh = feed(two, 3, 0, prompt[:101])
again = feed(one, 2, 100, [prompt[100]])
again[258] = fresh[258] = 0
assert np.abs(again - fresh).max() < 0.02 * np.abs(fresh).max()  # one row, and the last of 101
print("equal")
"""


def test_restored_logits_are_those_of_one_that_was_not_interrupted(store: ModelStore) -> None:
    """To the bit. In a process of its own, as all native code."""
    path = str(store.path(store.get("tiny")))
    done = subprocess.run([sys.executable, "-c", STATE, path], capture_output=True, check=False)
    assert done.stdout == b"equal\n", done.stderr.decode()[-2000:]


async def test_a_killed_runner_loses_none_of_eight(engine: LlamaEngine) -> None:
    """Each fails as one that may be tried again, and the next try gives the same words."""
    requests = [ask(f"number {n}", max_tokens=300, temperature=0.7, seed=n) for n in range(8)]
    expected = [await finish_of(engine, request) for request in requests]
    started: list[int] = []
    all_started = asyncio.Event()

    async def once(number: int) -> Finish:
        async with aclosing(engine.generate(requests[number])) as stream:
            async for token in stream:
                if number not in started:
                    started.append(number)
                if len(started) == 8:
                    all_started.set()
                if token.finish is not None:
                    return token.finish
        raise AssertionError("no finish")

    async def stubborn(number: int) -> tuple[int, Finish]:
        for tries in range(1, 5):
            try:
                return tries, await once(number)
            except RunnerCrashedError:
                continue
        raise AssertionError("it never came to an end")

    tasks = [asyncio.create_task(stubborn(number)) for number in range(8)]
    await all_started.wait()
    os.kill(engine.loaded()["tiny"], signal.SIGKILL)
    ends = await asyncio.gather(*tasks)
    assert any(tries > 1 for tries, _ in ends)
    assert [end.raw for _, end in ends] == [end.raw for end in expected]
    (status,) = engine.metrics()
    assert status.crashes == 1


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each `asyncio.sleep`, none of which takes any."""
    sleep, waits = asyncio.sleep, list[float]()

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", wait)
    return waits


async def test_a_runner_that_dies_again_and_again_is_started_later_and_later(
    engine: LlamaEngine, waited: list[float]
) -> None:
    for _ in range(4):
        await engine.preload("tiny")
        stream = engine.generate(ask("x", max_tokens=4000, temperature=1.0))
        await anext(stream)
        os.kill(engine.loaded()["tiny"], signal.SIGKILL)
        with pytest.raises(RunnerCrashedError):
            async for _token in stream:
                pass
    assert waited == [0, 0, 0.25, 0.5]
    assert (await finish_of(engine, ask("x"))).completion_tokens > 0


async def test_a_runner_that_did_its_work_before_it_died_is_started_at_once(
    engine: LlamaEngine, waited: list[float]
) -> None:
    slot, delays = engine._slot("tiny"), []
    for _ in range(9):
        slot._crashed()
        delays.append(slot._delay_s())
    assert delays == [0, 0.25, 0.5, 1, 2, 4, 8, 16, 30]
    await finish_of(engine, ask("x"))
    assert waited == [30]
    slot._crashed()
    assert slot._delay_s() == 0


async def test_models_share_a_machine(store: ModelStore) -> None:
    """The cap holds one of them: the other waits until nobody uses the first, and replaces it."""
    probe = LlamaEngine(store)
    await probe.preload("tiny")
    (status,) = probe.metrics()
    await probe.aclose()
    engine = LlamaEngine(store, limits=EngineLimits(memory_bytes=status.rss_bytes + (130 << 20)))
    async with aclosing(engine.generate(ask("x", max_tokens=2000, temperature=1.0))) as stream:
        await anext(stream)
        waiting = asyncio.create_task(finish_of(engine, ask("y", model="other")))
        for _ in range(20):
            await anext(stream)
        assert set(engine.loaded()) == {"tiny"}
        assert not waiting.done()
    await waiting
    assert set(engine.loaded()) == {"other"}
    await engine.aclose()
    small = LlamaEngine(store, limits=EngineLimits(memory_bytes=1 << 20))
    with pytest.raises(ModelError, match="may take 1,048,576 together"):
        await small.preload("tiny")
    await small.aclose()


async def test_models_that_load_at_once_share_a_machine(store: ModelStore) -> None:
    engine = LlamaEngine(store, limits=EngineLimits(memory_bytes=150 << 20))
    await asyncio.gather(*(engine.preload(name) for name in ("tiny", "other", "mute")))
    assert len(engine.loaded()) == 1
    await engine.aclose()


async def test_a_model_that_dies_while_another_waits_for_its_place(store: ModelStore) -> None:
    """Who waits until it is left does not wait for one that waits for a place itself."""
    engine = LlamaEngine(store, limits=EngineLimits(memory_bytes=150 << 20))
    async with aclosing(engine.generate(ask("x", max_tokens=3000, temperature=1.0))) as stream:
        await anext(stream)
        other = asyncio.create_task(finish_of(engine, ask("x", model="other")))
        for _ in range(20):
            await anext(stream)
        counted = asyncio.create_task(engine.count(ask("x" * 2000)))
        await anext(stream)
        os.kill(engine.loaded()["tiny"], signal.SIGKILL)
        again = asyncio.create_task(engine.count(ask("x")))
        await asyncio.wait_for(asyncio.gather(other, counted, again), 60)
        with pytest.raises(RunnerCrashedError):
            async for _token in stream:
                pass
    await engine.aclose()


def any_request(chance: random.Random) -> Generation:
    shared = f"{chance.randrange(4)} " * chance.randrange(350)
    tools = (CALC,) if chance.random() < 0.4 else ()
    return Generation(
        "tiny",
        (Message("user", shared + "abc"[: chance.randrange(3)]),),
        tools,
        tool_choice=chance.choice(["auto", "none", "required"]) if tools else "auto",
        sampling=Sampling(
            max_tokens=chance.randrange(1, 60),
            temperature=chance.choice([0.0, 1.0]),
            seed=chance.randrange(99),
            stop=("e",) if chance.random() < 0.2 else (),
            logit_bias=((chance.randrange(300), -100.0),) if chance.random() < 0.2 else (),
        ),
        priority=chance.choice(["person", "background"]),
    )


async def seen_until(engine: LlamaEngine, asked: Generation, tokens: int | None) -> None:
    """Sees it end, or leaves it after so many tokens."""
    count, ended = 0, False
    async with aclosing(engine.generate(asked)) as stream:
        async for token in stream:
            count, ended = count + 1, token.finish is not None
            if count == tokens:
                return
    assert ended


@pytest.mark.timeout(120 + GENERATIONS)
async def test_a_long_life_leaves_nothing_behind(store: ModelStore, tmp_path: Path) -> None:
    """Random cancels, lengths, grammars, priorities, evictions: memory stays as it was, to 2%."""
    limits = EngineLimits(
        kv_tokens=4096, context_tokens=2048, max_waiting=64, state_folder=tmp_path / "states",
        state_bytes=4 << 20,
    )  # fmt: skip
    chance = random.Random(3)
    async with aclosing(LlamaEngine(store, limits=limits)) as engine:
        await engine.preload("tiny")
        process = psutil.Process(engine.loaded()["tiny"])

        async def size_after(generations: int) -> int:
            for _ in range(generations // 12):
                cuts = (
                    chance.randrange(1, 20) if chance.random() < 0.4 else None for _ in range(12)
                )
                work = (seen_until(engine, any_request(chance), cut) for cut in cuts)
                await asyncio.wait_for(asyncio.gather(*work), 120)
            return process.memory_info().rss

        sizes = [await size_after(120 + GENERATIONS // 10)]  # until every path was gone once
        for _ in range(TRIES):
            sizes.append(await size_after(GENERATIONS))
            if sizes[-1] < sizes[-2] * 1.02:
                break
        assert sizes[-1] < sizes[-2] * 1.02, f"{sizes} bytes"
        assert engine.loaded()["tiny"] == process.pid
        await finish_of(engine, ask("x"))
        (status,) = engine.metrics()
        assert (status.running, status.waiting, status.crashes) == (0, 0, 0)
        assert status.kv_used <= 4096
        assert sum(path.stat().st_size for path in (tmp_path / "states").iterdir()) <= 4 << 20


RAW = """
import os, socket, subprocess, sys
ours, theirs = socket.socketpair()
runner = subprocess.Popen(
    [sys.executable, "-P", "-m", "node.inference.llama.runner", str(theirs.fileno()),
     str(os.getpid())],
    pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL,
)
theirs.close()
ours.sendall(bytes.fromhex(sys.argv[1]))
ours.shutdown(socket.SHUT_WR)
print(runner.wait(60))
"""


@pytest.mark.parametrize(
    "frame",
    [b"", b"\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x05hello"],
)
def test_a_runner_that_is_told_nonsense_ends(frame: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RAW, frame.hex()], capture_output=True, check=True, timeout=90
    )
    assert int(done.stdout) in (0, 1)


async def test_nonsense_within_frames_harms_nobody_else(engine: LlamaEngine) -> None:
    """Requests that no engine would send are answered with errors, and the runner lives."""
    await engine.preload("tiny")
    runner = engine._slots["tiny"]._runner
    assert runner is not None
    writer = runner._writer
    assert writer is not None
    pid = engine.loaded()["tiny"]
    chance = random.Random(1)
    values = [None, 0, -1, "", "x", [], {}, [[]], [{}], {"a": 1}, True, 10**400, "\ud7ff"]
    for number in range(200):
        request = {
            key: chance.choice(values)
            for key in ("messages", "tools", "tool_choice", "sampling", "priority",
                        "answer_schema", "parallel_tool_calls", "constrained")
        }  # fmt: skip
        frame = {"op": chance.choice(["count", "generate", "cancel", "what", None]),
                 "id": 10_000 + number, "request": request}  # fmt: skip
        body = json.dumps(frame).encode()
        writer.write(struct.pack(">I", len(body)) + body)
    assert (await finish_of(engine, ask("still here?"))).completion_tokens > 0
    assert engine.loaded()["tiny"] == pid


def nested(depth: int) -> JsonObject:
    schema: JsonObject = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "odd",
    [
        ask("x", temperature=float("nan")),
        ask("x", logit_bias=((3, float("inf")),)),
        ask("x", max_tokens=0),
        ask("x", max_tokens=-5000),
        ask("\ud800"),
        replace(ask("x"), tools=(FunctionSpec("f", "", nested(400)),)),
        replace(ask("x"), messages=(Message("assistant", "", (ToolCall("f", nested(400)),)),)),
        ask("silence", model="mute"),
    ],
)
async def test_a_request_that_cannot_be_is_an_error_of_its_own(
    store: ModelStore, odd: Generation
) -> None:
    """Whoever is being answered meanwhile hears nothing of it."""
    engine = LlamaEngine(store)
    async with aclosing(engine.generate(ask("x", model=odd.model, max_tokens=2000))) as others:
        await anext(others)
        with pytest.raises(InferenceError) as refused:
            await finish_of(engine, odd)
        assert not isinstance(refused.value, RunnerCrashedError)
        await anext(others)
    await engine.aclose()


GRAMMARS = """
import random, sys
from node.errors import GrammarError
from node.inference.llama.native import Model

vocab = Model(sys.argv[1]).vocab
chance = random.Random(int(sys.argv[2]))
good = vocab_text = 'root ::= "a" item{1,3} | [b-d]+\\nitem ::= "x" | "y" root?\\n'
made = 0
for _ in range(int(sys.argv[3])):
    text = list(good)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(text))
        text[at] = chance.choice(["", "z", *"\\"|()[]{}*:\\\\"])
    try:
        grammar = vocab.grammar("".join(text))
    except GrammarError:
        continue
    made += 1
    grammar.allows(97)
    grammar.only(vocab.bytes)
    grammar.close()
print(made)
"""


def test_damaged_grammars_are_errors(store: ModelStore) -> None:
    """Some are still grammars; none may end the process."""
    path = str(store.path(store.get("tiny")))
    done = subprocess.run(
        [sys.executable, "-c", GRAMMARS, path, "4", str(4 * GENERATIONS)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-1500:]
    assert 0 < int(done.stdout) < 4 * GENERATIONS


async def test_a_bias_bans_and_favours(engine: LlamaEngine) -> None:
    end = 257
    endless = ask("x", max_tokens=600, temperature=1.5, seed=1, logit_bias=((end, -100.0),))
    assert (await finish_of(engine, endless)).completion_tokens == 600
    at_once = ask("x", logit_bias=((end, 1000.0),))
    assert (await finish_of(engine, at_once)).completion_tokens == 0
    letter = await finish_of(engine, ask("x", logit_bias=((ord("A"), 1000.0),)))
    assert set(letter.raw) == {"A"}
    none = ask("x", logit_bias=((10**9, 5.0), (-1, 1000.0), (10**30, 1000.0)))
    assert (await finish_of(engine, none)).raw == (await finish_of(engine, ask("x"))).raw


async def test_forced_text_is_what_the_grammar_says(engine: LlamaEngine) -> None:
    """Names of keys come in one step each: far fewer decodes than tokens."""
    long_name = FunctionSpec(
        "a_function_of_a_rather_long_name",
        "",
        {
            "type": "object",
            "properties": {"a_parameter_of_a_rather_long_name": {"type": "boolean"}},
            "required": ["a_parameter_of_a_rather_long_name"],
        },
    )
    request = Generation(
        "tiny", (Message("user", "go"),), (long_name,), "required",
        Sampling(max_tokens=300), parallel_tool_calls=False,
    )  # fmt: skip
    end = await finish_of(engine, request)
    (call,) = end.tool_calls
    assert call.name == long_name.name
    assert list(call.arguments) == ["a_parameter_of_a_rather_long_name"]
    runner = engine._slots["tiny"]._runner
    assert runner is not None
    assert runner.stats["steps"] < end.completion_tokens / 2


async def test_errors_are_those_of_the_room(engine: LlamaEngine) -> None:
    odd = np.random.default_rng(0)
    for number in range(20):
        schema = {"type": odd.choice(["object", "what", "array"]), "required": ["missing"]}
        spec = FunctionSpec("f", "", {key: str(value) for key, value in schema.items()})
        request = Generation("tiny", (Message("user", str(number)),), (spec,))
        with pytest.raises(InferenceError):
            await finish_of(engine, request)
