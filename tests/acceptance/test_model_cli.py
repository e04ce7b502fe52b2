"""`freehold model` as a person or a program uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from node.inference.testing import TinyModel, write_tiny_gguf


class Shell:
    """Runs `freehold model WORDS` on a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str | Path, fails: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "node.cli", "model", *map(str, words)],
            env={**os.environ, "FREEHOLD_HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == fails, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str | Path, fails: int = 0) -> object:
        return json.loads(self(*words, "--json", fails=fails).stdout)


@pytest.fixture
def model(tmp_path: Path) -> Shell:
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
