"""`freehold model bench`, what it keeps, and where that is shown."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from node import inference
from node.cli import _model, model_bench
from node.cli._progress import Bar
from node.cli.main import root
from node.errors import ModelError
from node.home import Home
from node.inference import Bench, ModelStore, Room, Say, ScriptedEngine, run_bench
from node.inference.models import memory
from node.inference.testing.gguf import TinyModel, write_tiny_gguf


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path / "h"))

    async def run(store: ModelStore, name: str, *, quiet: bool) -> Bench:
        engine = ScriptedEngine(lambda _request: Say("I cannot do that."), models=(name,))
        found = await run_bench(engine, name, memory=lambda: 123 << 20)
        return Bench(**{**vars(found), "sha256": store.get(name).sha256})

    monkeypatch.setattr(model_bench, "_run", run)
    assert CliRunner().invoke(root, ["init"]).exit_code == 0
    return Home(tmp_path / "h")


def there_is(monkeypatch: pytest.MonkeyPatch, found: Room) -> None:
    for place in (memory, inference):
        monkeypatch.setattr(place, "room", lambda: found)


def run(*words: str) -> Result:
    result = CliRunner().invoke(root, list(words), prog_name="freehold")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def test_a_bench_is_shown_kept_and_told_of_by_doctor(home: Home) -> None:
    shown = run("model", "bench").stdout
    assert shown.splitlines()[-1] == "default: not fit"
    assert "no tool fits     6 of 6        6 of 6" in shown
    assert "memory: 123.0 MiB" in shown
    assert home.root.stat().st_mode & 0o777 == 0o700
    found = "not fit: 12 of 30 cases with the grammar, 12 without; tokens/s by agents: "
    assert found in run("model", "show", "default").stdout
    assert f"default: {found}" in run("doctor").stdout
    misses = run("model", "bench", "--misses").stdout
    assert "[right tool, without the grammar] Where in the library" in misses
    assert "said 'I cannot do that.', and should call shelf_lookup" in misses


def test_a_bench_for_programs_has_every_case(home: Home) -> None:
    found = json.loads(run("model", "bench", "default", "--json").stdout)
    assert found["verdict"] == "not fit"
    assert found["agents"] == [1, 4, 8]
    assert len(found["cases"]) == 60
    shown = json.loads(run("model", "show", "default", "--json").stdout)
    assert shown["bench"]["verdict"] == "not fit"


def test_what_a_bench_found_is_shown_also_where_it_cannot_be_kept(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("node.disk.sync", full)
    done = CliRunner().invoke(root, ["model", "bench"])
    assert done.stdout.splitlines()[-1] == "default: not fit"
    assert isinstance(done.exception, ModelError)
    assert f"cannot write {home.models / 'models.lock'}: " in done.exception.message


def test_a_model_of_a_server_is_not_benched(home: Home) -> None:
    home.create()
    (home.models / "remote.toml").write_text('[far]\nurl = "http://127.0.0.1:9/v1"\n')
    refused = CliRunner().invoke(root, ["model", "bench", "far"])
    assert isinstance(refused.exception, ModelError)
    assert "runs on a server" in refused.exception.message


def test_before_a_bench_doctor_says_how_to_make_one(home: Home) -> None:
    assert "none yet; `freehold model bench default`" in run("doctor").stdout
    notes = [item["note"] for item in json.loads(run("doctor", "--json").stdout) if item["note"]]
    assert notes[0].startswith("models run on: ")


def test_doctor_names_a_model_that_can_never_fit(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.create()
    path = write_tiny_gguf(tmp_path / "big.gguf", TinyModel(context=1 << 20))
    ModelStore(home.models).add(path, "big")
    small = Room(100 << 20, 110 << 20, "this machine's memory")
    there_is(monkeypatch, small)
    told = run("doctor").stdout
    assert "the model 'big' with a context of 16384 tokens needs" in told
    assert "this machine's memory is 110 MiB in all" in told
    assert "models.context_tokens = " in told


def test_a_model_that_can_never_fit_is_not_added_unless_one_insists(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_gguf(tmp_path / "big.gguf")
    tiny = Room(1 << 20, 50 << 20, "the control group's memory limit")
    there_is(monkeypatch, tiny)
    refused = CliRunner().invoke(root, ["model", "add", str(path)])
    assert "--anyway adds it all the same" in getattr(refused.exception, "hint", "")
    assert run("model", "add", str(path), "--anyway").exit_code == 0
    assert "does NOT fit" in run("model", "show", "big").stdout


def test_the_machine_is_named() -> None:
    assert _model.gpu_line() == str(inference.inspect())


# ── the progress bar ────────────────────────────────────────────────────────────────────────


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("total", "always", "quiet", "drawn"),
    [
        (1 << 30, False, False, True),
        (1 << 10, False, False, False),
        (1 << 10, True, False, True),
        (0, True, False, True),
        (1 << 30, True, True, False),
    ],
)
def test_a_bar_is_drawn_on_a_terminal_for_what_takes_a_while(
    monkeypatch: pytest.MonkeyPatch, total: int, always: bool, quiet: bool, drawn: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Bar("evil\x1b[2J[bold].gguf", quiet=quiet, always=always) as bar:
        bar.show(512, total)
    assert ("\\x1b[2J[bold].gguf" in terminal.getvalue()) == drawn
    assert bool(terminal.getvalue()) == drawn


def test_a_bar_is_silent_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("a.gguf", quiet=False, always=True) as bar:
        bar.show(1, 2)
    assert capsys.readouterr() == ("", "")
