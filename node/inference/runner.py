"""The process that holds one model: `python -m node.inference.runner`, started by `LlamaEngine`.

Native code that crashes, or grows until the kernel kills it, must not take the log and the wallet
with it, so it lives here. Frames (`protocol`) come and go over one socket. The main thread decodes,
one generation after another; a reader thread takes frames in, so that a cancel reaches a decode
that is under way; token counts are answered between two decodes. The process ends with its parent:
at the socket's end, and on Linux by the kernel's signal too. Prompts are never logged.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import resource
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from node.errors import InferenceError, ModelError, TemplateError
from node.inference import protocol
from node.inference.files import identity
from node.inference.formats import recognise
from node.inference.generation import Generator, Settings
from node.inference.native import Aborted, Context, Model
from node.inference.prompt import Prompter
from node.inference.protocol import Frame, Load
from node.inference.template import DEADLINE_S, ChatTemplate
from node.inference.types import Message

_PR_SET_PDEATHSIG = 1
_RENDER_BYTES = 512 * 1024 * 1024


class Runner:
    """Takes frames from one socket and answers them until it ends."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rb")
        self._connection = connection
        self._changed = threading.Condition()
        self._generations: deque[Frame] = deque()
        self._counts: deque[Frame] = deque()
        self._current: int | None = None
        self._cancelled = False

    def run(self) -> None:
        """Loads what the first frame says, then serves."""
        first = protocol.read(self._stream)
        if first is None:
            return
        try:
            self._load(Load(**{**first, "identity": tuple(first["identity"])}))
        except (ModelError, TemplateError) as error:
            self._send({**protocol.error_frame(0, error), "event": "failed"})
            return
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            self._serve()

    def _load(self, load: Load) -> None:
        self._check(load)
        self._model = Model(load.path)
        self._check(load)
        source = self._model.template()
        if source is None:
            raise ModelError(
                f"{load.path} has no chat template",
                hint="Use a model made for conversation (an `instruct` or `chat` version).",
            )
        vocab = self._model.vocab
        size = min(load.context_tokens, self._model.context_train)
        self._context = Context(self._model, context_tokens=size, threads=load.threads)
        template = _WatchedTemplate(source, bos=vocab.text(vocab.bos), eos=_end_text(self._model))
        prompter = Prompter(
            template,
            specials=vocab.specials,
            tokenize=vocab.tokenize,
            bos=vocab.bos if vocab.adds_bos else None,
            folds_system=_refuses_system(template),
        )
        self._form = recognise(source)
        self._generator = Generator(
            vocab=vocab,
            context=self._context,
            prompter=prompter,
            form=self._form,
            settings=Settings(sha256=load.sha256, reuse=load.reuse),
            between=self._between,
        )
        self._send(
            {
                "event": "ready",
                "context_tokens": self._context.size,
                "architecture": self._model.architecture,
                "format": self._form.name,
            }
        )

    @staticmethod
    def _check(load: Load) -> None:
        if identity(Path(load.path).stat()) != load.identity:
            raise ModelError(f"{load.path} changed while it was being loaded", hint="Try again.")

    def _read(self) -> None:
        """The reader thread. At the socket's end the process ends, whatever it is doing."""
        while (frame := protocol.read(self._stream)) is not None:
            with self._changed:
                if frame["op"] == "cancel":
                    self._cancel(frame["id"])
                else:
                    queue = self._counts if frame["op"] == "count" else self._generations
                    queue.append(frame)
                self._changed.notify()
        os._exit(0)

    def _cancel(self, request: int) -> None:
        if request == self._current:
            self._cancelled = True
            self._context.abort(True)
            return
        waiting = [frame for frame in self._generations if frame["id"] != request]
        if len(waiting) < len(self._generations):
            self._generations = deque(waiting)

    def _serve(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._generations or self._counts)
            frame = None if self._counts else self._generations.popleft()
            if frame is not None:
                self._current, self._cancelled = frame["id"], False
                self._context.abort(False)
        if frame is None:
            self._answer_counts()
        else:
            self._generate(frame)

    def _generate(self, frame: Frame) -> None:
        request = frame["id"]

        def emit(text: str) -> None:
            self._send({"event": "token", "id": request, "text": text})

        try:
            finish = self._generator.run(protocol.unpack_request(frame["request"]), emit)
            self._send({"event": "end", "id": request, "finish": protocol.pack_finish(finish)})
        except Aborted:
            self._send({"event": "cancelled", "id": request})
        except InferenceError as error:
            self._send(protocol.error_frame(request, error))
        finally:
            with self._changed:
                self._current = None
                self._context.abort(False)

    def _between(self) -> None:
        if self._cancelled:
            raise Aborted
        if self._counts:
            self._answer_counts()

    def _answer_counts(self) -> None:
        while True:
            with self._changed:
                frame = self._counts.popleft() if self._counts else None
            if frame is None:
                return
            try:
                tokens = len(self._generator.prompt(protocol.unpack_request(frame["request"])))
                self._send({"event": "counted", "id": frame["id"], "tokens": tokens})
            except InferenceError as error:
                self._send(protocol.error_frame(frame["id"], error))

    def _send(self, frame: Frame) -> None:
        try:
            self._connection.sendall(protocol.encode(frame))
        except OSError:
            os._exit(0)


class _WatchedTemplate(ChatTemplate):
    """A template with what only a process of its own can give it: bounds on one call of C code.

    Printing a list of lists of lists can take all memory, or an age in which no deadline is seen.
    The first becomes a MemoryError, the second ends the process.
    """

    def render(self, variables: Mapping[str, object]) -> str:
        faulthandler.dump_traceback_later(2 * DEADLINE_S, exit=True)
        try:
            with _memory_bound(_RENDER_BYTES):
                return super().render(variables)
        finally:
            faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def _memory_bound(more: int) -> Iterator[None]:
    """At most `more` bytes over what the process has now (Linux; elsewhere no bound)."""
    if sys.platform != "linux":
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    bound = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (bound, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _refuses_system(template: ChatTemplate) -> bool:
    """Whether the template raises on a system turn, as some families' do."""
    turns: list[dict[str, Any]] = [asdict(Message("system", "s")), asdict(Message("user", "u"))]
    try:
        template.render({"messages": turns, "tools": None, "add_generation_prompt": True})
    except TemplateError:
        return True
    return False


def _end_text(model: Model) -> str:
    return model.vocab.text(min(model.vocab.end_tokens, default=-1))


def _prepare_process(parent: int) -> None:
    """Dies with its parent, before its parent, and leaves no core file with prompts in it."""
    faulthandler.enable(
        all_threads=False
    )  # a native crash says where on stderr, which the engine shows
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        Path("/proc/self/oom_score_adj").write_text("500")
    if os.getppid() != parent:
        os._exit(0)


def main() -> None:
    """Entry point: the socket's descriptor and the parent's process id are the arguments."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _prepare_process(parent)
    Runner(socket.socket(fileno=descriptor)).run()


if __name__ == "__main__":
    main()
