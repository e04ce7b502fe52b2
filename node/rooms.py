"""The composition root: the one place that knows every room, opens it and joins it to the others.

Nothing here serves or waits: `daemon.py` does, on what is made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from functools import partial
from importlib.resources import files
from pathlib import Path

from node.clock import Clock
from node.config import Config
from node.gateway import Control
from node.home import Home
from node.identity import HttpSecrets
from node.inference import (
    Engine,
    EngineLimits,
    LlamaEngine,
    ModelStore,
    RemoteEngine,
    RemoteModel,
    RemoteModels,
    RoutedEngine,
)
from node.journal import Journal, Storage
from node.money import Purse
from node.runs import (
    AgentLoop,
    AgentRegistry,
    GuardSet,
    ManifestPolicy,
    NodeLimits,
    Places,
    Runs,
    Settling,
    Toolset,
    Workspaces,
    programs,
)
from node.sandbox import Sandbox, ToolStore
from node.wallet_room import load_wallet, wallet_keeper, wallet_purse

_MIB = 1024 * 1024


async def compose(
    home: Home,
    config: Config,
    rooms: AsyncExitStack,
    *,
    clock: Clock,
    engine: Engine | None,
    storage: Storage | None,
    stop: Callable[[], None],
    ready: asyncio.Event,
    passphrase: str | None = None,
) -> Control:
    """Opens every room and joins them; `rooms` closes them, last opened first."""
    origin = config.node.origin
    journal = await Journal.open(home.journal, origin=origin, clock=clock, storage=storage)
    await rooms.enter_async_context(aclosing(journal))
    secrets = HttpSecrets(home.keys)
    models = engine or engines(home, config, secrets, clock)
    await rooms.enter_async_context(aclosing(models))
    sandbox = await rooms.enter_async_context(aclosing(Sandbox(home.cache, clock=clock)))
    keeper = wallet_keeper(home, config, passphrase)
    await rooms.enter_async_context(aclosing(keeper))
    rooms.callback(asyncio.create_task(load_wallet(ready), name="the wallet's code").cancel)
    purse = wallet_purse(keeper, config)
    tools = ToolStore(Path(str(files("wasm_tools"))), home.tools)
    with suppress(OSError):  # of a disk that cannot be written: the log will tell
        await asyncio.to_thread(tools.tidy)
    toolset = toolset_of(home, tools, sandbox, secrets, purse)
    kept = partial(known_secrets, secrets, config)
    agents = AgentRegistry(home.agents, check=toolset.check)
    rooms.callback(asyncio.create_task(compile_tools(sandbox, tools, agents, ready)).cancel)
    workspaces = Workspaces(home.workspaces, clock=clock)
    loop = AgentLoop(engine=models, toolset=toolset, workspaces=workspaces, secrets=kept)
    runs = Runs(
        log=journal,
        program=programs(loop, purse),
        agents=agents,
        clock=clock,
        guards=GuardSet(checkers=toolset.checker, secrets=kept),
        limits=NodeLimits(**config.limits.model_dump()),
        policy=ManifestPolicy(ask_over_sats=config.wallet.approval_over_sats),
    )
    workspaces.unfinished = runs.is_unfinished
    return Control(
        home=home,
        config=config,
        clock=clock,
        log=journal,
        engine=models,
        runs=runs,
        agents=agents,
        workspaces=workspaces,
        keeper=keeper,
        purse=purse,
        settling=Settling(keeper, purse, runs, journal),
        stop=stop,
        started=clock.wall(),
        loaded=models.loaded if isinstance(models, LlamaEngine | RoutedEngine) else dict,
        metrics=models.metrics if isinstance(models, LlamaEngine | RoutedEngine) else list,
    )


def toolset_of(
    home: Home, tools: ToolStore, sandbox: Sandbox, secrets: HttpSecrets, purse: Purse
) -> Toolset:
    """The installed tools, and what a grant can open to them in this home."""
    return Toolset(
        tools=tools,
        sandbox=sandbox,
        places=Places(workspaces=home.workspaces, stores=home.stores),
        secrets=secrets.headers,
        purse=purse,
    )


def known_secrets(secrets: HttpSecrets, config: Config) -> tuple[str, ...]:
    """What must never be written anywhere, as it is now."""
    token = config.control.token.get_secret_value()
    return (*secrets.values(), token) if token else secrets.values()


def engines(home: Home, config: Config, secrets: HttpSecrets, clock: Clock) -> RoutedEngine:
    """The engine for models of this machine and of others; nothing is loaded or reached yet."""

    def headers(remote: RemoteModel) -> Mapping[str, str]:
        return secrets.header(remote.key, remote.scope) if remote.key else {}

    remote = RemoteEngine(RemoteModels(home.models), headers=headers, clock=clock)
    return RoutedEngine(local_engine(home, config), remote, pins=ModelStore(home.models))


def local_engine(home: Home, config: Config) -> LlamaEngine:
    """The engine for this home's models; nothing is loaded yet."""
    models = config.models
    limits = EngineLimits(
        context_tokens=models.context_tokens,
        max_waiting=models.max_waiting,
        idle_unload_s=models.idle_unload_s or None,
        threads=models.threads or None,
        max_running=models.max_running,
        kv_tokens=models.kv_tokens,
        memory_bytes=models.memory_mb * _MIB or None,
        state_folder=home.cache / "states" if models.states_mb else None,
        state_bytes=models.states_mb * _MIB,
    )
    return LlamaEngine(ModelStore(home.models), limits=limits)


async def compile_tools(
    sandbox: Sandbox, tools: ToolStore, agents: AgentRegistry, ready: asyncio.Event
) -> None:
    """Compiles, once the node is ready, what its agents were granted: it takes seconds."""
    await ready.wait()
    granted = {grant.name for agent in agents.list() for grant in agent.tools}
    sound = await asyncio.to_thread(tools.list)
    await sandbox.compile_ahead(tool for tool in sound if tool.name in granted)
