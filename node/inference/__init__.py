"""Local and remote models behind one `Engine` seam. Knows nothing of runs.

The names below are imported when they are first used, because the process that holds a model lives
in this package too and needs neither the engine nor an HTTP client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.lazy import lazily

if TYPE_CHECKING:
    from node.inference.child import resident_bytes
    from node.inference.embeddings.embedder import EmbedderLimits, LlamaEmbedder
    from node.inference.embeddings.hashed import HashEmbedder
    from node.inference.engine import LlamaEngine
    from node.inference.formats import recognise
    from node.inference.llama.build import Build, inspect
    from node.inference.llama.limits import EngineLimits
    from node.inference.models.bench import Bench, run_bench
    from node.inference.models.digests import CheckedFile
    from node.inference.models.download import Download, Wanted
    from node.inference.models.exam_cases import KINDS
    from node.inference.models.gguf import read_header
    from node.inference.models.gguf_header import Header
    from node.inference.models.memory import Need, Room, fits, most_context, need, room
    from node.inference.models.partial import forget_unfinished, unfinished
    from node.inference.models.pins import BenchRecord, Pin
    from node.inference.models.sources import is_remote, parse_source
    from node.inference.models.store import ModelStore, name_of, pin_shipped
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
    "resident_bytes",
    "room",
    "run_bench",
    "unfinished",
]

__getattr__ = lazily(
    __name__,
    {
        "child": "resident_bytes",
        "embeddings.embedder": "EmbedderLimits LlamaEmbedder",
        "embeddings.hashed": "HashEmbedder",
        "engine": "LlamaEngine",
        "formats": "recognise",
        "llama.build": "Build inspect",
        "llama.limits": "EngineLimits",
        "models.bench": "Bench run_bench",
        "models.digests": "CheckedFile",
        "models.download": "Download Wanted",
        "models.exam_cases": "KINDS",
        "models.gguf": "read_header",
        "models.gguf_header": "Header",
        "models.memory": "Need Room fits most_context need room",
        "models.partial": "forget_unfinished unfinished",
        "models.pins": "BenchRecord Pin",
        "models.sources": "is_remote parse_source",
        "models.store": "ModelStore name_of pin_shipped",
        "remote.engine": "RemoteEngine",
        "remote.entries": "RemoteModel RemoteModels",
        "remote.limits": "RemoteLimits",
        "routing": "RoutedEngine refuse_both",
        "scripted": "Call Fail Say ScriptedEngine Wait",
        "types": (
            "Destination Embedder EmbedderInfo Engine Finish FinishReason FunctionSpec "
            "Generation Message ModelInfo ModelStatus Outward Priority Role Sampling Token "
            "ToolCall Vectors"
        ),
    },
)
