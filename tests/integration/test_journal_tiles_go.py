"""Our tiles and checkpoints before an independent verifier, written on Go's own packages."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from node.journal import Checkpoint, Draft, Journal, OfflineLog

SOURCE = Path(__file__).parent / "tlog_verify_go" / "main.go"
GOCODE = Path("/usr/share/gocode")
ORIGIN = "test.example/log"


@pytest.fixture(scope="session")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled verifier."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed (Debian: golang)")
    if not (GOCODE / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("golang.org/x/mod is not installed (Debian: golang-golang-x-mod-dev)")
    folder = tmp_path_factory.mktemp("go")
    env = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GOCODE), "GOFLAGS": ""}
    env["GOCACHE"] = str(folder / "cache")
    binary = folder / "tlog_verify"
    done = subprocess.run(
        ["go", "build", "-o", str(binary), str(SOURCE)],
        env=env,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    return binary


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checkpoint]:
    """A log of 600 entries in three epochs, and a checkpoint from its middle."""
    folder = tmp_path_factory.mktemp("log") / "journal"
    journal = Journal.open_sync(folder, origin=ORIGIN, segment_entries=256)
    for number in range(300):
        journal.append_sync(Draft("a.b", data={"n": number}), Draft("a.c", cause=(-1,)))
        if number == 149:
            old = journal.checkpoint()
    journal.close()
    return folder, old


@pytest.fixture
def tiles(log: tuple[Path, Checkpoint], tmp_path: Path) -> Path:
    OfflineLog.open(log[0]).export(tmp_path / "tiles")
    return tmp_path / "tiles"


def run(verifier: Path, tiles: Path, *more: str) -> tuple[int, str]:
    vkey = (tiles / "log.vkey").read_text().strip()
    done = subprocess.run(
        [str(verifier), str(tiles), vkey, *more], capture_output=True, check=False, timeout=60
    )
    return done.returncode, done.stdout.decode() + done.stderr.decode()


def test_our_tiles_are_accepted(verifier: Path, tiles: Path) -> None:
    assert run(verifier, tiles) == (0, "ok 600\n")


def test_our_older_checkpoint_is_a_prefix(
    verifier: Path, tiles: Path, log: tuple[Path, Checkpoint]
) -> None:
    old = log[1]
    root = base64.b64encode(old.root).decode()
    assert run(verifier, tiles, str(old.size), root) == (0, "ok 600\n")
    wrong = base64.b64encode(bytes(32)).decode()
    assert run(verifier, tiles, str(old.size), wrong)[0] == 1


@pytest.mark.parametrize(
    "name",
    [
        "checkpoint",
        "tile/0/000",
        "tile/0/002.p/88",
        "tile/1/000.p/2",
        "tile/entries/001",
        "tile/entries/002.p/88",
    ],
)
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_tampered_files_are_rejected(verifier: Path, tiles: Path, name: str, place: float) -> None:
    raw = bytearray((tiles / name).read_bytes())
    raw[int(len(raw) * place)] ^= 1
    (tiles / name).write_bytes(raw)
    code, text = run(verifier, tiles)
    assert code == 1, f"{name}: {text}"
    assert text.startswith("refused:")


def test_another_epochs_key_is_rejected(
    verifier: Path, tiles: Path, log: tuple[Path, Checkpoint]
) -> None:
    shutil.copy(log[0] / "log.vkey", tiles / "log.vkey")
    assert run(verifier, tiles)[0] == 1
