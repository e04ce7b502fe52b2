"""A whole node whose agent thinks on a server: the entry, the key in the keystore, the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.rooms import opened

from node.cli.init import create
from node.home import Home
from node.identity import HttpSecret, KeyStore
from node.inference import RemoteModel, RemoteModels, RoutedEngine
from node.inference.testing.server import ModelServer, say

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "h")
    create(home, "test-node")
    (home.agents / "clerk.toml").write_text('name = "clerk"\ninstructions = "Help."\nmodel = "far"')
    return home


async def ask(home: Home, prompt: str) -> Any:
    """What a node of this home answers, and all that its log holds."""
    async with opened(home) as control:
        assert isinstance(control.engine, RoutedEngine)
        run_id = await control.runs.start("clerk", prompt, actor="uid:1000")
        return await control.runs.wait(run_id)


def connect(home: Home, server: ModelServer, **entry: Any) -> RemoteModel:
    remote = RemoteModel("far", server.url, **entry)
    RemoteModels(home.models).add(remote)
    secret = HttpSecret(remote.scope, "Authorization", f"Bearer {KEY}", ())
    KeyStore(home.keys).set("model.far", secret.encode())
    return remote


def told(home: Home) -> bytes:
    return b"".join(path.read_bytes() for path in home.journal.rglob("*") if path.is_file())


async def test_an_agent_thinks_on_a_server_with_the_key_kept_for_it(home: Home) -> None:
    async with ModelServer([say("Hello from afar.")]) as server:
        connect(home, server, key="model.far")
        result = await ask(home, "Say hello")
    assert (result.status, result.text) == ("completed", "Hello from afar.")
    assert {each.headers["authorization"] for each in server.asked} == {f"Bearer {KEY}"}
    assert server.url.encode() in told(home)
    assert KEY.encode() not in told(home)


async def test_a_key_is_not_sent_to_an_address_it_was_not_kept_for(home: Home) -> None:
    async with ModelServer([say("Hello.")]) as server, ModelServer([say("Evil.")]) as evil:
        remote = connect(home, server, key="model.far")
        RemoteModels(home.models).add(RemoteModel("far", evil.url, key=remote.key))
        result = await ask(home, "Say hello")
    assert result.status == "failed"
    assert "was kept for" in result.reason
    assert evil.asked == []


async def test_a_server_that_repeats_the_key_does_not_get_it_shown(home: Home) -> None:
    async with ModelServer([say(f"Your key is {KEY} friend"), say("Hello.")]) as server:
        connect(home, server, key="model.far")
        result = await ask(home, "Say hello")
    assert KEY not in result.text + result.reason
    assert KEY.encode() not in told(home)
