"""Components that can be instantiated at once: each compiled one time for all who call it.

Compiled code is kept by SHA-256: on disk (see `compiler`) and, of what was used last, in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import wasmtime
from wasmtime import component as wc

from node.errors import CapabilityError, FreeholdError, ToolError
from node.sandbox.compiler import Compiler
from node.sandbox.inline import Turns
from node.sandbox.limits import Limits
from node.sandbox.linking import full_linker, wanted
from node.sandbox.store import read_component
from node.sandbox.threads import closed
from node.sandbox.types import Capability, ToolManifest


@dataclass(frozen=True)
class Prepared:
    """A component that can be instantiated at once."""

    component: wc.Component
    imports: tuple[str, ...]
    linker: wc.Linker
    wants: frozenset[Capability]
    describe: wc.ExportIndex
    call: wc.ExportIndex
    turns: Turns = field(default_factory=Turns, compare=False)

    @property
    def is_ready_inline(self) -> bool:
        """Whether it reaches nothing outside and its last calls were short."""
        return not self.wants and not self.turns.waits


class Components:
    """The components that one engine runs.

    Args:
        cache: folder of compiled code; made, 0700, if it is not there.
    """

    def __init__(self, cache: Path, engine: wasmtime.Engine, limits: Limits) -> None:
        self._engine, self._limits = engine, limits
        self._compiler = Compiler(cache, engine, limits)
        self._kept: OrderedDict[str, Prepared] = OrderedDict()  # used longest ago first
        self._compiling: dict[str, asyncio.Task[Prepared]] = {}

    async def get(self, manifest: ToolManifest) -> Prepared:
        """A tool's component, compiled if nobody has yet.

        Raises:
            ToolError: the tool was removed, or its component is not the pinned one, or none.
            ToolLimitError: it took more time or memory to compile than it may.
            CapabilityError: it imports what its manifest does not list, or what there is not.
        """
        if not manifest.is_shipped and not (manifest.folder / manifest.component).is_file():
            raise ToolError(
                f"tool {manifest.name} was removed", hint="Install it again: `freehold tool add`."
            )
        known = self._kept.get(manifest.sha256)
        if known is None:
            known = await self._compiled_once(manifest)
            self._kept[manifest.sha256] = known
            while len(self._kept) > self._limits.kept_components:
                self._kept.popitem(last=False)
        self._kept.move_to_end(manifest.sha256)
        if not known.wants <= manifest.capabilities:
            extra = ", ".join(sorted(known.wants - manifest.capabilities))
            raise CapabilityError(
                f"tool {manifest.name} imports {extra}, which its tool.toml does not list",
                hint="List it under capabilities, or use another build of the tool.",
            )
        return known

    async def compile_ahead(self, manifests: Iterable[ToolManifest]) -> None:
        """Compiles what was never compiled here, one after the other, and keeps nothing loaded.

        A tool that cannot be compiled is left to the call that wants it, which can say so.
        """
        for manifest in manifests:
            if not self._compiler.holds(manifest.sha256):
                with suppress(FreeholdError):
                    await self._compiled_once(manifest)

    async def aclose(self) -> None:
        """Ends compilations; who waits for one is told that the sandbox is closed."""
        waiting = list(self._compiling.values())
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _compiled_once(self, manifest: ToolManifest) -> Prepared:
        """One compilation for all who wait for the same component."""
        task = self._compiling.get(manifest.sha256)
        if task is None:
            task = asyncio.create_task(self._compile(manifest))
            self._compiling[manifest.sha256] = task
            task.add_done_callback(lambda done: self._compiled_or_not(manifest.sha256, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            waits = asyncio.current_task()
            if task.cancelled() and waits is not None and not waits.cancelling():
                raise closed() from None  # it was `aclose`, and nobody cancelled who waits
            raise

    def _compiled_or_not(self, sha256: str, task: asyncio.Task[Prepared]) -> None:
        self._compiling.pop(sha256, None)
        if not task.cancelled():
            task.exception()  # those who waited have it; nobody may be left

    async def _compile(self, manifest: ToolManifest) -> Prepared:
        path = manifest.folder / manifest.component
        component = await asyncio.to_thread(read_component, path, self._limits)
        if hashlib.sha256(component).hexdigest() != manifest.sha256:
            raise ToolError(
                f"tool {manifest.name}: {path} is not the file its tool.toml pins",
                hint="Install it again, or rebuild it with scripts/build_tools.",
            )
        compiled = await self._compiler.get(manifest.sha256, component)
        wants = wanted(manifest.name, compiled.imports)
        exports = [compiled.component.get_export_index(name) for name in ("describe", "call")]
        if exports[0] is None or exports[1] is None:
            raise ToolError(
                f"tool {manifest.name} does not export describe and call",
                hint="Build it to tool.wit; `freehold tool new` makes one that does.",
            )
        imports = compiled.imports
        try:
            linker = full_linker(self._engine, compiled.component, imports, self._limits)
        except wasmtime.WasmtimeError as error:
            raise CapabilityError(
                f"tool {manifest.name} imports what no tool can be given: {str(error)[:200]}",
                hint="A tool imports functions and their types, and no code.",
            ) from None
        return Prepared(compiled.component, imports, linker, wants, exports[0], exports[1])
