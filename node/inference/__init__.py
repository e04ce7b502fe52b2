"""Local and remote models behind one `Engine` seam. Knows nothing of runs.

The names below are imported when they are first used, because the process that holds a model lives
in this package too and needs neither the engine nor an HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.inference.bench import Bench, run_bench
    from node.inference.build import Build, inspect
    from node.inference.download import Download, Wanted
    from node.inference.embeddings import EmbedderLimits, HashEmbedder, LlamaEmbedder
    from node.inference.engine import LlamaEngine
    from node.inference.exam_cases import KINDS
    from node.inference.formats import recognise
    from node.inference.gguf import read_header
    from node.inference.gguf_header import Header
    from node.inference.memory import Need, Room, fits, most_context, need, room
    from node.inference.partial import forget_unfinished, unfinished
    from node.inference.pins import BenchRecord, Pin
    from node.inference.remote import RemoteEngine
    from node.inference.remote_limits import RemoteLimits
    from node.inference.remotes import RemoteModel, RemoteModels
    from node.inference.routing import RoutedEngine, refuse_both
    from node.inference.scripted import Call, Fail, Say, ScriptedEngine, Wait
    from node.inference.slot import EngineLimits
    from node.inference.sources import is_remote, parse_source
    from node.inference.store import CheckedFile, ModelStore, name_of, pin_shipped
    from node.inference.types import (
        Destination,
        Embedder,
        EmbedderInfo,
        Engine,
        Finish,
        FinishReason,
        FunctionSpec,
        Generation,
        Message,
        ModelInfo,
        ModelStatus,
        Outward,
        Priority,
        Role,
        Sampling,
        Token,
        ToolCall,
        Vectors,
    )

__all__ = [
    "KINDS",
    "Bench",
    "BenchRecord",
    "Build",
    "Call",
    "CheckedFile",
    "Destination",
    "Download",
    "Embedder",
    "EmbedderInfo",
    "EmbedderLimits",
    "Engine",
    "EngineLimits",
    "Fail",
    "Finish",
    "FinishReason",
    "FunctionSpec",
    "Generation",
    "HashEmbedder",
    "Header",
    "LlamaEmbedder",
    "LlamaEngine",
    "Message",
    "ModelInfo",
    "ModelStatus",
    "ModelStore",
    "Need",
    "Outward",
    "Pin",
    "Priority",
    "RemoteEngine",
    "RemoteLimits",
    "RemoteModel",
    "RemoteModels",
    "Role",
    "Room",
    "RoutedEngine",
    "Sampling",
    "Say",
    "ScriptedEngine",
    "Token",
    "ToolCall",
    "Vectors",
    "Wait",
    "Wanted",
    "fits",
    "forget_unfinished",
    "inspect",
    "is_remote",
    "most_context",
    "name_of",
    "need",
    "parse_source",
    "pin_shipped",
    "read_header",
    "recognise",
    "refuse_both",
    "room",
    "run_bench",
    "unfinished",
]

_HOMES = {
    "KINDS": "exam_cases",
    "Bench": "bench",
    "BenchRecord": "pins",
    "Build": "build",
    "Call": "scripted",
    "CheckedFile": "store",
    "Download": "download",
    "EmbedderLimits": "embeddings",
    "EngineLimits": "slot",
    "Fail": "scripted",
    "HashEmbedder": "embeddings",
    "Header": "gguf_header",
    "LlamaEmbedder": "embeddings",
    "LlamaEngine": "engine",
    "ModelStore": "store",
    "Need": "memory",
    "Pin": "pins",
    "RemoteEngine": "remote",
    "RemoteLimits": "remote_limits",
    "RemoteModel": "remotes",
    "RemoteModels": "remotes",
    "Room": "memory",
    "RoutedEngine": "routing",
    "Say": "scripted",
    "ScriptedEngine": "scripted",
    "Wait": "scripted",
    "Wanted": "download",
    "fits": "memory",
    "forget_unfinished": "partial",
    "inspect": "build",
    "is_remote": "sources",
    "most_context": "memory",
    "name_of": "store",
    "need": "memory",
    "parse_source": "sources",
    "pin_shipped": "store",
    "read_header": "gguf",
    "recognise": "formats",
    "refuse_both": "routing",
    "room": "memory",
    "run_bench": "bench",
    "unfinished": "partial",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'types')}"), name)
    globals()[name] = value
    return value
