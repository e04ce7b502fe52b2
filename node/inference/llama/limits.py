"""Bounds of the local engine, and how many threads a model gets where they do not say."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

SMALL_MODEL_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class EngineLimits:
    """Bounds of the local engine.

    Attributes:
        context_tokens: the most context given to a model, whatever it was trained for.
        max_running: generations that one model decodes at once; a person's may be two more.
        max_waiting: generations that may wait for one model before it answers "busy"; two more for
            a person.
        kv_tokens: cells of one model's KV cache, for all its sequences; 0 lets the runner choose:
            two contexts, less where memory is short, never under one.
        idle_unload_s: a model unused for this long is unloaded; None keeps it.
        threads: of one runner; None is one for small models and the physical cores for others.
        reuse_prefix: begin where another sequence has been; off only to show what it saves.
        state_folder: where states of sequences go that are not held in memory; None loses them.
        state_bytes: the most that folder may hold.
        memory_bytes: what all loaded models together may take; None is no cap.
        load_s: a model that has not loaded after this long is given up.
        silent_s: a runner that owes an answer and says nothing for so long hangs, and is ended. One
            step takes a part of it at most, however slow the machine.
    """

    context_tokens: int = 16_384
    max_running: int = 8
    max_waiting: int = 32
    idle_unload_s: float | None = None
    threads: int | None = None
    reuse_prefix: bool = True
    kv_tokens: int = 0
    state_folder: Path | None = None
    state_bytes: int = 2 * 1024**3
    memory_bytes: int | None = None
    load_s: float = 1800.0
    silent_s: float = 600.0


def default_threads(size_bytes: int) -> int:
    """Threads for a model of this size: one where the work a token is too small to share."""
    if size_bytes < SMALL_MODEL_BYTES:
        return 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    physical = psutil.cpu_count(logical=False) or 1
    return min(physical, allowed or physical)
