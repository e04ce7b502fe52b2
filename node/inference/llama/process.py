"""The engine's end of one runner process: start it, talk to it, notice its death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import asdict

from node.errors import EngineBusyError, InferenceError, RunnerCrashedError
from node.inference import child
from node.inference.llama import protocol
from node.inference.llama.barriers import ENVIRONMENT
from node.inference.llama.protocol import Frame, Load
from node.inference.types import Generation, Token

_STDERR_LINES = 30
_LAST_WORDS_S = 5.0
_STDERR_LINE_CHARS = 500


class RunnerProcess:
    """A started runner with its model loaded. Made by `start`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        connection: socket.socket,
        *,
        name: str,
        running: int,
        waiting: int,
    ) -> None:
        self.context_tokens = 0
        self.kv_tokens = 0
        self.stats: dict[str, float] = {}
        self.architecture = ""
        self.format = ""
        self._process = process
        self._connection = connection
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None
        self._name = name
        self._most_running = running
        self._most_waiting = waiting
        self._next_id = 1
        self._requests: dict[int, asyncio.Queue[Frame | None]] = {}
        self._generating: set[int] = set()
        self._lines: deque[str] = deque(maxlen=_STDERR_LINES)
        self._stderr = asyncio.create_task(self._drain_stderr())
        self._frames: asyncio.Task[None] | None = None
        self._dead = False

    @classmethod
    async def start(cls, load: Load, *, name: str, max_waiting: int) -> RunnerProcess:
        """Starts a process and waits until the model is loaded.

        Generations over `load.max_running` wait, at most `max_waiting` of them.

        Raises:
            ModelError, TemplateError: the model cannot be loaded.
            RunnerCrashedError: the process died while loading it.
        """
        process, ours = await child.start("node.inference.llama.runner", **ENVIRONMENT)
        runner = cls(process, ours, name=name, running=load.max_running, waiting=max_waiting)
        try:
            await runner._load(load)
        except BaseException:
            await runner.aclose()
            raise
        return runner

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether requests can be made."""
        return not self._dead

    async def generate(self, request: Generation) -> AsyncGenerator[Token, None]:
        """Streams one generation; closing the iterator cancels it."""
        waiting = len(self._generating) - self._most_running
        if waiting >= self._most_waiting:
            raise EngineBusyError(
                f"the model {self._name} is busy, {waiting} waiting",
                hint="Try again later, or run fewer agents on this model at once.",
            )
        number, queue = self._send("generate", request)
        self._generating.add(number)
        ended = False
        try:
            while not ended:
                frame = await self._next(queue)
                ended = frame.get("event") != "token"
                yield self._token(frame)
        finally:
            self._forget(number)
            if not ended and self.alive:
                self._write({"op": "cancel", "id": number})

    async def count(self, request: Generation) -> int:
        """Tokens of the request's prompt."""
        number, queue = self._send("count", request)
        try:
            frame = await self._next(queue)
        finally:
            self._forget(number)
        if frame.get("event") == "error":
            raise protocol.to_error(frame)
        return protocol.field(frame, "tokens", int)

    async def aclose(self, *, grace_s: float = 0.0) -> None:
        """Ends the process and waits for its end; its memory is the system's again.

        With `grace_s` it may take so long to write down what can be gone on with.
        """
        self._dead = True
        if grace_s > 0 and self._process.returncode is None:
            self._write({"op": "close"})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace_s)
        if self._writer is None:
            self._connection.close()
        else:
            self._writer.close()
        await self._end()
        if self._frames is not None:
            self._frames.cancel()
            await asyncio.gather(self._frames, return_exceptions=True)
        if self._writer is not None:
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _end(self) -> int:
        """Kills the process if it lives; its exit status, once its stderr is read to the end.

        Not by `Process.kill`: that polls first, and so takes the status of a process that has just
        died away from the event loop's own watcher.
        """
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        status = await self._process.wait()
        await asyncio.wait([self._stderr], timeout=_LAST_WORDS_S)
        return status

    async def _load(self, load: Load) -> None:
        self._reader, self._writer = await asyncio.open_connection(sock=self._connection)
        self._write(asdict(load))
        frame = await protocol.receive(self._reader)
        if frame is None:
            raise await self._crash("while loading")
        if frame.get("event") == "failed":
            raise await self._refusal(frame)
        self.context_tokens = protocol.field(frame, "context_tokens", int)
        self.kv_tokens = protocol.field(frame, "kv_tokens", int)
        self.architecture = protocol.field(frame, "architecture", str)
        self.format = protocol.field(frame, "format", str)
        self._frames = asyncio.create_task(self._dispatch())

    async def _refusal(self, frame: Frame) -> InferenceError:
        """Why the model was not loaded, with libllama's own reason where it gave one."""
        error = protocol.to_error(frame)
        await asyncio.wait([self._stderr], timeout=_LAST_WORDS_S)  # it ends with the process
        reason = next((line for line in self._lines if "error" in line.lower()), "")
        return type(error)(
            f"{error.message} ({reason})" if reason else error.message, hint=error.hint
        )

    def _send(self, operation: str, request: Generation) -> tuple[int, asyncio.Queue[Frame | None]]:
        number, self._next_id = self._next_id, self._next_id + 1
        self._write({"op": operation, "id": number, "request": protocol.pack_request(request)})
        queue: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._requests[number] = queue
        if self._dead:
            queue.put_nowait(None)
        return number, queue

    def _write(self, frame: Frame) -> None:
        data = protocol.encode(frame)
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(data)

    def _forget(self, number: int) -> None:
        self._requests.pop(number, None)
        self._generating.discard(number)

    async def _next(self, queue: asyncio.Queue[Frame | None]) -> Frame:
        frame = await queue.get()
        if frame is None:
            raise await self._crash("during a generation")
        return frame

    def _token(self, frame: Frame) -> Token:
        match frame.get("event"):
            case "token":
                return Token(frame["text"], reasoning=frame["reasoning"])
            case "end":
                return Token("", protocol.unpack_finish(protocol.field(frame, "finish", dict)))
            case "error":
                raise protocol.to_error(frame)
            case event:
                raise InferenceError(f"the runner of {self._name} sent an unknown event {event}")

    async def _dispatch(self) -> None:
        """Gives each frame to the request it is for, until the process ends."""
        try:
            while (frame := await protocol.receive(self._reader)) is not None:
                self._deliver(frame)
        except protocol.ProtocolError as error:
            self._lines.append(error.message)
        finally:
            self._dead = True
            for queue in self._requests.values():
                queue.put_nowait(None)

    def _deliver(self, frame: Frame) -> None:
        match frame.get("event"):
            case "tokens":
                for number, text, thought in protocol.pieces(frame):
                    if (queue := self._requests.get(number)) is not None:
                        queue.put_nowait({"event": "token", "text": text, "reasoning": thought})
            case "stats":
                self.stats = protocol.numbers(frame, "stats")
            case _:
                if (queue := self._requests.get(protocol.field(frame, "id", int))) is not None:
                    queue.put_nowait(frame)

    async def _crash(self, when: str) -> RunnerCrashedError:
        self._dead = True
        code = await self._end()
        last = "\n".join(self._lines)
        return RunnerCrashedError(
            f"the runner of {self._name} died {when} ({_describe(code)})"
            + (f"; its last words:\n{last}" if last else ""),
            hint="Trying again is safe. If it dies again, use a smaller model or context.",
        )

    async def _drain_stderr(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        pending = b""
        while chunk := await stream.read(4096):
            *lines, pending = (pending + chunk).split(b"\n")
            pending = pending[-_STDERR_LINE_CHARS:]
            self._lines.extend(
                line[:_STDERR_LINE_CHARS].decode(errors="replace") for line in lines if line
            )


def _describe(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
