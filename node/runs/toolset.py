"""The functions an agent may call: its grants over the installed tools.

What a run was offered is written down when it starts (`Offer`), and the run keeps to that: a tool
that is replaced while a run is away is noticed by its digest, never silently used in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from node.errors import ManifestError, ToolError
from node.money import Payment, Purse
from node.runs.agent import AgentManifest, ToolGrant
from node.runs.effect import Effect, Label
from node.runs.pay_function import PAY_OFFER
from node.runs.payment_effect import PaymentEffect
from node.runs.policy import granted
from node.runs.taint import BOTH, unlisted
from node.runs.tool_effect import Offer, ToolEffect, labels_of
from node.runs.tool_payer import Nesting, ToolPayer
from node.runs.workspace_labels import FileLabels
from node.sandbox import Function, Grant, Payer, ToolManifest, ToolResult, WorkspaceGrant
from node.schemas import Checker, checker
from node.types import JsonObject

_HOW_TO_GRANT = {
    "workspace": 'grant.workspace = "ro" (or "rw")',
    "http": 'grant.http = ["https://api.example.org/*"]',
    "store": "grant.store = true",
    "clock": "grant.clock = true",
    "random": "grant.random = true",
    "knowledge": "a later version: knowledge cannot be granted yet",
}


class ToolSource(Protocol):
    """Where tools come from. `ToolStore` is the real one."""

    def get(self, name: str) -> ToolManifest:
        """Raises ToolError if there is no sound tool of that name."""
        ...

    def names(self) -> Sequence[str]: ...


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
class _Writer:
    """The run that calls: whose, what it carries, and who is told of the files it writes."""

    agent: AgentManifest
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
        return _offers(agent, self, pays=self._purse is not None)

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
        writer = _Writer(agent, labels, wrote)
        grant = next(grant for grant in agent.tools if grant.name == offer.tool)
        return ToolEffect(
            offer=offer,
            arguments=arguments,
            grant=grant,
            call=partial(self._call, offer, writer),
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
        writer: _Writer,
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
        grant = replace(self._grant(offer, writer, egress_bytes), payer=payer)
        return await self._sandbox.call(tool, offer.name, arguments, grant)

    def _grant(self, offer: Offer, writer: _Writer, egress_bytes: int) -> Grant:
        agent = writer.agent
        grant = next(grant for grant in agent.tools if grant.name == offer.tool)
        return Grant(
            workspace=self._workspace(grant, writer) if grant.workspace else None,
            http=grant.http,
            secrets=self._secrets(agent.name) if grant.http else {},
            store=self._places.stores / agent.name / grant.name if grant.store else None,
            store_marks=lambda read: tuple(writer.labels | self._labels_of(agent, read)),
            clock=grant.clock,
            random=grant.random,
            read_only=offer.read_only,
            egress_bytes=egress_bytes,
            may_send=partial(self._may_send, writer) if grant.http else None,
        )

    def _may_send(self, writer: _Writer, url: str, read: tuple[str, ...]) -> str:
        """Why what one call has read must not be sent: it made of the run one that a person is
        asked about. Where the run was one before, they were."""
        labels = writer.labels | self._labels_of(writer.agent, read)
        if writer.labels >= BOTH or not unlisted(labels, (url,), writer.agent.send_to):
            return ""
        return (
            "this call has what is private and what others wrote, and may not send any more; in a "
            "call of its own a person is asked"
        )

    def _workspace(self, grant: ToolGrant, writer: _Writer) -> WorkspaceGrant:
        agent = writer.agent
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
            writer.wrote(path)

        def after_write(path: str, origins: tuple[str, ...]) -> None:
            with suppress(OSError):  # it keeps the marks that it had, too
                self._labels.wrote(agent.name, path, carried(origins))

        def carried(origins: tuple[str, ...]) -> frozenset[Label]:
            return writer.labels | self._labels_of(agent, origins)

        return WorkspaceGrant(
            root.absolute(),
            grant.workspace or "ro",
            before_write=before_write,
            after_write=after_write,
            marks=partial(self._labels.of, agent.name),
        )

    def _labels_of(self, agent: AgentManifest, origins: tuple[str, ...]) -> frozenset[Label]:
        marked = self._labels.reader(agent.name)
        return labels_of(origins, foreign=agent.foreign, private=agent.private, marked=marked)

    def _tool(self, name: str) -> ToolManifest:
        return self._known.get(name) or self.get(name)


def check_tools(agent: AgentManifest, tools: ToolSource) -> None:
    """Holds an agent's grants against tools, as a node with a wallet does.

    Raises:
        ManifestError: a tool is unknown or broken, wants a capability that is not granted, is
            granted one that it does not use, or two functions share a name.
    """
    _offers(agent, tools, pays=True)


def _offers(agent: AgentManifest, tools: ToolSource, *, pays: bool) -> tuple[Offer, ...]:
    offers: list[Offer] = []
    for grant in agent.tools:
        tool = _installed(agent, grant, tools)
        _check_capabilities(agent, grant, tool)
        offers += [_offer(tool, function) for function in _chosen(agent, grant, tool)]
    if agent.payments.allow and pays:
        offers.append(PAY_OFFER)
    names = [offer.name for offer in offers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _wrong(
            agent,
            f"two tools have a function {twice[0]}",
            "Narrow one of them with functions = [...]; `pay` is there by itself where "
            "[payments] allows a payee.",
        )
    return tuple(offers)


def _installed(agent: AgentManifest, grant: ToolGrant, tools: ToolSource) -> ToolManifest:
    try:
        return tools.get(grant.name)
    except ToolError as error:
        known = tools.names()
        if grant.name in known:
            raise _wrong(agent, error.message, error.hint) from error
    near = get_close_matches(grant.name, known, n=1)
    guess = f"Did you mean {near[0]}? " if near else ""
    raise _wrong(
        agent,
        f"there is no tool {grant.name!r}",
        f"{guess}Tools: {', '.join(known) or 'none'}.",
    )


def _offer(tool: ToolManifest, function: Function) -> Offer:
    return Offer(
        tool=tool.name,
        sha256=tool.sha256,
        name=function.name,
        description=function.description,
        parameters=function.parameters,
        read_only=function.read_only,
        idempotent=function.idempotent,
        capabilities=tool.capabilities,
    )


def _chosen(agent: AgentManifest, grant: ToolGrant, tool: ToolManifest) -> tuple[Function, ...]:
    if grant.functions is None:
        return tool.functions
    known = [function.name for function in tool.functions]
    unknown = [name for name in grant.functions if name not in known]
    if unknown:
        raise _wrong(
            agent, f"tool {tool.name} has no function {unknown[0]!r}", f"It has {', '.join(known)}."
        )
    return tuple(function for function in tool.functions if function.name in grant.functions)


def _check_capabilities(agent: AgentManifest, grant: ToolGrant, tool: ToolManifest) -> None:
    given, used = granted(grant), ", ".join(sorted(tool.capabilities)) or "no capability"
    for name in sorted(tool.capabilities - given):
        raise _wrong(
            agent,
            f"tool {tool.name} wants {name}, which is not granted",
            f"Grant it with {_HOW_TO_GRANT[name]}, or remove the tool.",
        )
    for name in sorted(given - tool.capabilities):
        raise _wrong(
            agent,
            f"tool {tool.name} is granted {name} but does not use it",
            f"Remove grant.{name}; {tool.name} uses {used}.",
        )


def _wrong(agent: AgentManifest, what: str, hint: str) -> ManifestError:
    where: Any = agent.source or f"agent {agent.name}"
    return ManifestError(f"{where}: tools: {what}", hint=hint)
