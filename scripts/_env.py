"""Lets a script run under the project's own environment however it was started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def setup() -> None:
    """Runs scripts/setup, which does nothing when all is current."""
    if subprocess.run([ROOT / "scripts" / "setup"], check=False).returncode:
        raise SystemExit(1)


def use_venv(folder: str = ".venv") -> None:
    """Re-executes the script with `folder`'s Python unless it already runs there."""
    python = ROOT / folder / "bin" / "python"
    if Path(sys.prefix).resolve() != (ROOT / folder).resolve():
        if not python.exists():
            raise SystemExit(f"{folder} is missing; run scripts/setup first")
        os.execv(python, [str(python), *sys.argv])
    sys.path.insert(0, str(ROOT))
