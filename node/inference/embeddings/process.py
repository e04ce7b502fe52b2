"""The embedder's end of one runner process: start it, ask it, notice its death or its silence."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from node.errors import RunnerCrashedError
from node.inference import child
from node.inference.llama import protocol
from node.inference.llama.protocol import Frame

_SILENT_S: Final = 600.0  # a part of a request takes a fraction of it, however slow the machine


class EmbeddingProcess:
    """A started runner and the socket to it. Made by `start`."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._name = name
        self._child = child.Child(process, silent_s=_SILENT_S)
        self._reader, self._writer = streams
        self._asked: dict[int, asyncio.Future[Frame | None]] = {}
        self._count = 0
        self._frames = asyncio.create_task(self._dispatch())
        self.pid = process.pid
        self.alive = True

    @classmethod
    async def start(cls, name: str) -> EmbeddingProcess:
        """Starts a process; `name` is of the model that it is then asked to load.

        Raises:
            InferenceError: no process can be started.
        """
        process, ours = await child.start("node.inference.embeddings.runner")
        return cls(name, process, await asyncio.open_connection(sock=ours))

    async def ask(self, frame: Frame) -> Frame:
        """The answer to a frame; one that is not waited for to the end is dropped when it comes.

        Raises:
            RunnerCrashedError: the process died instead.
        """
        self._count += 1
        number = self._count
        data = protocol.encode({**frame, "id": number})
        answer: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            if not self.alive:
                raise await self._crash()
            self._writer.write(data)
            self._child.watch.asked()
            found = await answer
        finally:
            del self._asked[number]
        if found is None:
            raise await self._crash()
        return found

    async def aclose(self) -> int:
        """Kills the process and waits for its end; its exit status."""
        self.alive = False
        self._writer.close()
        status = await self._child.end()
        self._frames.cancel()
        await asyncio.gather(self._frames, return_exceptions=True)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        return status

    async def _dispatch(self) -> None:
        """Gives each frame to who asked for it, until the process ends."""
        try:
            while (frame := await protocol.receive(self._reader)) is not None:
                answer = self._asked.get(protocol.field(frame, "id", int))
                if answer is not None and not answer.done():
                    answer.set_result(frame)
                self._child.watch.heard(owes=any(not one.done() for one in self._asked.values()))
        except protocol.ProtocolError as error:
            self._child.lines.append(error.message)
        finally:
            self.alive = False
            self._child.watch.close()
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_result(None)

    async def _crash(self) -> RunnerCrashedError:
        status = await self.aclose()
        return self._child.crash(f"the runner of {self._name} died (status {status})")
