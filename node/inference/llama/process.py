"""The engine's end of one runner process: start it, talk to it, notice its death or its silence.

The process runs native code on a file from anywhere. So what it sends is held to what was asked:
the kinds of fields, how much text there may be; and the digest is the one that was checked here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass, field, replace

from node.errors import EngineBusyError, InferenceError, RunnerCrashedError
from node.inference import child
from node.inference.grammar.fits import answer_fault
from node.inference.llama import packing, protocol
from node.inference.llama.barriers import ENVIRONMENT
from node.inference.llama.protocol import PERSONS_MORE, Frame, Load
from node.inference.types import Finish, Generation, Token

_NAME_CHARS = 500  # of the architecture, and of the format
_TEXT_CHARS = 1 << 20
_TOKEN_CHARS = 256  # more than the longest words of a vocabulary, on the average
_PIECE_CHARS = 64  # what a piece counts at the least


@dataclass
class _Asked:
    """A request under way, and the characters that may still come for it."""

    room: int
    frames: asyncio.Queue[Frame | None] = field(default_factory=asyncio.Queue)

    def take(self, text: str, thought: str) -> None:
        """Raises ProtocolError where more comes than was asked for."""
        self.room -= max(_PIECE_CHARS, len(text) + len(thought))
        if self.room < 0:
            raise protocol.ProtocolError("it sent far more text than was asked for")
        self.frames.put_nowait({"event": "token", "text": text, "reasoning": thought})


class RunnerProcess:
    """A started runner with its model loaded. Made by `start`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        connection: socket.socket,
        *,
        name: str,
        sha256: str,
        running: int,
        waiting: int,
        silent_s: float,
    ) -> None:
        self.context_tokens = 0
        self.kv_tokens = 0
        self.stats: dict[str, float] = {}
        self.architecture = ""
        self.format = ""
        self._child = child.Child(process, silent_s=silent_s)
        self._watch = self._child.watch
        self._connection = connection
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None
        self._name = name
        self._sha256 = sha256
        self._most_running = running
        self._most_waiting = waiting
        self._next_id = 1
        self._requests: dict[int, _Asked] = {}
        self._generating: set[int] = set()
        self._frames: asyncio.Task[None] | None = None
        self._dead = False

    @classmethod
    async def start(
        cls, load: Load, *, name: str, max_waiting: int, load_s: float, silent_s: float
    ) -> RunnerProcess:
        """Starts a process and waits until the model is loaded.

        Generations over `load.max_running` wait, at most `max_waiting` of them. It is ended where
        loading takes over `load_s`, or where it owes an answer and says nothing for `silent_s`.

        Raises:
            ModelError, TemplateError: the model cannot be loaded.
            RunnerCrashedError: the process died while loading it.
        """
        process, ours = await child.start("node.inference.llama.runner", **ENVIRONMENT)
        runner = cls(
            process,
            ours,
            name=name,
            sha256=load.sha256,
            running=load.max_running,
            waiting=max_waiting,
            silent_s=silent_s,
        )
        try:
            await runner._load(load, load_s)
        except BaseException:
            await runner.aclose()
            raise
        return runner

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether requests can be made."""
        return not self._dead

    def at_end(self, told: Callable[[], None]) -> None:
        """Has `told` called once requests cannot be made any more."""
        assert self._frames is not None
        self._frames.add_done_callback(lambda _: told())

    async def generate(self, request: Generation) -> AsyncGenerator[Token, None]:
        """Streams one generation; closing the iterator cancels it."""
        waiting = len(self._generating) - self._most_running
        own = PERSONS_MORE if request.priority == "person" else 0
        if waiting >= self._most_waiting + own:
            raise EngineBusyError(
                f"the model {self._name} is busy, {waiting} waiting",
                hint="Try again later, or run fewer agents on this model at once.",
            )
        number, asked = self._send("generate", request)
        self._generating.add(number)
        ended = False
        try:
            while not ended:
                frame = await self._next(asked)
                ended = frame.get("event") != "token"
                yield self._token(frame, request)
        finally:
            self._forget(number)
            if not ended and self.alive:
                self._write({"op": "cancel", "id": number})

    async def count(self, request: Generation) -> int:
        """Tokens of the request's prompt."""
        number, asked = self._send("count", request)
        try:
            frame = await self._next(asked)
        finally:
            self._forget(number)
        if frame.get("event") == "error":
            raise protocol.to_error(frame)
        return protocol.natural(frame, "tokens")

    async def forget(self) -> None:
        """Drops every context that nobody works on, in memory and on disk."""
        number, asked = self._send("forget")
        try:
            await self._next(asked)
        finally:
            self._forget(number)

    async def aclose(self, *, grace_s: float = 0.0) -> None:
        """Ends the process and waits for its end; its memory is the system's again.

        With `grace_s` it may take so long to write down what can be gone on with.
        """
        self._dead = True
        try:
            if grace_s > 0 and not self._child.ended:
                self._write({"op": "close"})
                await self._child.ended_within(grace_s)
        finally:  # also where who waits is cancelled: nobody else knows of it any more
            await self._close()

    async def _close(self) -> None:
        if self._writer is None:
            self._connection.close()
        else:
            self._writer.close()
        await self._child.end()
        if self._frames is not None:
            self._frames.cancel()
            await asyncio.gather(self._frames, return_exceptions=True)
        if self._writer is not None:
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _load(self, load: Load, load_s: float) -> None:
        self._reader, self._writer = await asyncio.open_connection(sock=self._connection)
        self._writer.write(protocol.encode(asdict(load)))
        try:
            async with asyncio.timeout(load_s):
                frame = await protocol.receive(self._reader)
        except TimeoutError:
            raise await self._crash(f"after it had not loaded in {load_s:g} s") from None
        if frame is None:
            raise await self._crash("while loading")
        if frame.get("event") == "failed":
            raise await self._refusal(frame)
        self.context_tokens = protocol.natural(frame, "context_tokens", most=load.context_tokens)
        self.kv_tokens = protocol.natural(frame, "kv_tokens")
        self.architecture = protocol.field(frame, "architecture", str)[:_NAME_CHARS]
        self.format = protocol.field(frame, "format", str)[:_NAME_CHARS]
        self._frames = asyncio.create_task(self._dispatch())

    async def _refusal(self, frame: Frame) -> InferenceError:
        """Why the model was not loaded, with libllama's own reason where it gave one."""
        error = protocol.to_error(frame)
        await self._child.said_all()
        reason = next((line for line in self._child.lines if "error" in line.lower()), "")
        return type(error)(
            f"{error.message} ({reason})" if reason else error.message, hint=error.hint
        )

    def _send(self, operation: str, request: Generation | None = None) -> tuple[int, _Asked]:
        number, self._next_id = self._next_id, self._next_id + 1
        frame: Frame = {"op": operation, "id": number}
        asked = _Asked(0)
        if request is not None:
            frame["request"] = packing.pack_request(request)
            asked.room = _TEXT_CHARS + _TOKEN_CHARS * request.sampling.max_tokens
        self._write(frame)
        self._requests[number] = asked
        if self._dead:
            asked.frames.put_nowait(None)
        return number, asked

    def _write(self, frame: Frame) -> None:
        data = protocol.encode(frame)
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(data)
            self._watch.asked()

    def _forget(self, number: int) -> None:
        self._requests.pop(number, None)
        self._generating.discard(number)

    async def _next(self, asked: _Asked) -> Frame:
        frame = await asked.frames.get()
        if frame is None:
            raise await self._crash("during a generation")
        return frame

    def _token(self, frame: Frame, request: Generation) -> Token:
        match frame.get("event"):
            case "token":
                text = protocol.field(frame, "text", str)
                return Token(text, reasoning=protocol.field(frame, "reasoning", str))
            case "end":
                return Token("", self._finish(frame, request))
            case "error":
                raise protocol.to_error(frame)
            case event:
                raise protocol.ProtocolError(f"{event} in the place of an answer")

    def _finish(self, frame: Frame, request: Generation) -> Finish:
        finish = packing.unpack_finish(protocol.field(frame, "finish", dict))
        self._check_counts(finish, request)
        fault = finish.malformed
        if request.answer_schema is not None and finish.reason == "stop" and not fault:
            fault = answer_fault(request.answer_schema, finish.text)  # a grammar says less
        return replace(
            finish,
            text="" if fault else finish.text,
            malformed=fault,
            model_sha256=self._sha256,
            remote="",
            sampling=request.sampling,
        )

    def _check_counts(self, finish: Finish, request: Generation) -> None:
        """Budgets are charged by them."""
        for count, most in (
            (finish.prompt_tokens, self.context_tokens),
            (finish.prompt_tokens_cached, finish.prompt_tokens),
            (finish.completion_tokens, request.sampling.max_tokens),
            (finish.reasoning_tokens, finish.completion_tokens),
        ):
            if count > most:
                raise protocol.ProtocolError(f"a finish that counts {count} tokens of {most}")

    async def _dispatch(self) -> None:
        """Gives each frame to the request it is for, until the process ends."""
        try:
            while (frame := await protocol.receive(self._reader)) is not None:
                self._deliver(frame)
                self._watch.heard(owes=bool(self._requests))
        except protocol.ProtocolError as error:
            self._child.lines.append(error.message)
        finally:
            self._dead = True
            self._watch.close()
            for asked in self._requests.values():
                asked.frames.put_nowait(None)

    def _deliver(self, frame: Frame) -> None:
        match frame.get("event"):
            case "tokens":
                for number, text, thought in protocol.pieces(frame):
                    if (asked := self._requests.get(number)) is not None:
                        asked.take(text, thought)
            case "stats":
                self.stats = protocol.numbers(frame, "stats")
            case "end" | "error" | "counted" | "forgotten" | "cancelled":  # its last
                asked = self._requests.pop(protocol.field(frame, "id", int), None)
                if asked is not None:
                    asked.frames.put_nowait(frame)
            case event:
                raise protocol.ProtocolError(f"the unknown event {str(event)[:40]!r}")

    async def _crash(self, when: str) -> RunnerCrashedError:
        self._dead = True
        code = await self._child.end()
        return self._child.crash(f"the runner of {self._name} died {when} ({_describe(code)})")


def _describe(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
