"""`freehold model` as a person or a program uses it."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.cli.init import create
from node.home import Home
from node.inference.testing.gguf import TinyModel, write_tiny_gguf


class Shell:
    """Runs `freehold model WORDS` on a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env: dict[str, str] = {"NO_PROXY": "*"}

    def __call__(self, *words: str | Path, fails: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "node.cli", "model", *map(str, words)],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == fails, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.env, "FREEHOLD_HOME": str(self.home)}

    def json(self, *words: str | Path, fails: int = 0) -> object:
        return json.loads(self(*words, "--json", fails=fails).stdout)


@pytest.fixture
def model(tmp_path: Path) -> Shell:
    create(Home(tmp_path / "home"), "test-node")
    return Shell(tmp_path / "home")


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(context=1234))


def test_a_model_is_added_shown_verified_and_removed(model: Shell, gguf: Path) -> None:
    assert 'model = "tiny"' in model("add", gguf).stderr
    listed = {entry["name"]: entry for entry in model.json("list")}  # type: ignore[attr-defined]
    assert listed["tiny"]["size_bytes"] == gguf.stat().st_size
    assert listed["tiny"]["path"].startswith(str(model.home))
    shown = model.json("show", "tiny")
    assert isinstance(shown, dict)
    assert (shown["architecture"], shown["context_tokens"]) == ("llama", 1234)
    assert (shown["call_format"], shown["chat_template"]) == ("hermes", True)
    assert shown["sha256"][:16] in model("list").stdout
    assert model("verify", "tiny").stdout == "tiny: verified\n"
    assert (model.home / "models").stat().st_mode & 0o777 == 0o700
    model("remove", "tiny")
    assert "tiny" not in model("list").stdout


def test_a_changed_file_is_told_of_and_fails(model: Shell, gguf: Path) -> None:
    model("add", gguf, "--name", "m")
    path = model.home / "models" / "m.gguf"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    told = model("verify", "m", fails=1)
    assert "NOT verified" in told.stderr
    assert "is not what was pinned" in told.stderr
    (entry,) = model.json("verify", "m", fails=1)  # type: ignore[misc]
    assert entry["verified"] is False


def test_a_model_may_stay_where_it_is(model: Shell, gguf: Path) -> None:
    added = model.json("add", gguf, "--in-place")
    assert isinstance(added, dict)
    assert added["path"] == str(gguf)
    model("verify", "tiny")
    gguf.unlink()
    assert "cannot be read" in model("verify", "tiny", fails=1).stderr


def test_errors_say_what_to_do(model: Shell, gguf: Path, tmp_path: Path) -> None:
    assert "hint: Add one with" in model("show", "nope", fails=1).stderr
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"GGUF" + b"\xff" * 100)
    assert "hint: " in model("add", junk, fails=1).stderr
    model("add", gguf)
    assert "freehold model remove tiny" in model("add", gguf, fails=1).stderr
    assert "does not exist" in model("add", tmp_path / "none.gguf", fails=2).stderr


def test_what_it_needs_is_shown(model: Shell, gguf: Path) -> None:
    model("add", gguf)
    shown = model.json("show", "tiny", "--context", "1000")
    assert isinstance(shown, dict)
    memory = shown["memory"]
    assert memory["context_tokens"] == 1000
    assert memory["cache_bytes"] == 1024 * 2 * 2 * 32 * 2
    assert memory["fits"] is True
    assert shown["bench"] is None
    told = model("show", "tiny").stdout
    assert "with a context of 1234 tokens" in told
    assert "`freehold model bench tiny`" in told


def test_a_file_must_be_the_one_that_was_meant(model: Shell, gguf: Path) -> None:
    assert "not 0000" in model("add", gguf, "--sha256", "0" * 64, fails=1).stderr
    assert "bytes, not 5" in model("add", gguf, "--size", "5", fails=1).stderr
    model("add", gguf, "--sha256", hashlib.sha256(gguf.read_bytes()).hexdigest().upper())
    assert list((model.home / "models").glob("*.gguf")) == [model.home / "models" / "tiny.gguf"]


# ── from a server ───────────────────────────────────────────────────────────────────────────


class Hub(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; a path with `slow` in it stops in the middle until the test is over."""

    asked, over = threading.Event(), threading.Event()

    def do_GET(self) -> None:
        if "slow" not in self.path:
            super().do_GET()
            return
        body = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:5000])
        self.wfile.flush()
        self.asked.set()
        self.over.wait(60)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, model: Shell) -> Iterator[Path]:
    """A folder that is served as the hub's repository `o/r`."""
    folder = tmp_path / "served" / "o" / "r" / "resolve" / "main"
    folder.mkdir(parents=True)
    handler = functools.partial(Hub, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        model.env["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_address[1]}"
        Hub.asked.clear()
        Hub.over.clear()
        yield folder
        Hub.over.set()
        server.shutdown()
        thread.join()


def test_a_model_is_fetched_from_a_hub(model: Shell, hub: Path) -> None:
    served = write_tiny_gguf(hub / "Tiny-F32.gguf")
    told = model("add", "hf:o/r/Tiny-F32.gguf").stderr
    assert "licence: not said in the file" in told
    assert hashlib.sha256(served.read_bytes()).hexdigest() in told
    shown = model.json("show", "tiny-f32")
    assert isinstance(shown, dict)
    assert shown["source"] == "hf:o/r/Tiny-F32.gguf"
    assert model("verify").stdout.splitlines()[-1] == "tiny-f32: verified"
    assert "answers 404" in model("add", "hf:o/r/none.gguf", fails=1).stderr
    (hub / "page.gguf").write_text("<html>Sign in</html>")
    assert "it is a web page" in model("add", "hf:o/r/page.gguf", fails=1).stderr
    assert sorted(path.name for path in (model.home / "models").glob("*.gguf")) == ["tiny-f32.gguf"]
    assert "there is a model 'tiny-f32'" in model("add", "hf:o/r/tiny-f32.gguf", fails=1).stderr


def test_ctrl_c_keeps_what_came(
    model: Shell, hub: Path, interruptible: Callable[..., subprocess.Popen[str]]
) -> None:
    write_tiny_gguf(hub / "slow.gguf")
    fetching = interruptible("model", "add", "hf:o/r/slow.gguf", env=model.environment())
    assert Hub.asked.wait(60)
    fetching.send_signal(signal.SIGINT)
    _, told = fetching.communicate(timeout=60)
    assert fetching.returncode == 130
    assert told == "stopped; what came is kept, and the same command goes on from there\n"
    assert " of hf:o/r/slow.gguf; `freehold model add` it again" in model("list").stderr
    model("remove", "--unfinished")
    assert "not whole yet" not in model("list").stderr
