"""A runner that has been taken over, hangs, or dies at any place: an error, and nothing worse.

The process here is a script that says what a test tells it to; the engine's end is the real one.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from node.errors import InferenceError, RunnerCrashedError
from node.inference import LlamaEngine, ModelStore, child
from node.inference.llama import packing
from node.inference.llama.process import RunnerProcess
from node.inference.llama.protocol import Load
from node.inference.llama.watch import Watch
from node.inference.testing.gguf import write_tiny_gguf
from node.inference.types import Finish, Generation, Message, Sampling

READY = {
    "event": "ready",
    "context_tokens": 64,
    "kv_tokens": 64,
    "architecture": "a",
    "format": "f",
}
LOAD = Load("x.gguf", "ab" * 32, (1,), 64, 1, reuse=False)
ASK = Generation("m", (Message("user", "hello"),), sampling=Sampling(max_tokens=16))
FINISH = packing.pack_finish(
    Finish("stop", "hi", "hi", (), prompt_tokens=3, completion_tokens=1, seconds=0.1)
)

DEEP = json.loads('{"a":' * 300 + "1" + "}" * 300)

SCRIPT = """
import socket, struct, sys, time
connection = socket.socket(fileno=int(sys.argv[1]))
stream = connection.makefile("rb")
def take():
    (size,) = struct.unpack(">I", stream.read(4))
    return stream.read(size)
def say(*frames):
    import json
    for frame in frames:
        body = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
        connection.sendall(struct.pack(">I", len(body)) + body)
take()
"""
HANG = "time.sleep(600)\n"


@contextmanager
def instead(script: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs a script in a runner's place; none is left at the end."""

    async def start(
        _module: str, **_environment: str
    ) -> tuple[asyncio.subprocess.Process, socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-S", "-c", SCRIPT + script, str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        started.append(process.pid)
        return process, ours

    started: list[int] = []
    monkeypatch.setattr(child, "start", start)
    try:
        yield
    finally:
        assert not any(map(psutil.pid_exists, started))


@asynccontextmanager
async def runner(
    script: str, monkeypatch: pytest.MonkeyPatch, *, load_s: float = 30, silent_s: float = 30
) -> AsyncIterator[RunnerProcess]:
    with instead(script, monkeypatch):
        process = await RunnerProcess.start(
            LOAD, name="m", max_waiting=4, load_s=load_s, silent_s=silent_s
        )
        try:
            yield process
        finally:
            await process.aclose()


def says(*frames: object) -> str:
    """Loads, and answers the first request so."""
    return f"say({READY!r})\ntake()\nsay({', '.join(map(repr, frames))})\n{HANG}"


async def whole(process: RunnerProcess) -> tuple[str, Finish | None]:
    text, finish = "", None
    async with aclosing(process.generate(ASK)) as tokens:
        async for token in tokens:
            text, finish = text + token.text, token.finish
    return text, finish


def end(**changed: object) -> dict[str, Any]:
    return {"event": "end", "id": 1, "finish": {**FINISH, **changed}}


def piece(text: str, number: int = 1) -> dict[str, Any]:
    return {"event": "tokens", "tokens": [[number, text, ""]]}


async def test_a_process_that_does_not_go_is_ended_though_who_waits_for_that_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, cancelled_at: Callable[..., Awaitable[bool]]
) -> None:
    async with runner(f"say({READY!r})\n{HANG}", monkeypatch) as process:
        assert await cancelled_at(0, process.aclose(grace_s=60))
        assert not psutil.pid_exists(process.pid)


async def test_what_is_true_of_the_end_is_known_here(monkeypatch: pytest.MonkeyPatch) -> None:
    lies = end(
        model_sha256="cd" * 32,
        remote="https://elsewhere",
        sampling={**FINISH["sampling"], "seed": 7},
    )
    async with runner(says(piece("hi"), lies, piece("more"), end()), monkeypatch) as process:
        text, finish = await whole(process)
    assert text == "hi"
    assert finish is not None
    assert (finish.model_sha256, finish.remote) == (LOAD.sha256, "")
    assert finish.sampling == ASK.sampling


@pytest.mark.parametrize(
    "frame",
    [
        {"event": "token", "id": 1},
        {"event": "token", "id": 1, "text": 1, "reasoning": None},
        {"event": ["x"], "id": 1},
        {"event": "end", "id": 1},
        {"event": "end", "id": 1, "finish": {}},
        {"event": "counted", "id": 1, "tokens": 1},
        {"event": "cancelled", "id": 1},
        {"event": "tokens", "tokens": [[1, "a"]]},
        {"event": "stats", "stats": {"waiting": "many"}},
        b'{"event": "stats", "stats": {"waiting": 1e999}}',
        end(seconds=None),
        end(reason="because"),
        end(reason=[]),
        end(completion_tokens=-1_000_000),
        end(completion_tokens=17),
        end(prompt_tokens=65),
        end(prompt_tokens_cached=4),
        end(reasoning_tokens=2),
        end(prompt_tokens=True),
        end(text="\ud800"),
        end(tool_calls=[{"name": "f", "arguments": {"a": "\ud800"}}]),
        json.dumps(end(tool_calls=[{"name": "f", "arguments": DEEP}])).encode(),
        json.dumps(end()).replace("0.1", "1e999").encode(),
        b"no frame",
        b"[]",
        b"\xff",
        b"[" * 100_000,
    ],
)
async def test_what_is_no_answer_is_an_error(
    frame: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with runner(says(frame), monkeypatch) as process:
        with pytest.raises(InferenceError):
            await asyncio.wait_for(whole(process), 20)


async def test_what_is_known_here_of_a_model_at_work_its_runner_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = {"model": 1, "pid": 2, "crashes": 3, "rss_bytes": 4, "running": 5}
    answers = ({"event": "stats", "stats": stats}, {"event": "counted", "id": 1, "tokens": 1})
    store = ModelStore(tmp_path / "models")
    store.add(write_tiny_gguf(tmp_path / "tiny.gguf"), "tiny")
    with instead(says(*answers), monkeypatch):
        async with aclosing(LlamaEngine(store)) as engine:
            await engine.count(replace(ASK, model="tiny"))
            (status,) = engine.metrics()
            assert (status.model, status.pid) == ("tiny", engine.loaded()["tiny"])
            assert (status.crashes, status.running) == (0, 5)
            assert status.rss_bytes > 4


@pytest.mark.parametrize(
    "ready",
    [
        {**READY, "context_tokens": -1},
        {**READY, "context_tokens": 1 << 40},
        {**READY, "kv_tokens": "64"},
        {"event": "stats"},
        {"event": "failed", "kind": "OSError", "message": "x" * 9_000_000},
    ],
)
async def test_a_runner_that_loads_strangely_is_not_used(
    ready: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        f"say({ready!r})\n"
        if "message" not in str(ready)[:60]
        else ("say({'event': 'failed', 'kind': 'OSError', 'message': 'x' * 9000000})\n")
    )
    with pytest.raises(InferenceError) as caught:
        async with runner(script, monkeypatch):
            pass
    assert len(caught.value.message) < 3_000


@pytest.mark.parametrize(
    "last",
    ["", "connection.sendall(b'\\0\\0')\n", "connection.sendall(b'\\0\\0\\0\\x09abc')\n"],
    ids=["between frames", "in a length", "in a frame"],
)
async def test_a_runner_that_dies_anywhere_is_a_crash(
    last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"say({READY!r})\ntake()\nsay({piece('a')!r})\n{last}import os; os._exit(3)\n"
    async with runner(script, monkeypatch) as process:
        with pytest.raises(RunnerCrashedError, match="exit status 3"):
            await asyncio.wait_for(whole(process), 20)
        assert not process.alive
        with pytest.raises(RunnerCrashedError):
            await process.count(ASK)


async def test_who_leaves_an_answer_has_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = "json.loads(take()) == {'op': 'cancel', 'id': 1}"
    script = f"say({READY!r})\ntake()\nsay({piece('a')!r})\n"
    script += f"import json, os; os._exit(3 if {cancelled} else 4)\n"
    async with runner(script, monkeypatch) as process:
        async with aclosing(process.generate(ASK)) as tokens:
            await anext(tokens)
        with pytest.raises(RunnerCrashedError, match="exit status 3"):
            await asyncio.wait_for(process.count(ASK), 20)


@pytest.mark.parametrize("flood", ["'x' * 100000", "''"])
async def test_a_runner_that_never_stops_talking_is_ended(
    flood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = f"{{'event': 'tokens', 'tokens': [[1, {flood}, '']] * 50}}"
    script = f"say({READY!r})\ntake()\nwhile True: say({piece})\n"
    async with runner(script, monkeypatch) as process:
        with pytest.raises(RunnerCrashedError, match="more text than was asked for"):
            await asyncio.wait_for(whole(process), 60)


async def test_a_length_over_the_cap_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"say({READY!r})\ntake()\nconnection.sendall(b'\\xff' * 4)\n{HANG}"
    async with runner(script, monkeypatch) as process:
        with pytest.raises(RunnerCrashedError, match="over the limit"):
            await asyncio.wait_for(whole(process), 20)


async def test_a_model_that_never_loads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunnerCrashedError, match="not loaded in"):
        async with asyncio.timeout(20), runner(HANG, monkeypatch, load_s=0.2):
            pass


async def test_a_runner_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async with runner(f"say({READY!r})\n{HANG}", monkeypatch, silent_s=0.5) as process:
        with pytest.raises(RunnerCrashedError, match="said nothing for"):
            await asyncio.wait_for(whole(process), 20)
        assert not process.alive


async def test_a_runner_that_hangs_is_ended_though_nobody_waited_so_long(
    monkeypatch: pytest.MonkeyPatch, pass_time: Callable[[float], None]
) -> None:
    """Each of those who ask gives up sooner; the runner is not excused by that."""
    async with runner(f"say({READY!r})\n{HANG}", monkeypatch, silent_s=30) as process:
        gone = asyncio.Event()
        process.at_end(gone.set)
        for _ in range(4):
            with suppress(TimeoutError, RunnerCrashedError):
                await asyncio.wait_for(whole(process), 0.01)
            pass_time(10)
        await asyncio.wait_for(gone.wait(), 20)
        assert not process.alive


async def test_one_that_died_is_not_watched_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process id may be another's by the time that its silence is noticed."""
    killed: list[int] = []
    async with runner(f"say({READY!r})\ntake()\n", monkeypatch) as process:
        with pytest.raises(RunnerCrashedError):
            await asyncio.wait_for(whole(process), 20)
        assert process._watch._timer is None
        monkeypatch.setattr(os, "kill", lambda pid, _signal: killed.append(pid))
        process._child._fell_silent()  # as one that had been noticed before
        monkeypatch.undo()
    assert killed == []


async def test_who_owes_nothing_and_who_was_heard_meanwhile_is_not_silent() -> None:
    rang, clock = asyncio.Event(), asyncio.get_running_loop().time
    watch = Watch(60, rang.set)

    def rings_after(seconds: float) -> bool:
        watch._since = clock() - seconds
        watch._look()
        return rang.is_set()

    watch.asked()
    watch.heard(owes=False)
    assert not rings_after(90)
    watch.asked()
    assert not rings_after(30)
    assert rings_after(90)
    rang.clear()
    watch.asked()
    watch.close()
    assert watch._timer is None
    assert not rings_after(90)


@pytest.mark.parametrize("room", ["llama", "embeddings"])
def test_a_process_that_is_needed_no_more_runs_none_of_its_libraries_ends(room: str) -> None:
    """libllama's own, with a model on Apple's GPU, is an abort."""
    code = "import atexit, os; atexit.register(os.abort); "
    code += f"from node.inference.{room}.runner import main; main()"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = [str(theirs.fileno()), str(os.getpid())]
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            pass_fds=(theirs.fileno(),),
            stderr=subprocess.PIPE,
        )
    with process:
        assert (process.stderr and process.stderr.read(), process.wait()) == (b"", 0)


def test_what_is_cancelled_while_its_prompt_is_made_is_not_begun() -> None:
    """Nobody would hear it, and it would go on to its last token."""
    from node.inference.llama.runner import Runner

    class Made:
        prompt, room, closed = (1,), 1, 0

        def answer(self, _request: Generation) -> Made:
            runner._cancel(7)
            return self

        def close(self) -> None:
            self.closed += 1

    ours, theirs = socket.socketpair()
    with ours, theirs:
        runner, made = Runner(theirs), Made()
        with runner._stream:
            runner._preparer = made  # type: ignore[assignment]
            runner._preparing.add(7)
            runner._submit(7, ASK)
    assert (list(runner._ready), made.closed) == ([], 1)


def test_an_answer_that_is_over_gives_its_grammar_s_memory_back() -> None:
    from node.inference.llama.generation import Answer

    class Grammar:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    grammar: Any = Grammar()
    rest: Any = dict.fromkeys(("vocab", "reader", "sampler", "forcing", "origin"))
    Answer(ASK, [1], grammar=grammar, room=1, **rest).close()
    assert grammar.closed == 1


async def test_a_system_that_gives_no_process_is_told() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(InferenceError, match="no process can be started"):
            await child.start("node.inference.llama.runner")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
