"""Other people's wallets as processes of ours, for interop tests and benches.

with Peer("nutshell", mint.url) as peer:
    token = peer.ask("send", amount=5)

A peer answers one JSON line a command; scripts/peers has one file each. Nutshell's wallet is in
the mint's environment (`scripts/mint --setup-only`), cashu-ts comes from npm by its lock file
(`scripts/interop --setup-only`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "scripts" / "peers"
MODULES = FOLDER / "node_modules"
LIMIT_S = 60.0  # to end
NAMES = ("nutshell", "cashu-ts")


def missing(name: str) -> str:
    """Why a peer cannot run; "" where it can."""
    if name == "nutshell":
        import _mint

        return str(_mint.missing())
    if shutil.which("node") is None:
        return "Node.js is not installed, and cashu-ts needs it"
    if not _current():
        return "cashu-ts is not set up: run scripts/interop --setup-only"
    return ""


def setup() -> None:
    """Installs cashu-ts by its lock file, every package by hash; nothing where that was done."""
    if _current():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is missing: install Node.js 20 or newer")
    print(f"Setting up cashu-ts in {MODULES.relative_to(ROOT)}", file=sys.stderr)
    if subprocess.run([npm, "ci"], cwd=FOLDER, stdout=sys.stderr, check=False).returncode:
        raise SystemExit("npm ci failed")
    _stamp().write_text(_digest())


class Peer:
    """A wallet of somebody else's making, at one mint, in a process of its own.

    Args:
        name: one of `NAMES`, or `freehold`, which is ours behind the same commands.
        url: the mint.
    """

    def __init__(self, name: str, url: str) -> None:
        self._stack = contextlib.ExitStack()
        made = tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True)
        self.folder = Path(self._stack.enter_context(made))
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                _command(name, url, self.folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                text=True,
            )
        self._ready = False

    def ask(self, do: str, **given: Any) -> Any:
        """The answer to a command.

        Raises:
            PeerError: it says no, or has ended.
        """
        if not self._ready:
            self._ready = self._answer() == "ready"
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **given}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Stops it and waits until it is gone."""
        with self._stack:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            try:
                self.process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise PeerError(f"the peer ended:\n{(self.folder / 'log').read_text()[-2000:]}")
        said = json.loads(line)
        if "error" in said:
            raise PeerError(said["error"])
        return said["answer"]

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class PeerError(Exception):
    """A peer says no."""


def _command(name: str, url: str, folder: Path) -> list[str]:
    if name == "cashu-ts":
        return ["node", str(FOLDER / "cashu_ts.mjs"), url, secrets.token_hex(32)]
    if name == "nutshell":
        import _mint

        python = str(_mint.venv() / "bin" / "python")
        return [python, str(FOLDER / "nutshell.py"), url, str(folder)]
    return [sys.executable, str(FOLDER / "freehold.py"), url, str(folder)]


def _current() -> bool:
    return _stamp().exists() and _stamp().read_text() == _digest()


def _stamp() -> Path:
    return MODULES / ".lock-sha256"


def _digest() -> str:
    return hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
