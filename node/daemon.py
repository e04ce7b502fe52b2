"""One node's process: startup, serve, shutdown.

A test, or a program that embeds the node, may give an engine of its own; no configuration can, so
that a scripted double is never presented to a person as a model.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from socket import socket

from node.clock import Clock, SystemClock
from node.config import Config, load
from node.diagnostics import handler
from node.errors import FreeholdError
from node.gateway import Control, ControlServer, bind_tcp, bind_unix, create_app
from node.home import Home
from node.inference import Engine
from node.journal import Draft, Storage
from node.money.passphrase import from_environment
from node.readiness import Readiness
from node.rooms import compose
from node.types import JsonObject
from node.version import VERSION
from node.wallet_room import open_wallet

HARD_EXIT = 1
_THREADS = 64
_FILES = 4096

log = logging.getLogger("freehold")


def run(home: Home, *, engine: Engine | None = None, storage: Storage | None = None) -> None:
    """Runs the daemon in this process until it is told to stop.

    Args:
        engine: takes the local models' place.
        storage: takes the disk's place under the log.

    Raises:
        FreeholdError: it cannot start, or had to stop; what was acknowledged is on the log.
    """
    home.require()
    os.umask(0o077)
    set_limits()
    home.create()
    passphrase = from_environment(os.environ)
    config = load(home.config, os.environ)
    logging.basicConfig(
        level=config.daemon.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[handler(home.log)],
    )
    for library in ("uvicorn", "httpx", "httpcore", "websockets"):  # they log URLs
        logging.getLogger(library).setLevel(logging.WARNING)
    with home.hold():
        home.sweep()
        daemon = Daemon(home, config, engine=engine, storage=storage, passphrase=passphrase)
        del passphrase  # which this frame would keep for as long as the node runs
        asyncio.run(daemon.run())


class Daemon:
    """One node's life."""

    def __init__(
        self,
        home: Home,
        config: Config,
        *,
        engine: Engine | None = None,
        storage: Storage | None = None,
        clock: Clock | None = None,
        readiness: Readiness | None = None,
        passphrase: str | None = None,
    ) -> None:
        self.home = home
        self.config = config
        self._engine = engine
        self._storage = storage
        self._clock = clock or SystemClock()
        self._passphrase = passphrase
        self._readiness = readiness or Readiness(os.environ)
        self._stopping, self._ready = asyncio.Event(), asyncio.Event()
        self._signalled = False

    async def run(self) -> None:
        """Startup, serve, shutdown.

        Raises:
            FreeholdError: a room cannot be opened.
            JournalWriteError: the log could not be written any more, and the node stopped.
        """
        make_threads()
        async with AsyncExitStack() as rooms:
            control = await self.startup(rooms)
            await self.serve(control)
            await self.shutdown(control)
            if control.runs.failure is not None:
                raise control.runs.failure
        log.info("stopped")

    async def startup(self, rooms: AsyncExitStack) -> Control:
        """Opens the rooms, takes unfinished runs up again, serves the control API."""
        sockets = _bind(self.home, self.config, rooms)
        control = await compose(
            self.home,
            self.config,
            rooms,
            clock=self._clock,
            engine=self._engine,
            storage=self._storage,
            stop=self.stop,
            ready=self._ready,
            passphrase=self._passphrase,
        )
        self._passphrase = None
        data: JsonObject = {"version": VERSION, "pid": os.getpid()}
        await control.log.append(Draft("node.started", data=data))
        await open_wallet(control, rooms)
        control.resumed = tuple(await control.runs.recover())
        if control.resumed:
            count = len(control.resumed)
            log.info("resumed %d unfinished runs: %s", count, ", ".join(control.resumed))
        await control.runs.refresh_agents()
        self._server = ControlServer(create_app(control))
        self._serving = asyncio.create_task(self._server.serve(sockets))
        rooms.push_async_callback(self._end_serving)  # first of all, however the node ends
        return control

    async def serve(self, control: Control) -> None:
        """Until a signal or a client asks for the end, or the log cannot be written."""
        loop = asyncio.get_running_loop()
        ends = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            ends.append(signal.SIGHUP)
        for number in ends:
            loop.add_signal_handler(number, self._on_signal, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)  # whoever started us may have blocked them
        log.info("%s is ready (pid %d)", self.config.node.name, os.getpid())
        self._readiness.ready()
        self._ready.set()
        told = {
            asyncio.create_task(control.runs.failed.wait()),
            asyncio.create_task(self._stopping.wait()),
        }
        loading = asyncio.create_task(preload(control.engine, self.config.models.preload))
        await asyncio.wait({*told, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*told, loading):
            task.cancel()

    async def shutdown(self, control: Control) -> None:
        """Finishes or parks runs, writes the last entry, lets followers read it, ends the API."""
        self.stop()
        self._readiness.stopping()
        control.stopping = True
        if control.runs.failure is None:
            await control.runs.drain(self.config.daemon.drain_s)
            await control.log.append(Draft("node.stopped", data={"pid": os.getpid()}))
        control.streams_end.set()
        await self._end_serving()

    async def _end_serving(self) -> None:
        """Ends the API and closes its connections; harmless when it has ended."""
        self._server.stop()
        await self._serving

    def stop(self) -> None:
        """Begins the shutdown; harmless when it has begun."""
        self._stopping.set()

    def _on_signal(self, number: int) -> None:
        if self._signalled:
            log.warning("second %s: not waiting", signal.Signals(number).name)
            os._exit(HARD_EXIT)
        log.info("%s: finishing runs", signal.Signals(number).name)
        self._signalled = True
        self.stop()


def set_limits() -> None:
    """No dump of a crash, which would hold the wallet's key. And as many open files as may be, to
    4,096: macOS begins with 256, and as many runs with models on a server leave the log none."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def make_threads() -> None:
    """Threads for work that blocks, files above all. The loop looks names up in the same ones, each
    of which is taken for half a minute where no name server answers; so there are many."""
    pool = _Threads(_THREADS, thread_name_prefix="node")
    asyncio.get_running_loop().set_default_executor(pool)


class _Threads(ThreadPoolExecutor):
    """Where the system starts no more of them, the threads that there are do the work."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise


async def preload(engine: Engine, names: tuple[str, ...]) -> None:
    """Loads models before a run asks for them; one that cannot be loaded is logged."""
    for name in names:
        try:
            await engine.info(name)
            log.info("model %s is loaded", name)
        except FreeholdError as error:
            log.warning("model %s: %s", name, error.diagnostics())


def _bind(home: Home, config: Config, rooms: AsyncExitStack) -> list[socket]:
    """The sockets to serve; the UNIX socket's file goes away at the end."""
    sockets = [rooms.enter_context(bind_unix(home.socket))]
    rooms.callback(home.socket.unlink, missing_ok=True)
    if config.control.bind:
        sockets.append(rooms.enter_context(bind_tcp(config.control.address())))
        log.info("the control API is on %s too", config.control.bind)
    return sockets
