"""What an agent's grants come to: the functions that it is offered of the installed tools.

A grant that cannot work is found here, before any run: one of a tool that is not there, or without
what the tool wants, or for what it does not use.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Protocol

from node.errors import ManifestError, ToolError
from node.runs.agent import AgentManifest, ToolGrant
from node.runs.offer import Offer
from node.runs.pay_function import PAY_OFFER
from node.runs.policy import granted
from node.sandbox import Function, ToolManifest

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


def check_tools(agent: AgentManifest, tools: ToolSource) -> None:
    """Holds an agent's grants against tools, as a node with a wallet does.

    Raises:
        ManifestError: a tool is unknown or broken, wants a capability that is not granted, is
            granted one that it does not use, or two functions share a name.
    """
    offers_of(agent, tools, pays=True)


def offers_of(agent: AgentManifest, tools: ToolSource, *, pays: bool) -> tuple[Offer, ...]:
    """The functions the agent may call, in the manifest's order; `pay` only where the node `pays`.

    Raises:
        ManifestError: as `check_tools`.
    """
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
