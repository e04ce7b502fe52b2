"""WASM components as tools: store, compile, capabilities, limits.

The names below are imported when they are first used, because the process that compiles a component
lives in this package too and needs nothing but the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.lazy import lazily

if TYPE_CHECKING:
    from node.sandbox.capabilities.allowlist import is_listed, parse_pattern
    from node.sandbox.limits import Limits
    from node.sandbox.manifest import parse_manifest, read_manifest
    from node.sandbox.network import Network, SystemNetwork
    from node.sandbox.sandbox import Sandbox
    from node.sandbox.spelling import spellings
    from node.sandbox.store import ToolStore
    from node.sandbox.types import (
        Capability,
        Example,
        Function,
        Grant,
        Payer,
        Ticket,
        ToolManifest,
        ToolResult,
        WorkspaceGrant,
    )

__all__ = [
    "Capability",
    "Example",
    "Function",
    "Grant",
    "Limits",
    "Network",
    "Payer",
    "Sandbox",
    "SystemNetwork",
    "Ticket",
    "ToolManifest",
    "ToolResult",
    "ToolStore",
    "WorkspaceGrant",
    "is_listed",
    "parse_manifest",
    "parse_pattern",
    "read_manifest",
    "spellings",
]

__getattr__ = lazily(
    __name__,
    {
        "capabilities.allowlist": "is_listed parse_pattern",
        "limits": "Limits",
        "manifest": "parse_manifest read_manifest",
        "network": "Network SystemNetwork",
        "sandbox": "Sandbox",
        "spelling": "spellings",
        "store": "ToolStore",
        "types": (
            "Capability Example Function Grant Payer Ticket ToolManifest ToolResult WorkspaceGrant"
        ),
    },
)
