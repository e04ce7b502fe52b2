"""Local and remote models behind one `Engine` seam. Knows nothing of runs."""

from __future__ import annotations

from node.inference.engine import EngineLimits, LlamaEngine
from node.inference.formats import recognise
from node.inference.scripted import Call, Fail, Say, ScriptedEngine, Wait
from node.inference.store import CheckedFile, ModelStore, Pin, pin_shipped
from node.inference.types import (
    Engine,
    Finish,
    FinishReason,
    FunctionSpec,
    Generation,
    Message,
    ModelInfo,
    ModelStatus,
    Priority,
    Role,
    Sampling,
    Token,
    ToolCall,
)

__all__ = [
    "Call",
    "CheckedFile",
    "Engine",
    "EngineLimits",
    "Fail",
    "Finish",
    "FinishReason",
    "FunctionSpec",
    "Generation",
    "LlamaEngine",
    "Message",
    "ModelInfo",
    "ModelStatus",
    "ModelStore",
    "Pin",
    "Priority",
    "Role",
    "Sampling",
    "Say",
    "ScriptedEngine",
    "Token",
    "ToolCall",
    "Wait",
    "pin_shipped",
    "recognise",
]
