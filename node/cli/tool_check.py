"""Whether a tool is what its `tool.toml` says: its own description, and its examples' outcomes.

Both are asked of the component in the same sandbox that agents' calls run in.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import tomlkit

from node.errors import FreeholdError, ToolError
from node.sandbox import (
    Capability,
    Example,
    Grant,
    Sandbox,
    ToolManifest,
    ToolResult,
    ToolStore,
    WorkspaceGrant,
    read_manifest,
)
from node.types import Json, JsonObject

MANIFEST = "tool.toml"
DESCRIBED = ("name", "version", "about", "functions")  # what a component says of itself
# A name that resolves nowhere (RFC 2606): an example of a tool with `http` may only be refused.
NOWHERE = ("https://example.invalid/*",)


@dataclass(frozen=True)
class Checked:
    """One check and what came of it; `problem` is empty where it passed."""

    title: str
    problem: str
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.problem


async def check(manifest: ToolManifest, cache: Path | None) -> list[Checked]:
    """Checks the description, then each example. Raises ToolError if the tool is not built."""
    if not manifest.sha256:
        raise ToolError(
            f"tool {manifest.name} is not built",
            hint=f"Run scripts/build_tools {manifest.folder} first.",
        )
    async with _sandbox(cache) as sandbox:
        problem = await _description_problem(sandbox, manifest)
        checked = [Checked("describes itself as its tool.toml does", problem, 0.0)]
        for example in manifest.examples:
            checked.append(await _try(sandbox, manifest, example))
    return checked


async def add_checked(store: ToolStore, source: Path, cache: Path) -> ToolManifest:
    """Adds a tool's folder or component file to the store.

    Raises:
        ToolError: the component is not what its tool.toml says, or describes itself wrongly.
        SandboxError: it cannot be compiled, or wants what no tool may have.
    """
    folder = _tool_folder(source)
    async with _sandbox(cache) as sandbox:
        if folder is not None:
            return await _add_folder(store, sandbox, folder)
        with tempfile.TemporaryDirectory(prefix="freehold-tool-") as scratch:
            await _write_described(sandbox, source, Path(scratch))
            return await _add_folder(store, sandbox, Path(scratch))


def _tool_folder(source: Path) -> Path | None:
    """The folder with the tool's manifest; None where a component stands alone, even if it lies
    beside the manifest of another."""
    folder = source if source.is_dir() else source.parent
    if (folder / MANIFEST).is_file():
        is_its = source.is_dir() or source.name in (MANIFEST, read_manifest(folder).component)
        return folder if is_its else None
    if source.is_dir():
        raise ToolError(f"there is no {MANIFEST} in {source}", hint="docs/tools.md shows one.")
    return None


async def _add_folder(store: ToolStore, sandbox: Sandbox, folder: Path) -> ToolManifest:
    manifest = read_manifest(folder)
    if not manifest.sha256:
        raise ToolError(
            f"tool {manifest.name} is not built: its {MANIFEST} pins no sha256",
            hint=f"Run scripts/build_tools {folder} first.",
        )
    problem = await _description_problem(sandbox, manifest)
    if problem:
        raise ToolError(
            f"tool {manifest.name}: {problem}", hint="Build it again from its tool.toml."
        )
    return store.add(folder)


async def _write_described(sandbox: Sandbox, component: Path, folder: Path) -> None:
    """Makes a tool's folder out of a component that stands alone."""
    unknown = _unknown(component)
    told = await sandbox.describe(unknown)
    document = {
        **{key: told[key] for key in DESCRIBED if key in told},
        "language": "component",
        "capabilities": sorted(await sandbox.prepare(unknown)),
        "sha256": unknown.sha256,
    }
    try:
        (folder / MANIFEST).write_text(tomlkit.dumps(document), encoding="utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"{component} describes itself in a way TOML cannot hold") from error
    shutil.copyfile(component, folder / "tool.wasm")


def _unknown(component: Path) -> ToolManifest:
    """A manifest under which a component may be asked what it is."""
    with component.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ToolManifest(
        name=component.stem,
        version="0.0.0",
        about="",
        language="",
        capabilities=frozenset(get_args(Capability)),
        sha256=sha256,
        functions=(),
        folder=component.parent,
        component=component.name,
    )


async def _description_problem(sandbox: Sandbox, manifest: ToolManifest) -> str:
    """How what the component says of itself differs from its manifest; empty if it does not."""
    told, stated = await sandbox.describe(manifest), _stated(manifest)
    for key in DESCRIBED:
        if _plain(told.get(key)) != _plain(stated[key]):
            return f"the component says another {key} than its {MANIFEST}"
    extra = await sandbox.prepare(manifest) - manifest.capabilities
    return f"it imports {', '.join(sorted(extra))}, which it does not name" if extra else ""


def _stated(manifest: ToolManifest) -> JsonObject:
    """What the component is to say of itself."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "about": manifest.about,
        "functions": [asdict(function) for function in manifest.functions],
    }


def _plain(value: Json) -> Json:
    """Functions with their defaults written out, so that leaving one out is no difference."""
    if not isinstance(value, list):
        return value
    defaults: JsonObject = {"read_only": False, "idempotent": False}
    return [{**defaults, **item} if isinstance(item, dict) else item for item in value]


async def _try(sandbox: Sandbox, manifest: ToolManifest, example: Example) -> Checked:
    title = f"{example.function} {json.dumps(example.arguments, ensure_ascii=False)}"
    with tempfile.TemporaryDirectory(prefix="freehold-example-") as scratch:
        read_only = manifest.function(example.function).read_only
        grant = replace(_grant(Path(scratch), example), read_only=read_only)
        try:
            result = await sandbox.call(manifest, example.function, example.arguments, grant)
        except FreeholdError as error:
            return Checked(title, error.message, 0.0)
    return Checked(title, _difference(example, result), result.seconds)


def _grant(scratch: Path, example: Example) -> Grant:
    """Everything a tool may be granted, over an empty folder with the example's files in it."""
    root = scratch / "workspace"
    root.mkdir()
    for name, content in example.files.items():
        try:
            _put_file(root, name, content)
        except (OSError, ValueError) as error:
            raise ToolError(f"the example's file {name!r} cannot be written: {error}") from error
    return Grant(
        workspace=WorkspaceGrant(root=root, mode="rw"),
        http=NOWHERE,
        knowledge=_no_knowledge,
        store=scratch / "store",
        clock=True,
        random=True,
    )


def _put_file(root: Path, name: str, content: str) -> None:
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ToolError(f"the example's file {name} is outside the workspace")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")


async def _no_knowledge(_query: str, _limit: int) -> Json:
    return []


def _difference(example: Example, result: ToolResult) -> str:
    said: Any = result.value
    if example.error is None:
        if result.ok and said == example.result:
            return ""
        return f"expected {json.dumps(example.result)}, got {json.dumps(said)}"
    words = "" if result.ok else str(said["error"])
    if not result.ok and example.error in words:
        return ""
    return f"expected the error {example.error!r}, got {json.dumps(said)}"


@asynccontextmanager
async def _sandbox(cache: Path | None) -> AsyncIterator[Sandbox]:
    with tempfile.TemporaryDirectory(prefix="freehold-cache-") as scratch:
        sandbox = Sandbox(cache or Path(scratch) / "cache")
        try:
            yield sandbox
        finally:
            await sandbox.aclose()
