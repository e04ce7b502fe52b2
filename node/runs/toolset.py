"""Calls of the functions an agent was offered, as effects: of which tool, under which grant.

What a run was offered is written down when it starts (`Offer`), and the run keeps to that: a tool
that is replaced while a run is away is noticed by its digest, never silently used in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

from node.errors import ToolError
from node.money import Payment, Purse
from node.runs.agent import AgentManifest, ToolGrant
from node.runs.effect import Effect, Label
from node.runs.grants import ToolSource, offers_of
from node.runs.offer import Offer
from node.runs.pay_function import PAY_OFFER
from node.runs.payment_effect import PaymentEffect
from node.runs.taint import BOTH, unlisted
from node.runs.tool_effect import ToolEffect, labels_of
from node.runs.tool_payer import Nesting, ToolPayer
from node.runs.workspace_labels import FileLabels
from node.sandbox import Grant, Payer, ToolManifest, ToolResult, WorkspaceGrant
from node.schemas import Checker, checker
from node.types import JsonObject


class ToolRunner(Protocol):
    """What runs them. `Sandbox` is the real one."""

    async def call(
        self, manifest: ToolManifest, function: str, arguments: JsonObject, grant: Grant
    ) -> ToolResult:
        """Raises SandboxError where the call has no result."""
        ...


@dataclass(frozen=True)
class Places:
    """Where agents keep things: `workspaces`/AGENT and `stores`/AGENT/TOOL."""

    workspaces: Path
    stores: Path


Secrets: TypeAlias = Callable[[str], Mapping[str, Mapping[str, str]]]
"""An agent's name to the headers the host adds to its tools' requests, by URL pattern."""


@dataclass(frozen=True)
class _Caller:
    """The run that calls: whose, under which grant, what it carries, and who is told of the files
    it writes."""

    agent: AgentManifest
    grant: ToolGrant
    labels: frozenset[Label]
    wrote: Callable[[str], None]


class Toolset:
    """Offers functions to agents, and makes the effects that call them."""

    def __init__(
        self,
        *,
        tools: ToolSource,
        sandbox: ToolRunner,
        places: Places,
        secrets: Secrets = lambda _agent: {},
        purse: Purse | None = None,
    ) -> None:
        self._purse = purse
        self._tools = tools
        self._secrets = secrets
        self._sandbox = sandbox
        self._places = places
        self._labels = FileLabels(places.workspaces)
        self._known: dict[str, ToolManifest] = {}

    def check(self, agent: AgentManifest) -> None:
        """Holds an agent's grants against the installed tools. Raises as `check_tools`."""
        self.offers(agent)

    def offers(self, agent: AgentManifest) -> tuple[Offer, ...]:
        """The functions the agent may call, in the manifest's order. Raises as `check_tools`."""
        return offers_of(agent, self, pays=self._purse is not None)

    def names(self) -> Sequence[str]:
        """The tools there are now."""
        return self._tools.names()

    def get(self, name: str) -> ToolManifest:
        """The tool as it is now, which calls are of from now on. Raises ToolError."""
        self._known[name] = self._tools.get(name)
        return self._known[name]

    def effect(
        self,
        agent: AgentManifest,
        offer: Offer,
        arguments: JsonObject,
        *,
        labels: frozenset[Label] = frozenset(),
        wrote: Callable[[str], None] = lambda _path: None,
        run: Nesting | None = None,
    ) -> Effect:
        """The effect of one call in a run that carries `labels`, which the files it writes will
        carry too; `wrote` is told their paths, and `run` takes the steps of paying for what is
        fetched. Nothing is looked up before it is performed."""
        if offer.is_built_in and self._purse:
            return PaymentEffect(self._purse, Payment.from_json(arguments))
        grant = next(grant for grant in agent.tools if grant.name == offer.tool)
        caller = _Caller(agent, grant, labels, wrote)
        return ToolEffect(
            offer=offer,
            arguments=arguments,
            grant=grant,
            call=partial(self._call, offer, caller),
            labels=partial(self._labels_of, agent),
            payer=self._payer(grant, run),
        )

    def _payer(self, grant: ToolGrant, run: Nesting | None) -> ToolPayer | None:
        if self._purse is None or run is None or not grant.pay:
            return None
        return ToolPayer(self._purse, run, grant.name)

    def checker(self, tool: str, function: str) -> Checker | None:
        """The compiled schema of a tool's function, for the schema guard; None if unknown."""
        if tool == PAY_OFFER.tool:
            return checker(PAY_OFFER.parameters) if function == PAY_OFFER.name else None
        try:
            return checker(self._tool(tool).function(function).parameters)
        except (ToolError, ValueError):
            return None

    async def _call(
        self,
        offer: Offer,
        caller: _Caller,
        arguments: JsonObject,
        egress_bytes: int,
        payer: Payer | None,
    ) -> ToolResult:
        tool = self._tool(offer.tool)
        if tool.sha256 != offer.sha256:
            raise ToolError(
                f"tool {offer.tool} was replaced since this run started",
                hint="Start the run again to use the tool that is installed now.",
            )
        grant = replace(self._grant(offer, caller, egress_bytes), payer=payer)
        return await self._sandbox.call(tool, offer.name, arguments, grant)

    def _grant(self, offer: Offer, caller: _Caller, egress_bytes: int) -> Grant:
        agent, grant = caller.agent, caller.grant
        return Grant(
            workspace=self._workspace(caller) if grant.workspace else None,
            http=grant.http,
            secrets=self._secrets(agent.name) if grant.http else {},
            store=self._places.stores / agent.name / grant.name if grant.store else None,
            store_marks=lambda read: tuple(caller.labels | self._labels_of(agent, read)),
            clock=grant.clock,
            random=grant.random,
            read_only=offer.read_only,
            egress_bytes=egress_bytes,
            may_send=partial(self._may_send, caller) if grant.http else None,
        )

    def _may_send(self, caller: _Caller, url: str, read: tuple[str, ...]) -> str:
        """Why what one call has read must not be sent: it made of the run one that a person is
        asked about. Where the run was one before, they were."""
        labels = caller.labels | self._labels_of(caller.agent, read)
        if caller.labels >= BOTH or not unlisted(labels, (url,), caller.agent.send_to):
            return ""
        return (
            "this call has what is private and what others wrote, and may not send any more; in a "
            "call of its own a person is asked"
        )

    def _workspace(self, caller: _Caller) -> WorkspaceGrant:
        agent = caller.agent
        root = self._places.workspaces / agent.name
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:  # before the tool is called: it surely did nothing
            raise ToolError(
                f"the workspace {root} cannot be made: {error.strerror}",
                hint="Free some space, or check the disk and who owns the folder.",
            ) from error

        def before_write(path: str, origins: tuple[str, ...]) -> None:
            self._labels.writes(agent.name, path, carried(origins))
            caller.wrote(path)

        def after_write(path: str, origins: tuple[str, ...]) -> None:
            with suppress(OSError):  # it keeps the marks that it had, too
                self._labels.wrote(agent.name, path, carried(origins))

        def carried(origins: tuple[str, ...]) -> frozenset[Label]:
            return caller.labels | self._labels_of(agent, origins)

        return WorkspaceGrant(
            root.absolute(),
            caller.grant.workspace or "ro",
            before_write=before_write,
            after_write=after_write,
            marks=partial(self._labels.of, agent.name),
        )

    def _labels_of(self, agent: AgentManifest, origins: tuple[str, ...]) -> frozenset[Label]:
        marked = self._labels.reader(agent.name)
        return labels_of(origins, foreign=agent.foreign, private=agent.private, marked=marked)

    def _tool(self, name: str) -> ToolManifest:
        return self._known.get(name) or self.get(name)
