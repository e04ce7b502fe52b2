"""The process that compiles, by itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path


def test_one_that_nobody_speaks_to_ends_in_its_time(tmp_path: Path) -> None:
    """asyncio leaves a process that it has started where it then cannot wait for it: without a free
    thread up to Python 3.11, without a free descriptor since. Its pipes stay open."""
    limits = json.dumps({"compile_seconds": 0})
    command = (sys.executable, "-m", "node.sandbox.compile_worker", str(tmp_path / "code"), limits)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        try:
            assert worker.wait(timeout=60) == -signal.SIGALRM
        finally:
            worker.kill()
