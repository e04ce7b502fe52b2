"""`freehold model connect` as a person uses it, against a server that is another process's thread.

The server is the shipped double; the command is a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from node.cli.init import create
from node.home import Home
from node.identity import HttpSecrets, KeyStore
from node.inference.testing.server import MODEL, SERVICE, ModelServer

KEY = "sk-very-secret-0123456789"


class Shell:
    """Runs `freehold WORDS` on a home of its own, beside the server's event loop."""

    def __init__(self, home: Path) -> None:
        self.home = home
        create(Home(home), "test-node")

    async def __call__(self, *words: str, typed: str = "", fails: int = 0) -> tuple[str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "node.cli", *words),
            env={**os.environ, "FREEHOLD_HOME": str(self.home)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(typed.encode()), 60)
        assert process.returncode == fails, err.decode()
        assert "Traceback" not in err.decode()
        assert KEY not in out.decode() + err.decode()
        return out.decode(), err.decode()

    async def run(self, *words: str) -> str:
        """All it says, however it ends."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "node.cli", *words),
            env={**os.environ, "FREEHOLD_HOME": str(self.home)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        return out.decode()

    async def json(self, *words: str) -> Any:
        return json.loads((await self(*words, "--json"))[0])


async def test_a_server_is_connected_listed_shown_and_forgotten(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    async with ModelServer() as server:
        _, told = await shell("model", "connect", "far", server.url)
        assert "is llama-server, with 4096 tokens" in told
        assert f"is sent to {server.url}" in told
    listed = {each["name"]: each for each in await shell.json("model", "list")}
    assert listed["far"]["remote"] == server.url
    assert "default" in listed
    assert server.url in (await shell("model", "list"))[0]
    assert (await shell.json("model", "show", "far"))["remote"] == server.url
    await shell("model", "remove", "far")
    assert "far" not in (await shell("model", "list"))[0]


async def test_a_key_is_kept_for_its_address_and_shown_nowhere(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    async with ModelServer(facts=SERVICE) as server:
        words = ("model", "connect", "far", server.url, "--model", MODEL)
        await shell(*words, "--key", typed=KEY + "\n")
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
        await shell(*words, "--context", "999")  # the key stays where the address does
        assert server.asked[-1].headers["authorization"] == f"Bearer {KEY}"
    secrets = HttpSecrets(tmp_path / "home" / "keys")
    found = secrets.header("model.far", f"{server.url}/*")
    assert found == {"Authorization": f"Bearer {KEY}"}
    assert secrets.headers("clerk") == {}
    assert KEY not in (tmp_path / "home" / "models" / "remote.toml").read_text()
    assert "model.far" in (await shell("secret", "list"))[0]
    file = tmp_path / "home" / "models" / "remote.toml"
    kept = file.read_text()
    file.write_text(kept.replace(server.url, "https://evil.example/v1"))
    report = await shell.run("doctor")
    assert "secret model.far was kept for" in report
    file.write_text(kept)
    assert "secret model.far was kept for" not in await shell.run("doctor")
    await shell("model", "remove", "far")
    assert HttpSecrets(tmp_path / "home" / "keys").all() == {}


async def test_a_key_does_not_outlive_the_address_it_was_for(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    connect = ("model", "connect", "far", "--model", MODEL, "--context", "99", "--unchecked")
    kept = KeyStore(tmp_path / "home" / "keys")
    for ending in (("model", "remove", "far"), (*connect, "https://b.example")):
        await shell(*connect, "https://a.example", "--key", typed=KEY + "\n")
        assert kept.names() == ["model.far"]
        await shell(*ending)
        assert kept.names() == []


async def test_what_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    async with ModelServer(facts=SERVICE) as server:
        _, told = await shell("model", "connect", "far", server.url, fails=1)
        assert "has 2 models; say which" in told
    _, told = await shell("model", "connect", "far", "http://192.0.2.1:8080", fails=1)
    assert "unencrypted" in told
    _, told = await shell("model", "connect", "Far", server.url, fails=1)
    assert "cannot be the name" in told
    assert "far" not in (await shell("model", "list"))[0]
    await shell("model", "connect", "far", "http://192.0.2.1:8080", "--plain-http", "--unchecked")
    assert "192.0.2.1" in (await shell("model", "list"))[0]
