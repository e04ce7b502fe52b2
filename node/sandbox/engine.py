"""The one wasmtime engine: what a guest may be made of, and a ticker that bounds its time.

Features that no tool here needs are off, because each is code of the host that a guest can reach:
threads, GC, exceptions, 64-bit memories, stack switching, component-model async. Multi-memory stays
on, since adapters between a module and the component model are built on it.

Instances come from a pool of reserved address space, which makes a fresh one cost microseconds;
where the process's address space is limited they are mapped on demand instead. `fingerprint` names
everything that compiled code depends on.
"""

from __future__ import annotations

import hashlib
import platform
import resource
import threading
from importlib.metadata import version

import wasmtime
from wasmtime import _ffi as ffi

from node.errors import SandboxError
from node.sandbox.limits import KIB, Limits

TICK_S = 0.01
_LINGER_TICKS = 20
_OFF = (
    "wasm_threads",
    "wasm_gc",
    "wasm_exceptions",
    "wasm_memory64",
    "wasm_stack_switching",
    "wasm_relaxed_simd",
    "wasm_custom_page_sizes",
    "wasm_wide_arithmetic",
)
_CONFIG_VERSION = 1


def _use_pool(config: wasmtime.Config, limits: Limits) -> None:
    calls = limits.concurrency + 2  # one more on the loop's thread, and one to spare
    pool = ffi.wasmtime_pooling_allocation_config_new()
    settings = {
        "total_memories": calls * limits.memories,
        "total_tables": calls * limits.tables,
        "total_stacks": 0,
        "total_gc_heaps": 0,
        "total_core_instances": calls * limits.instances,
        "total_component_instances": calls,
        "max_component_instance_size": 4096 * KIB,
        "max_core_instance_size": 4096 * KIB,
        "max_core_instances_per_component": limits.instances,
        "max_memories_per_component": limits.memories,
        "max_memories_per_module": limits.memories,
        "max_tables_per_component": limits.tables,
        "max_tables_per_module": limits.tables,
        "table_elements": limits.table_elements,
        "max_memory_size": limits.memory_bytes,
        "linear_memory_keep_resident": 4096 * KIB,
        "table_keep_resident": 16 * KIB,
        "max_unused_warm_slots": calls,
    }
    for name, value in settings.items():
        getattr(ffi, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
    ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    ffi.wasmtime_pooling_allocation_config_delete(pool)


def _address_space_is_limited() -> bool:
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def build_engine(limits: Limits) -> wasmtime.Engine:
    """An engine for these limits; a compiling process and a running one build the same."""
    config = wasmtime.Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    # No fibers are made here, but the one's limit may not be below the other's.
    ffi.wasmtime_config_async_stack_size_set(config.ptr(), limits.stack_bytes)
    config.max_wasm_stack = limits.stack_bytes
    config.wasm_multi_memory = True
    config.cranelift_nan_canonicalization = True
    for feature in _OFF:
        setattr(config, feature, False)
    ffi.wasmtime_config_wasm_component_model_async_set(config.ptr(), False)
    ffi.wasmtime_config_concurrency_support_set(config.ptr(), False)
    if _address_space_is_limited():
        config.memory_reservation = limits.memory_bytes
    else:
        _use_pool(config, limits)
    return wasmtime.Engine(config)


def fingerprint(limits: Limits) -> str:
    """What compiled code depends on besides the component, as 16 hex digits."""
    pooled = not _address_space_is_limited()
    parts = (_CONFIG_VERSION, version("wasmtime"), platform.machine(), platform.system(), pooled)
    shape = (limits.stack_bytes, limits.memory_bytes, limits.memories, limits.tables)
    return hashlib.sha256(repr((parts, shape)).encode()).hexdigest()[:16]


def no_thread() -> SandboxError:
    """What a tool that needs a thread fails with where the system starts none."""
    return SandboxError(
        "the system starts no thread for a tool",
        hint="Raise the limit on processes (`ulimit -u`, or the container's).",
    )


class Ticker:
    """Moves the engine's epoch every `TICK_S` seconds while a call is in flight, else sleeps.

    It goes on for `_LINGER_TICKS` after the last call, so that calls in quick succession do not
    each pay for waking a thread.
    """

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._engine = engine
        self._in_flight = 0
        self._idle_ticks = 0
        self._is_asleep = True
        self._is_closed = False
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def enter(self) -> None:
        """Ticks until `leave` was called as often as this. Raises SandboxError if nothing would."""
        with self._wake:
            if self._thread is None:
                self._thread = self._started()
            elif self._is_asleep:
                self._wake.notify()
            self._in_flight += 1

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="sandbox-tick", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # a limit of the system's
            raise no_thread() from error
        return thread

    def leave(self) -> None:
        """The end of what `enter` began."""
        with self._wake:
            self._in_flight -= 1

    def _run(self) -> None:
        with self._wake:
            while not self._is_closed:
                self._is_asleep = self._idle_ticks > _LINGER_TICKS
                self._wake.wait(None if self._is_asleep else TICK_S)
                self._engine.increment_epoch()
                self._idle_ticks = 0 if self._in_flight else self._idle_ticks + 1

    def close(self) -> None:
        """Ends the thread."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
