"""A tool's folder as it is built from: what `tool.toml` says, and what is derived from it.

`tool.toml` is the one place where a tool describes itself. What the component answers to
`describe`, and the world it is built against (exactly the capabilities it names), come from it.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environment import ROOT, ToolchainError

WIT = ROOT / "wasm_tools" / "tool.wit"
ENTRIES = {"zig": "tool.zig", "c": "tool.c", "js": "tool.js", "python": "tool.py"}
FUNCTION_KEYS = ("name", "description", "parameters", "read_only", "idempotent")


@dataclass(frozen=True)
class ToolSource:
    """One tool's folder and its parsed `tool.toml`."""

    folder: Path
    toml: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> ToolSource:
        """Raises ToolchainError when the folder holds no usable `tool.toml` or no source."""
        try:
            toml = tomllib.loads((folder / "tool.toml").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ToolchainError(f"{folder / 'tool.toml'}: {error}") from error
        source = cls(folder, toml)
        if toml.get("language") not in ENTRIES:
            raise ToolchainError(f"{folder}: language must be one of {', '.join(ENTRIES)}")
        if not source.entry.is_file():
            raise ToolchainError(f"{source.entry} is missing")
        return source

    @property
    def name(self) -> str:
        return str(self.toml["name"])

    @property
    def language(self) -> str:
        return str(self.toml["language"])

    @property
    def entry(self) -> Path:
        """The file that the build begins with."""
        return self.folder / ENTRIES[self.language]

    @property
    def component(self) -> Path:
        return self.folder / "tool.wasm"

    def describe(self) -> str:
        """The JSON that the component's `describe` answers."""
        described = {key: self.toml[key] for key in ("name", "version", "about", "capabilities")}
        functions = [
            {key: function[key] for key in FUNCTION_KEYS if key in function}
            for function in self.toml["functions"]
        ]
        return json.dumps({**described, "functions": functions}, ensure_ascii=False)

    def wit(self) -> str:
        """`tool.wit` with a world `built` that imports the tool's capabilities and no others."""
        imports = "".join(f"  import {name};\n" for name in self.toml["capabilities"])
        return f"{WIT.read_text()}\nworld built {{\n{imports}  include tool;\n}}\n"

    def pin(self, component: bytes) -> None:
        """Writes the component and its digest into the folder.

        The digest goes into `tool.toml`, or, where that has no `sha256`, into `tool.sha256`.
        """
        self.component.write_bytes(component)
        digest = hashlib.sha256(component).hexdigest()
        if "sha256" not in self.toml:
            (self.folder / "tool.sha256").write_text(digest + "\n")
            return
        path = self.folder / "tool.toml"
        line = f'sha256 = "{digest}"'
        text, found = re.subn(r'(?m)^sha256 = "[^"]*"$', line, path.read_text(), count=1)
        if not found:
            raise ToolchainError(f'{path}: a line sha256 = "" is missing')
        path.write_text(text)
