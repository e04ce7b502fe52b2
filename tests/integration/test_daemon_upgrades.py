"""An upgrade under a daemon that runs: what it says of itself, and what it still can do."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

from helpers.node import Node

from node.backup import MANIFEST


def install(folder: Path, version: str) -> None:
    """What pip says is installed, to a process that looks in this folder first."""
    about = folder / "freehold.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: freehold\nVersion: {version}\n")


def test_a_daemon_tells_the_version_that_it_runs(node: Node, tmp_path: Path) -> None:
    node.env["PYTHONPATH"] = str(tmp_path)
    install(tmp_path, "0.0.8")
    node.up()
    install(tmp_path, "9.9.9")
    told = node.cli("status")
    assert "is up: version 0.0.8" in told.stdout
    assert "it runs version 0.0.8; this command is of 9.9.9. `freehold down`" in told.stderr
    wrong = [each for each in json.loads(node.cli("doctor", "--json").stdout) if each["problem"]]
    assert [each["what"] for each in wrong] == ["daemon"]
    archive = tmp_path / "backup.tar.gz"
    assert node.cli("backup", str(archive)).returncode == 0
    with tarfile.open(archive) as tar:
        about = tar.extractfile(MANIFEST)
        assert about is not None
        assert json.load(about)["version"] == "0.0.8"
    restored = node.cli("restore", str(archive), FREEHOLD_HOME=str(tmp_path / "other"))
    assert "Freehold 0.0.8 wrote it, and this is 9.9.9" in restored.stderr


LOADED = """
import asyncio, sys
from pathlib import Path
import wallet
from node.config import load
from node.daemon import Daemon
from node.home import Home
from node.inference import ScriptedEngine

async def main():
    home = Home.locate()
    daemon = Daemon(home, load(home.config, {}), engine=ScriptedEngine([]))
    running = asyncio.create_task(daemon.run())
    await daemon._ready.wait()
    (loading,) = [task for task in asyncio.all_tasks() if task.get_name() == "the wallet's code"]
    await loading
    daemon.stop()
    await running

asyncio.run(main())
root = Path(wallet.__file__).parent
for path in root.rglob("*.py"):
    name = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
    if name not in sys.modules:
        print(name)
"""


def test_a_daemon_has_all_of_the_wallet_s_code_once_it_is_ready(node: Node) -> None:
    """What it imported later would be of the version that was installed since."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        env=node.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    late = [name for name in done.stdout.split() if "testing" not in name]
    assert late == ["wallet.nwc.memory"]
