"""A process that holds a model: how it is started and ended, and what it does first.

Both ends are here. The daemon's gives it one socket and a small environment, keeps what it says on
stderr, and ends it; the process's sees to it that it never outlives the daemon, is the first to go
when memory is short, and leaves no core file with texts in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import os
import resource
import signal
import socket
import sys
from collections import deque
from pathlib import Path
from typing import NoReturn

import psutil

import node
from node.errors import InferenceError, RunnerCrashedError
from node.inference.llama.watch import Watch
from node.version import ANEW, replaced

_PR_SET_PDEATHSIG = 1
_LINES = 30  # of stderr, the last ones
_LINE_BYTES = 500
_LAST_WORDS_S = 5.0
_PASSED = (
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "LLAMA_CPP_LIB_PATH",
    "OMP_NUM_THREADS",
    "PATH",
    "TMPDIR",
    "TZ",
)


async def start(
    module: str, **environment: str
) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """Starts `python -m module`; the process and our end of its socket. Its stderr is a pipe.

    `environment` goes over what is always told.

    Raises:
        InferenceError: no process can be started, or not one that fits this.
    """
    if other := replaced():
        raise InferenceError(other, hint=ANEW)
    try:
        return await _start(module, environment)
    except (OSError, RuntimeError) as error:  # the latter: no thread that would wait for it
        raise InferenceError(
            f"no process can be started for a model: {getattr(error, 'strerror', None) or error}",
            hint="Look at memory, and at the limits on open files and processes (`ulimit -a`).",
        ) from error


async def _start(
    module: str, environment: dict[str, str]
) -> tuple[asyncio.subprocess.Process, socket.socket]:
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", module, str(theirs.fileno()), str(os.getpid())),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**_environment(), **environment},
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


class Child:
    """A started process as the daemon has it: its last words, its silence, its end.

    Attributes:
        lines: what it said last on stderr, and what was noted of it.
        watch: ends it where it owes an answer and says nothing for `silent_s`.
    """

    def __init__(self, process: asyncio.subprocess.Process, *, silent_s: float) -> None:
        self.pid = process.pid
        self.lines: deque[str] = deque(maxlen=_LINES)
        self.watch = Watch(silent_s, self._fell_silent)
        self._process = process
        self._silent_s = silent_s
        self._stderr = asyncio.create_task(self._drain())

    @property
    def ended(self) -> bool:
        """Whether it was seen to end; its number may be another's then."""
        return self._process.returncode is not None

    async def ended_within(self, seconds: float) -> None:
        """Waits at most so long for it to end by itself."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()

    async def end(self) -> int:
        """Kills it if it lives; its exit status, once its stderr is read to the end."""
        self.watch.close()
        self._kill()
        status = await self._process.wait()
        await self.said_all()
        return status

    async def said_all(self) -> None:
        """Waits until its stderr ends, as it does with the process."""
        await asyncio.wait([self._stderr], timeout=_LAST_WORDS_S)

    def crash(self, what: str) -> RunnerCrashedError:
        """The error of its death: `what` happened, and its last words."""
        last = "\n".join(self.lines)
        return RunnerCrashedError(
            what + (f"; its last words:\n{last}" if last else ""),
            hint="Trying again is safe. If it dies again, use a smaller model or context.",
        )

    def _fell_silent(self) -> None:
        if not self.ended:
            self.lines.append(f"it said nothing for {self._silent_s:g} s, and was ended")
            self._kill()

    def _kill(self) -> None:
        """Not by `Process.kill`: that polls first, and so takes the status of a process that has
        just died away from the event loop's own watcher."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _drain(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        pending = b""
        while chunk := await stream.read(4096):
            *lines, pending = (pending + chunk).split(b"\n")
            pending = pending[-_LINE_BYTES:]
            self.lines.extend(line[:_LINE_BYTES].decode(errors="replace") for line in lines if line)


def resident_bytes(pid: int) -> int:
    """What a process takes, files it has mapped included; 0 for one that is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def mapped_bytes(pid: int) -> int:
    """What of that are pages of files, which Linux says are available to others; 0 elsewhere."""
    try:
        return int(getattr(psutil.Process(pid).memory_info(), "shared", 0))
    except psutil.Error:
        return 0


def _environment() -> dict[str, str]:
    """What the process is told of the daemon's environment: no secrets.

    OpenMP's threads wait without spinning, and an abort of libllama calls no debugger.
    """
    passed = {key: os.environ[key] for key in _PASSED if key in os.environ}
    passed.update({key: value for key, value in os.environ.items() if key.startswith("GGML_")})
    root = str(Path(node.__file__).parent.parent)
    return {**passed, "PYTHONPATH": root, "OMP_WAIT_POLICY": "passive", "GGML_NO_BACKTRACE": "1"}


def end() -> NoReturn:
    """How the process ends. Never as Python would: of a model on Apple's GPU, which nobody has
    freed, libllama then makes an abort, and macOS a report of a crash."""
    os._exit(0)


def settle_in() -> socket.socket:
    """What the process does first; its end of the socket. The arguments are those of `start`."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    # a native crash says where on stderr, which the daemon shows
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):  # a container may not let it
            Path("/proc/self/oom_score_adj").write_text("500")
    if os.getppid() != parent:
        os._exit(0)
    return socket.socket(fileno=descriptor)
