"""Whether a model fits, before it is loaded: what it needs against what there is.

A model that does not fit makes the whole machine swap, or ends with the kernel killing a process;
both are worse than an answer with the numbers. What is needed is known from the file's header:

- the weights, as long as the file (they are mapped, but every token reads all of them);
- the cache of keys and values: per layer, head and token of context, with a recurrent state for
  the architectures that have one;
- the compute buffers of one batch, measured on llama.cpp and put in a formula (see `_buffers`);
- the process itself.

It is an upper bound: layers that share a cache or look at a window only are counted in full. What
there is: the memory the kernel says is available, and the limits of the control groups above us;
where weights go to a GPU with memory of its own, what is free there.

Spec: llama.cpp's `llama_kv_cache` and `llama_memory_recurrent`; cgroup v2's `memory.max`,
`memory.current` and `memory.stat` (v1's where only these are there).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from node.errors import ModelMemoryError
from node.inference.llama.build import Device, gpus
from node.inference.models.gguf_header import Header

RUNNER_BYTES: Final = 96 * 1024 * 1024
BATCH_TOKENS: Final = 512
CACHE_UNIT: Final = 256  # llama.cpp rounds a context up to this many tokens
_CACHED_BYTES: Final = 2  # of a value in the cache: F16
_F32_BYTES: Final = 4
_INPUT_BYTES: Final = 64  # ids and positions of one token
_CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Need:
    """Bytes a loaded model takes."""

    weights: int
    cache: int
    buffers: int
    process: int = RUNNER_BYTES

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.buffers + self.process


@dataclass(frozen=True)
class Room:
    """Bytes that can be had, of how many, and what sets the bound."""

    free: int
    total: int
    what: str


def need(
    header: Header,
    *,
    context_tokens: int,
    sequences: int = 1,
    batch_tokens: int = BATCH_TOKENS,
) -> Need:
    """What a model takes with a context of so many tokens, shared by so many sequences."""
    tokens = -(-max(1, context_tokens) // CACHE_UNIT) * CACHE_UNIT
    cache = tokens * _values_per_token(header) * _CACHED_BYTES
    return Need(
        weights=header.weights_bytes,
        cache=cache + sequences * _recurrent_bytes(header),
        buffers=_buffers(header, tokens, batch_tokens, sequences),
    )


def fits(
    name: str,
    header: Header,
    *,
    context_tokens: int,
    have: Room,
    sequences: int = 1,
) -> Need:
    """What the model `name` needs, found to fit in `have`.

    Raises:
        ModelMemoryError: it does not fit; with the numbers and the context that would.
    """
    wanted = need(header, context_tokens=context_tokens, sequences=sequences)
    if wanted.total <= have.free:
        return wanted
    most = most_context(header, have, sequences=sequences)
    raise ModelMemoryError(
        f"the model {name!r} with a context of {context_tokens} tokens needs "
        f"{_mib(wanted.total)} (weights {_mib(wanted.weights)}, context {_mib(wanted.cache)}, "
        f"buffers {_mib(wanted.buffers + wanted.process)}); "
        + (
            f"{_mib(have.free)} of {_mib(have.total)} of {have.what} are free"
            if have.free < have.total
            else f"{have.what} is {_mib(have.total)} in all"
        ),
        hint=(
            f"With `models.context_tokens = {most}` it would fit."
            if most
            else "Use a smaller model or quantisation, or end what else takes memory."
        ),
    )


def most_context(header: Header, have: Room, *, sequences: int = 1) -> int:
    """The most tokens of context with which the model fits, in steps of 256; 0 for none."""
    low, high = 0, (header.context_tokens or 1 << 20) // CACHE_UNIT
    while low < high:
        middle = (low + high + 1) // 2
        wanted = need(header, context_tokens=middle * CACHE_UNIT, sequences=sequences)
        low, high = (middle, high) if wanted.total <= have.free else (low, middle - 1)
    return low * CACHE_UNIT


def _layers(header: Header) -> int:
    return header.number("block_count", 1)


def _values_per_token(header: Header) -> int:
    """Numbers that one token leaves in the cache, all layers."""
    layers = _layers(header)
    heads = header.numbers("attention.head_count", layers)
    kv_heads = (
        header.numbers("attention.head_count_kv", layers)
        if header.has("attention.head_count_kv")
        else heads
    )
    keys, values = _head_widths(header, max(heads, default=0))
    every = header.number("full_attention_interval", 1) or 1
    return sum(kv * (keys + values) for layer, kv in enumerate(kv_heads, 1) if layer % every == 0)


def _head_widths(header: Header, heads: int) -> tuple[int, int]:
    """Numbers of a key and of a value. Latent attention (MLA) keeps no values of its own."""
    usual = header.number("embedding_length") // max(1, heads)
    keys = header.number("attention.key_length", usual)
    if header.has("attention.key_length_mla"):
        return keys, 0
    return keys, header.number("attention.value_length", usual)


def _recurrent_bytes(header: Header) -> int:
    """The state of one sequence in layers that are not attention (Mamba, RWKV), at most."""
    inner, state = header.number("ssm.inner_size"), header.number("ssm.state_size")
    shifts = max(0, header.number("ssm.conv_kernel") - 1)
    groups = header.number("ssm.group_count")
    mamba = shifts * (inner + 2 * groups * state) + state * inner
    width = header.number("embedding_length")
    rwkv = width * header.number("wkv.head_size")
    if rwkv:
        rwkv += width * header.number("token_shift_count", 2)
    return _layers(header) * (mamba + rwkv) * _F32_BYTES


def _buffers(header: Header, context_tokens: int, batch_tokens: int, sequences: int) -> int:
    """The widest step of the graph for one batch, the mask of its attention, and the logits.

    Measured on the graphs of llama.cpp with flash attention (its default): within 15 % above what
    it allocates, over widths, vocabularies, batches and contexts.
    """
    width, vocabulary = header.number("embedding_length"), header.vocabulary
    experts = header.number("expert_feed_forward_length") * header.number("expert_used_count")
    inner = max(header.number("feed_forward_length"), experts)
    widest = max(vocabulary + 2 * width, 3 * inner + 4 * width)
    a_token = _F32_BYTES * widest + 2 * context_tokens + _INPUT_BYTES
    return batch_tokens * a_token + sequences * vocabulary * _F32_BYTES


# ── what there is ───────────────────────────────────────────────────────────────────────────


def room(
    *,
    mapped: int = 0,
    machine: Callable[[], Room] | None = None,
    cgroups: Path = _CGROUPS,
    mine: Path = Path("/proc/self/cgroup"),
    devices: Callable[[], tuple[Device, ...]] = gpus,
) -> Room:
    """What a model could take now: the least of the machine's and the control groups' bounds.

    Where libllama puts weights on GPUs with memory of their own, that memory counts instead.

    Args:
        mapped: bytes of weights that other models have mapped: the kernel says that they are
            available, but every token of theirs reads all of them.
    """
    own = [device for device in devices() if not device.shared]
    if own:
        free, total = sum(one.free for one in own), sum(one.total for one in own)
        return Room(free, total, f"the memory of {', '.join(one.name for one in own)}")
    bounds = [(machine or _machine)(), *_cgroup_rooms(cgroups, mine)]
    least = min(bounds, key=lambda bound: bound.free)
    return replace(least, free=max(0, least.free - mapped))


def _machine() -> Room:
    memory = psutil.virtual_memory()
    return Room(int(memory.available), int(memory.total), "this machine's memory")


def _cgroup_rooms(cgroups: Path, mine: Path) -> Iterator[Room]:
    with contextlib.suppress(OSError, ValueError):
        for line in mine.read_text().splitlines():
            _number, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                yield from _up(cgroups / controllers, path.strip("/"), v1=bool(controllers))


def _up(root: Path, path: str, *, v1: bool) -> Iterator[Room]:
    """The limits of a group and of those above it. In a container the path may not be there. None
    is no number in v2, and in v1 one that is never the least."""
    limit, current = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
        if v1
        else ("memory.max", "memory.current")
    )
    folder = root / path
    for group in (folder, *folder.parents):
        if not group.is_relative_to(root):
            return
        with contextlib.suppress(OSError, ValueError):
            most = int((group / limit).read_text())
            used = int((group / current).read_text()) - _reclaimable(group)
            yield Room(max(0, most - used), most, "the control group's memory limit")


def _reclaimable(group: Path) -> int:
    """Page cache, which the kernel gives up before it kills."""
    lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    return sum(int(size) for key, size in lines if key in ("active_file", "inactive_file"))


def _mib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 10 * 2**30 else f"{count / 2**20:,.0f} MiB"
