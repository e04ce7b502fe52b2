"""The process that holds one model: `python -m node.inference.llama.runner`, of `LlamaEngine`.

Native code that crashes, or grows until the kernel kills it, must not take the log and the wallet
with it, so it lives here. Frames (`protocol`) come and go over one socket. Three threads: one takes
frames in; the main one makes prompts of requests (a template may take long, its deadline needs
signals, and the others must not wait); one decodes. The process ends with its parent: at the
socket's end, and on Linux by the kernel's signal too. Prompts are never logged.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import socket
import sys
import threading
import time
import traceback
from collections import deque
from typing import Final

from node.errors import InferenceError, ModelError, TemplateError
from node.inference import child
from node.inference.llama import packing, protocol
from node.inference.llama.barriers import Barriers, CrowdedLibgomp
from node.inference.llama.generation import Answer, Preparer
from node.inference.llama.kvcache import KvCache
from node.inference.llama.library import LIBRARY
from node.inference.llama.loading import Loaded, load_model
from node.inference.llama.protocol import Frame, Load
from node.inference.llama.scheduler import Job, Scheduler
from node.inference.types import Generation

_SWITCH_S: Final = 0.0005  # the decoding thread must not wait 5 ms for its turn to run Python
_STATS_EVERY_S: Final = 0.5


class Runner:
    """Takes frames from one socket and answers them until it ends."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rb")
        self._connection = connection
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._ready: deque[Job] = deque()
        self._cancels: set[int] = set()  # not seen by the scheduler yet
        self._preparing: set[int] = set()
        self._gone: set[int] = set()  # cancelled while their prompts are made
        self._in_flight: frozenset[int] = frozenset()  # in the batch now, or in the last one
        self._forgets: list[int] = []  # requests to forget what is kept
        self._closing = False
        self._requests: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._stats_at = 0.0

    def run(self) -> None:
        """Loads what the first frame says, then serves."""
        first = protocol.read(self._stream)
        if first is None:
            return
        try:
            loaded = load_model(Load(**{**first, "identity": tuple(first["identity"])}))
        except (ModelError, TemplateError) as error:
            self._send({**protocol.error_frame(0, error), "event": "failed"})
            return
        self._take(loaded)
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._decode, daemon=True).start()
        self._prepare()

    def _take(self, loaded: Loaded) -> None:
        self._context = loaded.context
        self._cache: KvCache = loaded.cache
        self._states = loaded.states
        self._preparer: Preparer = loaded.preparer
        self._scheduler = Scheduler(
            loaded.context, loaded.cache, max_running=loaded.max_running, watch=self._watch
        )
        self._barriers = Barriers(CrowdedLibgomp(LIBRARY))
        gc.collect()
        gc.freeze()  # what is here stays: no collection in the middle of a step looks at it again
        self._send({"event": "ready", **loaded.facts})

    # ── the reading thread ──────────────────────────────────────────────────────────────────

    def _read(self) -> None:
        """At the socket's end the process ends, whatever it is doing."""
        with contextlib.suppress(protocol.ProtocolError):
            while (frame := protocol.read(self._stream)) is not None:
                if frame["op"] == "cancel":
                    self._cancel(frame["id"])
                elif frame["op"] == "forget":
                    self._ask_to_forget(frame["id"])
                elif frame["op"] == "close":
                    self._begin_close()
                else:
                    self._preparing.add(frame["id"])
                    self._requests.put(frame)
        os._exit(0)

    def _cancel(self, number: int) -> None:
        with self._changed:
            if number in self._preparing:
                self._gone.add(number)
                return
            self._cancels.add(number)
            if self._in_flight <= self._cancels:
                self._context.abort(True)  # nobody wants what is being evaluated
            self._changed.notify()

    def _ask_to_forget(self, number: int) -> None:
        with self._changed:
            self._forgets.append(number)
            self._changed.notify()

    def _begin_close(self) -> None:
        with self._changed:
            self._closing = True
            self._context.abort(True)
            self._changed.notify()

    # ── the main thread ─────────────────────────────────────────────────────────────────────

    def _prepare(self) -> None:
        while True:
            frame = self._requests.get()
            number = frame["id"]
            try:
                self._take_in(number, frame)
            except InferenceError as error:
                self._send(protocol.error_frame(number, error))
            except Exception as error:  # one request's, whatever it is: the others go on
                traceback.print_exc()
                broken = InferenceError(f"the request cannot be prepared: {type(error).__name__}")
                self._send(protocol.error_frame(number, broken))
            with self._changed:
                self._preparing.discard(number)
                is_gone = number in self._gone
                self._gone.discard(number)
            if is_gone:
                self._send({"event": "cancelled", "id": number})

    def _take_in(self, number: int, frame: Frame) -> None:
        if number in self._gone:
            return
        request = packing.unpack_request(frame["request"])
        if frame["op"] == "count":
            tokens = self._preparer.count(request)
            self._send({"event": "counted", "id": number, "tokens": tokens})
        else:
            self._submit(number, request)

    def _submit(self, number: int, request: Generation) -> None:
        answer = self._preparer.answer(request)
        person = request.priority == "person"
        job = Job(number, answer.prompt, answer.room, answer, person=person)
        with self._changed:
            if number in self._gone:
                answer.close()
                return
            self._preparing.discard(number)
            self._ready.append(job)
            self._changed.notify()

    # ── the decoding thread ─────────────────────────────────────────────────────────────────

    def _decode(self) -> None:
        """Until the engine ends it. Without this thread the process is of no use."""
        try:
            self._send(self._stats())
            while not self._closing:
                self._serve()
            self._close()
        except BaseException:
            traceback.print_exc()
        os._exit(1)

    def _serve(self) -> None:
        with self._changed:
            while not (self._scheduler.busy or self._asked()):
                self._changed.wait()
            while self._ready:
                self._scheduler.submit(self._ready.popleft())
            if self._cancels:
                for number in self._cancels:
                    self._scheduler.cancel(number)
                self._cancels.clear()
                self._context.abort(self._closing)
            forgets, self._forgets = self._forgets, []
        if forgets:
            self._cache.forget()
        for number in forgets:
            self._send({"event": "forgotten", "id": number})
        self._report(self._scheduler.step())
        self._barriers.watch(self._scheduler.totals.decode_s)

    def _asked(self) -> bool:
        return bool(self._ready or self._cancels or self._forgets or self._closing)

    def _watch(self, numbers: frozenset[int]) -> None:
        """From now on a cancel of all of these stops what is being evaluated."""
        with self._changed:
            self._in_flight = numbers
            self._context.abort(self._closing or numbers <= self._cancels)

    def _report(self, jobs: list[Job]) -> None:
        """One frame for all pieces of a step, one more for each end, all written at once.

        Figures go before the last ends, so that who has an answer finds it counted.
        """
        pieces: list[tuple[int, str, str]] = []
        ends: list[Frame] = []
        for job in jobs:
            answer = job.writer
            assert isinstance(answer, Answer)
            if job.ended:
                ends.append(self._end(job, answer))
            text, thought = answer.text()
            if text or thought:
                pieces.append((job.number, text, thought))
        data = protocol.encode_pieces(pieces) if pieces else b""
        if not self._scheduler.busy or time.monotonic() - self._stats_at > _STATS_EVERY_S:
            data += protocol.encode(self._stats())
        for frame in ends:
            data += protocol.encode(frame)
        if data:
            self._write(data)

    def _end(self, job: Job, answer: Answer) -> Frame:
        if job.error is not None:
            return protocol.error_frame(job.number, job.error)
        finish = packing.pack_finish(answer.finish(job.cached))
        return {"event": "end", "id": job.number, "finish": finish}

    def _stats(self) -> Frame:
        self._stats_at = time.monotonic()
        return {"event": "stats", "stats": self._scheduler.snapshot()}

    def _close(self) -> None:
        """Keeps what can be gone on with, and ends."""
        if self._states is not None:
            self._cache.save_all()
            self._states.close()
        os._exit(0)

    def _send(self, frame: Frame) -> None:
        self._write(protocol.encode(frame))

    def _write(self, data: bytes) -> None:
        try:
            with self._sending:
                self._connection.sendall(data)
        except OSError:
            os._exit(0)


def main() -> None:
    """Entry point: the socket's descriptor and the parent's process id are the arguments."""
    connection = child.settle_in()
    sys.setswitchinterval(_SWITCH_S)
    Runner(connection).run()
    child.end()


if __name__ == "__main__":
    main()
