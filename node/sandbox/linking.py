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
from node.sandbox.capabilities import host_interfaces
from node.sandbox.limits import Limits
from node.sandbox.manifest import all_capabilities
from node.sandbox.types import Capability, Grant
from node.sandbox.wasi import RESOURCES, wasi_interfaces

_PACKAGE, _VERSION = "freehold:tool/", "@1.0.0"
_WASI = "wasi:"


def wanted(tool: str, imports: Iterable[str]) -> frozenset[Capability]:
    """The capabilities among a component's imports.

    Raises:
        CapabilityError: it imports something that is neither a capability nor WASI.
    """
    known = {f"{_PACKAGE}{each}{_VERSION}": each for each in all_capabilities()}
    found: set[Capability] = set()
    for name in imports:
        if name.startswith(_WASI):
            continue
        if name not in known:
            raise CapabilityError(
                f"tool {tool} imports {name[:100]}, which no tool can be given",
                hint="Capabilities: " + ", ".join(all_capabilities()),
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
def _numbers(limits: Limits) -> dict[str, dict[str, int]]:
    ours = host_interfaces(limits).items()
    numbers = {f"{_PACKAGE}{name}{_VERSION}": register(each) for name, each in ours}
    return numbers | _wasi_numbers()


@cache
def _wasi_numbers() -> dict[str, dict[str, int]]:
    return {name: register(functions) for name, functions in wasi_interfaces().items()}


def full_linker(
    engine: wasmtime.Engine, component: wc.Component, imports: Iterable[str], limits: Limits
) -> wc.Linker:
    """A linker that holds what `component` imports; what WASI has and we have not traps."""
    linker, numbers = wc.Linker(engine), _numbers(limits)
    for name in imports:
        short = name.partition("@")[0] if name.startswith(_WASI) else name
        if short in numbers:
            link(linker, name, numbers[short], RESOURCES.get(short, {}))
    linker.define_unknown_imports_as_traps(component)
    return linker


def empty_linker(
    engine: wasmtime.Engine, component: wc.Component, imports: Iterable[str], limits: Limits
) -> wc.Linker:
    """A linker without capabilities: each traps when it is called. The virtual WASI is there."""
    wasi = [name for name in imports if name.startswith(_WASI)]
    return full_linker(engine, component, wasi, limits)
