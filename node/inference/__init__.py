"""Local and remote models behind one `Engine` seam. Knows nothing of runs.

The names below are imported when they are first used, because the process that holds a model lives
in this package too and needs neither the engine nor an HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.inference.embeddings.embedder import EmbedderLimits, HashEmbedder, LlamaEmbedder
    from node.inference.engine import LlamaEngine
    from node.inference.formats import recognise
    from node.inference.llama.build import Build, inspect
    from node.inference.llama.slot import EngineLimits
    from node.inference.models.bench import Bench, run_bench
    from node.inference.models.download import Download, Wanted
    from node.inference.models.exam_cases import KINDS
    from node.inference.models.gguf import read_header
    from node.inference.models.gguf_header import Header
    from node.inference.models.memory import Need, Room, fits, most_context, need, room
    from node.inference.models.partial import forget_unfinished, unfinished
    from node.inference.models.pins import BenchRecord, Pin
    from node.inference.models.sources import is_remote, parse_source
    from node.inference.models.store import CheckedFile, ModelStore, name_of, pin_shipped
    from node.inference.remote.engine import RemoteEngine
    from node.inference.remote.entries import RemoteModel, RemoteModels
    from node.inference.remote.limits import RemoteLimits
    from node.inference.routing import RoutedEngine, refuse_both
    from node.inference.scripted import Call, Fail, Say, ScriptedEngine, Wait
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
    "KINDS": "models.exam_cases",
    "Bench": "models.bench",
    "BenchRecord": "models.pins",
    "Build": "llama.build",
    "Call": "scripted",
    "CheckedFile": "models.store",
    "Download": "models.download",
    "EmbedderLimits": "embeddings.embedder",
    "EngineLimits": "llama.slot",
    "Fail": "scripted",
    "HashEmbedder": "embeddings.embedder",
    "Header": "models.gguf_header",
    "LlamaEmbedder": "embeddings.embedder",
    "LlamaEngine": "engine",
    "ModelStore": "models.store",
    "Need": "models.memory",
    "Pin": "models.pins",
    "RemoteEngine": "remote.engine",
    "RemoteLimits": "remote.limits",
    "RemoteModel": "remote.entries",
    "RemoteModels": "remote.entries",
    "Room": "models.memory",
    "RoutedEngine": "routing",
    "Say": "scripted",
    "ScriptedEngine": "scripted",
    "Wait": "scripted",
    "Wanted": "models.download",
    "fits": "models.memory",
    "forget_unfinished": "models.partial",
    "inspect": "llama.build",
    "is_remote": "models.sources",
    "most_context": "models.memory",
    "name_of": "models.store",
    "need": "models.memory",
    "parse_source": "models.sources",
    "pin_shipped": "models.store",
    "read_header": "models.gguf",
    "recognise": "formats",
    "refuse_both": "routing",
    "room": "models.memory",
    "run_bench": "models.bench",
    "unfinished": "models.partial",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'types')}"), name)
    globals()[name] = value
    return value
