"""A model in words and for programs: its header, the memory it needs, what a bench found."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from node.cli._shared import home, size, span
from node.errors import FreeholdError, ModelMemoryError

if TYPE_CHECKING:
    from node.config import ModelsSection
    from node.inference import BenchRecord, Header
    from node.types import JsonObject


def describe_header(header: Header) -> JsonObject:
    """What a model's file says of itself."""
    from node.inference import recognise

    return {
        "title": header.text("general.name"),
        "architecture": header.architecture,
        "weights": header.weights,
        "quantisation": header.quantisation,
        "context_tokens": header.context_tokens,
        "license": licence(header),
        "chat_template": bool(header.chat_template),
        "call_format": recognise(header.chat_template).name if header.chat_template else "",
    }


def title(header: Header) -> str:
    """What the file calls its model."""
    return header.text("general.name") or "a model without a name"


def licence(header: Header) -> str:
    """The licence as the file says it, and where its text is."""
    named = header.text("general.license.name") or header.text("general.license")
    link = header.text("general.license.link")
    return f"{named} ({link})" if named and link else named or link or "not said in the file"


def describe_memory(header: Header, context: int | None = None) -> JsonObject:
    """What a model needs with so much context (the config's, if not given), and what there is."""
    from node.inference import most_context, need, room

    tokens = context or usual_context(header)
    wanted, have = need(header, context_tokens=tokens), room()
    return {
        "context_tokens": tokens,
        "weights_bytes": wanted.weights,
        "cache_bytes": wanted.cache,
        "buffers_bytes": wanted.buffers + wanted.process,
        "total_bytes": wanted.total,
        "free_bytes": have.free,
        "free_of": have.what,
        "fits": wanted.total <= have.free,
        "most_context_tokens": most_context(header, have),
    }


def too_large(name: str, header: Header, context: int) -> ModelMemoryError | None:
    """Why the model, with so much context, cannot fit this machine whatever is free."""
    from node.inference import Room, fits, room

    have = room()
    have = Room(have.total, have.total, have.what)
    try:
        fits(name, header, context_tokens=context, have=have)
    except ModelMemoryError as error:
        return error
    return None


def usual_context(header: Header) -> int:
    """Tokens of context that a model gets: the config's, if it was trained for so many."""
    configured = configured_models().context_tokens
    return min(configured, header.context_tokens or configured)


def configured_models() -> ModelsSection:
    """What the config says of models; the defaults where there is none, or it cannot be read."""
    from node.config import Config, load

    where = home().config
    with suppress(FreeholdError):  # a bad config is told of by `freehold doctor`
        return load(where, os.environ).models
    return Config().models


def memory_line(memory: object) -> str:
    """The same for a person."""
    assert isinstance(memory, dict)
    fits = "fits" if memory["fits"] else "does NOT fit"
    return (
        f"{size(memory['total_bytes'])} with a context of {memory['context_tokens']} tokens "
        f"(weights {size(memory['weights_bytes'])}, context {size(memory['cache_bytes'])}, "
        f"buffers {size(memory['buffers_bytes'])}); {fits} in the {size(memory['free_bytes'])} "
        f"that are free of {memory['free_of']}; at most {memory['most_context_tokens']} tokens do"
    )


def gpu_line() -> str:
    """Where weights go, as the installed libllama was built."""
    from node.inference import inspect

    return str(inspect())


def bench_line(name: str, record: BenchRecord | None) -> str:
    """What the last bench found, in a line."""
    if record is None:
        return f"none yet; `freehold model bench {name}` makes one in about two minutes"
    speed = ", ".join(
        f"{rate:.0f} at {agents}"
        for agents, rate in zip(record.agents, record.generated_tokens_per_s, strict=True)
    )
    return (
        f"{record.verdict}: {record.exam_grammar} of {record.exam_cases} cases with the grammar, "
        f"{record.exam_plain} without; tokens/s by agents: {speed}; first token after "
        f"{span(record.first_token_cold_s)} cold, {span(record.first_token_kept_s)} kept; "
        f"{size(record.memory_bytes)}; {record.at[:10]}"
    )


def describe_bench(record: BenchRecord | None) -> JsonObject | None:
    """What the last bench found, for programs."""
    if record is None:
        return None
    values = asdict(record).items()
    return {key: list(item) if isinstance(item, tuple) else item for key, item in values}
