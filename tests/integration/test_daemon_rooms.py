"""What the daemon joins: what the configuration says, and each room knows of the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from helpers.rooms import opened

from node.cli.init import create
from node.config import load
from node.errors import RunError
from node.home import Home
from node.identity import HttpSecret, KeyStore
from node.inference import Call, EngineLimits, Generation, Say, ScriptedEngine, ToolCall, Wait
from node.rooms import local_engine

KEPT, TOKEN = "a-word-that-nobody-guesses", "another-word-of-thirty-two-letters"
WORDS = {"kept": KEPT, "token": TOKEN}
CONFIG = f"""
[control]
token = "{TOKEN}"
[limits]
runs_at_once = 1
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "h")
    create(home, "test-node")
    home.config.write_text(CONFIG)
    grant = '[[tools]]\nname = "files"\ngrant.workspace = "rw"\n'
    (home.agents / "clerk.toml").write_text(f'name = "clerk"\ninstructions = "Help."\n{grant}')
    return home


def script(request: Generation) -> Say | Call | Wait:
    """Writes a file and then nothing more, or says a word that the node keeps."""
    prompt = next(each.content for each in request.messages if each.role == "user")
    if prompt != "write":
        return Say(f"It is {WORDS.get(prompt)} indeed")
    if any(each.role == "tool" for each in request.messages):
        return Wait(asyncio.Event(), Say(""))
    return Call(ToolCall("files_write", {"path": "a", "content": "1"}))


async def test_what_the_node_keeps_is_in_no_answer_and_in_no_word_that_is_shown(home: Home) -> None:
    secret = HttpSecret("https://api.example/*", "Authorization", f"Bearer {KEPT}", ("clerk",))
    KeyStore(home.keys).set("api", secret.encode())
    async with opened(home, ScriptedEngine(script)) as control:
        for prompt, word in WORDS.items():
            run = await control.runs.start("clerk", prompt, actor="uid:1")
            seen = [str(event.data) async for event in control.runs.watch(run)]
            assert "[redacted" in "".join(seen)
            assert word not in "".join(seen)
            assert word not in (await control.runs.wait(run)).text


async def test_the_limits_of_the_configuration_bind_the_runs(home: Home) -> None:
    async with opened(home, ScriptedEngine(script)) as control:
        await control.runs.start("clerk", "write", actor="uid:1")
        with pytest.raises(RunError, match="1 runs are unfinished"):
            await control.runs.start("clerk", "go", actor="uid:1")


MODELS = """
[models]
context_tokens = 1024
threads = 3
idle_unload_s = 7
max_waiting = 5
max_running = 2
kv_tokens = 4096
memory_mb = 9
states_mb = 11
"""
NO_BOUND = "[models]\nthreads = 0\nidle_unload_s = 0\nmemory_mb = 0\nstates_mb = 0\n"


def test_the_limits_of_the_configuration_bind_the_models(home: Home) -> None:
    home.config.write_text(MODELS)
    assert local_engine(home, load(home.config, {}))._limits == EngineLimits(
        context_tokens=1024,
        max_waiting=5,
        idle_unload_s=7,
        threads=3,
        max_running=2,
        kv_tokens=4096,
        memory_bytes=9 * 2**20,
        state_folder=home.cache / "states",
        state_bytes=11 * 2**20,
    )
    home.config.write_text(NO_BOUND)
    free = local_engine(home, load(home.config, {}))._limits
    found = (free.threads, free.idle_unload_s, free.memory_bytes, free.state_folder)
    assert found == (None, None, None, None)


async def test_a_run_that_is_over_is_not_at_work_on_its_files(home: Home) -> None:
    async with opened(home, ScriptedEngine(script)) as control:
        run = await control.runs.start("clerk", "write", actor="uid:1")
        async for event in control.runs.watch(run):
            if event.type == "step.result" and (home.workspaces / "clerk" / "a").exists():
                break
        await control.runs.cancel(run)
        await control.workspaces.keep("clerk", run="", key="by hand", note="", noted=True)
        (made,) = await control.workspaces.log("clerk")
        assert (made.author, made.run) == ("clerk", run)
