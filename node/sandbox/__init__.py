"""WASM components as tools: store, compile, capabilities, limits."""

from __future__ import annotations

from node.sandbox.limits import Limits
from node.sandbox.manifest import parse_manifest, read_manifest
from node.sandbox.sandbox import Sandbox
from node.sandbox.store import ToolStore
from node.sandbox.types import (
    Capability,
    Function,
    Grant,
    Tool,
    ToolManifest,
    ToolResult,
    WorkspaceGrant,
)

__all__ = [
    "Capability",
    "Function",
    "Grant",
    "Limits",
    "Sandbox",
    "Tool",
    "ToolManifest",
    "ToolResult",
    "ToolStore",
    "WorkspaceGrant",
    "parse_manifest",
    "read_manifest",
]
