"""The engine's peers in `bench_engine`: the high-level `Llama`, and llama-server.

Both are given the very texts that the engine makes of the same requests, as many threads, and their
own defaults for everything else: how their threads wait for one another above all.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing.pool
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_OURS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


class Sequential:
    """The high-level `Llama`, which does one after another."""

    def __init__(self, model: Path, threads: int) -> None:
        from llama_cpp import Llama

        self._llama: Any = Llama(
            str(model), n_ctx=4096, n_threads=threads, n_threads_batch=threads, n_batch=512,
            verbose=False,
        )  # fmt: skip
        self._llama.create_completion([65], max_tokens=4, temperature=0.0)

    def speed(self, text: str, tokens: int) -> float:
        """Tokens/s of one completion, its prompt included."""
        self._llama.reset()
        started = time.perf_counter()
        prompt = self._llama.tokenize(text.encode(), add_bos=False, special=True)
        reply = self._llama.create_completion(prompt, max_tokens=tokens, temperature=0.0)
        return float(reply["usage"]["completion_tokens"]) / (time.perf_counter() - started)

    def close(self) -> None:
        self._llama.close()


class Server:
    """A llama-server with a slot for each agent."""

    def __init__(self, port: int, slots: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._pool = multiprocessing.pool.ThreadPool(slots)

    def speed(self, texts: Sequence[str], tokens: int, *, cache: bool = False) -> float:
        """Tokens/s of as many completions at once; `cache`: what was evaluated before is kept."""
        started = time.perf_counter()
        made = self._pool.map(lambda text: self._complete(text, tokens, cache), texts)
        return sum(made) / (time.perf_counter() - started)

    def _complete(self, text: str, tokens: int, cache: bool) -> int:
        body = {"prompt": text, "n_predict": tokens, "temperature": 0, "cache_prompt": cache}
        asked = urllib.request.Request(
            f"{self._url}/completion", json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(asked, timeout=600) as reply:
            return int(json.load(reply)["tokens_predicted"])

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


def built_server() -> str | None:
    """Where scripts/build_llama_server puts it, if it did."""
    path = ROOT / "build" / "llama-server" / "bin" / "llama-server"
    return str(path) if path.exists() else None


@contextlib.contextmanager
def served(program: str | None, model: Path, threads: int, slots: int) -> Iterator[Server | None]:
    """A llama-server that is ready; None without the path of one."""
    if program is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [program, "-m", str(model), "--port", str(port), "-c", str(2048 * slots),
         "-np", str(slots), "-t", str(threads), "-tb", str(threads), "--no-webui"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={key: value for key, value in os.environ.items() if key not in _OURS},
    )  # fmt: skip
    server = Server(port, slots)
    try:
        for _ in range(300):
            if server.ready():
                break
            time.sleep(0.2)
        else:
            raise SystemExit("llama-server does not start")
        server.speed(["warm"], 4)
        yield server
    finally:
        server.close()
        process.kill()
        process.wait()
