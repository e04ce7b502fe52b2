"""What a component may import, and which host functions stand behind it.

`freehold:tool/NAME@1.0.0` is a capability. `wasi:…` is the virtual WASI, which gives nothing away,
so it needs no grant. Anything else is refused by name before the component is instantiated.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import wasmtime
from wasmtime import component as wc

from node.errors import CapabilityError
from node.sandbox.binding import link, register
from node.sandbox.limits import Limits
from node.sandbox.manifest import capabilities
from node.sandbox.types import Capability, Grant
from node.sandbox.workspace import workspace_functions

_PACKAGE, _VERSION = "freehold:tool/", "@1.0.0"
_WASI = "wasi:"


def wanted(tool: str, imports: Iterable[str]) -> frozenset[Capability]:
    """The capabilities among a component's imports.

    Raises:
        CapabilityError: it imports something that is neither a capability nor WASI.
    """
    known = {f"{_PACKAGE}{each}{_VERSION}": each for each in capabilities()}
    found: set[Capability] = set()
    for name in imports:
        if name.startswith(_WASI):
            continue
        if name not in known:
            raise CapabilityError(
                f"tool {tool} imports {name}, which no tool can be given",
                hint="Capabilities: " + ", ".join(capabilities()),
            )
        found.add(known[name])
    return frozenset(found)


def granted(grant: Grant) -> frozenset[Capability]:
    """The capabilities that a grant holds."""
    held: dict[Capability, bool] = {
        "workspace": grant.workspace is not None,
        "http": bool(grant.http),
        "knowledge": grant.knowledge is not None,
        "store": grant.store is not None,
        "clock": grant.clock,
        "random": grant.random,
    }
    return frozenset(name for name, is_held in held.items() if is_held)


def check_grant(tool: str, wants: frozenset[Capability], grant: Grant) -> None:
    """Raises CapabilityError where a tool wants what the grant does not hold."""
    missing = sorted(wants - granted(grant))
    if missing:
        raise CapabilityError(
            f"tool {tool} wants {', '.join(missing)}, which it was not granted",
            hint=f"Grant it in the agent's manifest, as grant.{missing[0]}, or leave the tool out.",
        )


@cache
def _interfaces(limits: Limits) -> dict[str, dict[str, int]]:
    return {f"{_PACKAGE}workspace{_VERSION}": register(workspace_functions(limits))}


class HostFunctions:
    """The host's side of every interface, for one set of limits."""

    def __init__(self, limits: Limits) -> None:
        self._interfaces = _interfaces(limits)

    def linker(
        self, engine: wasmtime.Engine, component: wc.Component, imports: Iterable[str]
    ) -> wc.Linker:
        """A linker that holds exactly what `component` imports."""
        linker = wc.Linker(engine)
        for name in imports:
            if name in self._interfaces:
                link(linker, name, self._interfaces[name], {})
        linker.define_unknown_imports_as_traps(component)
        return linker

    def empty_linker(self, engine: wasmtime.Engine, component: wc.Component) -> wc.Linker:
        """A linker that gives `component` nothing: each of its imports traps."""
        linker = wc.Linker(engine)
        linker.define_unknown_imports_as_traps(component)
        return linker
