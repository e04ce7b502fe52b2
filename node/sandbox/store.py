"""The tools of a node: those that ship with it and those its owner installed, by name.

An installed tool of the same name hides a shipped one of another version only if it is asked for by
installing it, so a name always means one thing. A component whose SHA-256 is not the one in its
`tool.toml` is not a tool.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from node.disk import alone, listed, sync
from node.errors import ToolError
from node.sandbox.limits import Limits
from node.sandbox.manifest import MANIFEST, PIN, is_tool_name, read_manifest
from node.sandbox.types import ToolManifest

_ADDING, _NEW, _REPLACED = ".adding-", "new", "replaced"
_Stamp = tuple[int, int, int, int]


class ToolStore:
    """Tools in `shipped` and `installed`, a folder each."""

    def __init__(self, shipped: Path, installed: Path, *, limits: Limits | None = None) -> None:
        self._shipped, self._installed = shipped, installed
        self._limits = limits or Limits()
        self._digests: dict[Path, tuple[_Stamp, str]] = {}

    def names(self) -> list[str]:
        """Names of all tools, sorted, whether or not they are sound. Raises ToolError if a folder
        cannot be read."""
        try:
            found = {*listed(self._shipped), *listed(self._installed)}
        except OSError as error:
            raise ToolError(
                f"cannot read {error.filename}: {error.strerror}",
                hint="Check who owns it, and how many files the process has open.",
            ) from error
        tools = {path.name for path in found if os.path.isfile(path / MANIFEST)}
        return sorted(name for name in tools if is_tool_name(name))

    def list(self) -> list[ToolManifest]:
        """All sound tools by name; those not built, or changed since, are left out."""
        return [tool for name in self.names() if (tool := self._sound(name)) is not None]

    def _sound(self, name: str) -> ToolManifest | None:
        try:
            return self.get(name)
        except ToolError:
            return None

    def get(self, name: str) -> ToolManifest:
        """The tool of that name.

        Raises:
            ToolError: there is none, its manifest is wrong, or its component is not the pinned one.
        """
        folder = self._folder(name)
        manifest = read_manifest(folder)
        if manifest.name != name:
            raise ToolError(f"{folder / MANIFEST}: name: must be {name}, as its folder")
        self._verify(manifest)
        return replace(manifest, is_shipped=folder.parent == self._shipped)

    def _folder(self, name: str) -> Path:
        if is_tool_name(name):
            for base in (self._installed, self._shipped):
                if (base / name / MANIFEST).is_file():
                    return base / name
        raise ToolError(
            f"there is no tool named {name!r}", hint="Tools: " + ", ".join(self.names())
        )

    def _verify(self, manifest: ToolManifest) -> None:
        if not manifest.sha256:
            raise ToolError(
                f"tool {manifest.name} is not built: no sha256 is pinned",
                hint="Build it with scripts/build_tools.",
            )
        if self._digest(manifest.folder / manifest.component) != manifest.sha256:
            raise ToolError(
                f"tool {manifest.name}: {manifest.component} is not the file its tool.toml pins",
                hint="Install it again, or rebuild it with scripts/build_tools.",
            )

    def _digest(self, path: Path) -> str:
        try:
            facts = path.stat()
            stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
            known = self._digests.get(path)
            if known is None or known[0] != stamp:
                known = (stamp, hashlib.sha256(read_component(path, self._limits)).hexdigest())
                self._digests[path] = known
        except OSError as error:
            raise ToolError(f"{path} cannot be read: {error.strerror}") from error
        return known[1]

    def add(self, source: Path) -> ToolManifest:
        """Installs the tool in folder `source` (or of the component file in such a folder).

        An installed tool of that name is replaced; a shipped one cannot be.

        Raises:
            ToolError: it is not a sound tool, or its name is a shipped tool's.
        """
        folder = source.parent if source.is_file() else source
        manifest = read_manifest(folder)
        if source.is_file() and source.name not in (MANIFEST, manifest.component):
            raise ToolError(
                f"{source} is not the component that {folder / MANIFEST} names",
                hint=f"That is {manifest.component}.",
            )
        self._verify(manifest)
        if (self._shipped / manifest.name / MANIFEST).exists():
            raise ToolError(
                f"{manifest.name} is the name of a tool that ships with the node",
                hint="Give the tool another name.",
            )
        self._install(manifest)
        return self.get(manifest.name)

    def _install(self, manifest: ToolManifest) -> None:
        try:
            self._installed.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.tidy()
            with alone(self._installed):
                staging = Path(tempfile.mkdtemp(prefix=_ADDING, dir=self._installed))
                try:
                    self._copy(manifest, staging / _NEW)
                    _put(staging / _NEW, self._installed / manifest.name, staging / _REPLACED)
                finally:
                    shutil.rmtree(staging, ignore_errors=True)
        except OSError as error:
            raise ToolError(f"tool {manifest.name} cannot be installed: {error}") from error

    def tidy(self) -> None:
        """Removes what installs that were killed left; a tool they were replacing comes back.

        Raises:
            OSError: that cannot be done.
        """
        if not self._installed.is_dir():
            return
        with alone(self._installed) as nobody_else:
            for staging in listed(self._installed, f"{_ADDING}*") if nobody_else else ():
                with suppress(ToolError):
                    _put_back(staging / _REPLACED, self._installed)
                shutil.rmtree(staging)

    def _copy(self, manifest: ToolManifest, folder: Path) -> None:
        """A copy, found to be of what was looked at: what was there can change meanwhile."""
        folder.mkdir(mode=0o700)
        pin = [PIN] if (manifest.folder / PIN).exists() else []
        for name in (MANIFEST, manifest.component, *pin):
            shutil.copyfile(manifest.folder / name, folder / name)
            with open(folder / name, "rb") as file:
                sync(file.fileno())
        copied = read_manifest(folder)
        if replace(copied, folder=manifest.folder) != manifest:
            raise ToolError(
                f"tool {manifest.name}: {manifest.folder / MANIFEST} changed meanwhile",
                hint="Look at what it says now, and add it again.",
            )
        self._verify(copied)

    def remove(self, name: str) -> None:
        """Removes an installed tool. Raises ToolError where it is not an installed one."""
        folder = self._installed / name
        if not is_tool_name(name) or not (folder / MANIFEST).is_file():
            raise ToolError(f"{name!r} is not an installed tool", hint="Shipped tools stay.")
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise ToolError(f"tool {name} cannot be removed: {error}") from error


def _put(new: Path, target: Path, replaced: Path) -> None:
    """Moves `new` to `target`; what was there goes to `replaced`, and comes back if that fails."""
    if target.exists():
        target.rename(replaced)
    try:
        new.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise


def _put_back(replaced: Path, installed: Path) -> None:
    """Moves a tool back whose place is empty. Raises ToolError where it is none."""
    target = installed / read_manifest(replaced).name
    if not target.exists():
        replaced.rename(target)


def read_component(path: Path, limits: Limits) -> bytes:
    """The bytes of a component. Raises ToolError where it is missing or too large."""
    try:
        with path.open("rb") as file:
            content = file.read(limits.component_bytes + 1)
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > limits.component_bytes:
        raise ToolError(f"{path} is larger than component_bytes = {limits.component_bytes}")
    return content
