"""The compilers' own environments, made from the committed locks and apart from the node's.

`.venv-tools` holds what comes from PyPI (hashes required), `scripts/toolchain/node_modules` what
comes from npm (integrity required). Each remembers the lock it was made from, so a second call
does nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "scripts" / "toolchain"
VENV = ROOT / ".venv-tools"
PYTHON = VENV / "bin" / "python"
NODE_MODULES = FOLDER / "node_modules"


class ToolchainError(Exception):
    """A compiler is missing or refused the source; the message is for the person building."""


def ensure() -> None:
    """Makes what is missing. Raises ToolchainError when a registry's client fails."""
    if not _current(VENV, "requirements.lock"):
        _make_venv()
        _remember(VENV, "requirements.lock")
    if not _current(NODE_MODULES, "package-lock.json"):
        npm = shutil.which("npm")
        if npm is None:
            raise ToolchainError("npm is missing: install Node.js 20 or newer")
        # Not `npm ci`: it refuses a lock without the platforms a registry's mirror leaves out.
        run([npm, "install", "--no-save"], cwd=FOLDER)
        _remember(NODE_MODULES, "package-lock.json")


def run(
    command: list[str], *, cwd: Path | None = None, extra: dict[str, str] | None = None
) -> None:
    """Runs a build step, with `extra` in its environment.

    Raises ToolchainError with what it printed if it fails.
    """
    environment = {**os.environ, **(extra or {})}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).partition("\nStack backtrace:")[0].strip()
        raise ToolchainError(f"{Path(command[0]).name} failed:\n{said}")


def _make_venv() -> None:
    print("Setting up .venv-tools", file=sys.stderr)
    venv.create(VENV, clear=True, with_pip=True)
    lock = str(FOLDER / "requirements.lock")
    run([str(PYTHON), "-m", "pip", "install", "-q", "--require-hashes", "--no-deps", "-r", lock])


def _current(folder: Path, lock: str) -> bool:
    stamp = folder / ".lock-sha256"
    return stamp.exists() and stamp.read_text() == _digest(lock)


def _remember(folder: Path, lock: str) -> None:
    (folder / ".lock-sha256").write_text(_digest(lock))


def _digest(lock: str) -> str:
    return hashlib.sha256((FOLDER / lock).read_bytes()).hexdigest()
