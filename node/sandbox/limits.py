"""Every limit of a tool call in one place, so that an error can name the one that was hit."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """What one call, and the sandbox as a whole, may use.

    The memory of a call is at most `memory_bytes` in each of `memories` linear memories. Sizes of
    text are in bytes of UTF-8. `inline_…` bound a call on the event loop's thread (see `inline`);
    one that goes over them is made again on a thread of its own. `compiled_bytes` is what compiled
    code may take on disk. `payments` and `payment_seconds` bound what a call has paid for it; the
    time that paying takes is not counted as the call's own.
    """

    seconds: float = 10.0
    fuel: int = 100_000_000_000
    input_bytes: int = 1 * MIB
    output_bytes: int = 1 * MIB
    stdout_bytes: int = 64 * KIB

    inline_fuel: int = 500_000
    inline_seconds: float = 0.002

    memory_bytes: int = 128 * MIB
    memories: int = 4
    tables: int = 16
    table_elements: int = 100_000
    instances: int = 64
    stack_bytes: int = 1 * MIB

    component_bytes: int = 64 * MIB
    compile_seconds: float = 180.0
    compile_memory_bytes: int = 4096 * MIB
    compiled_bytes: int = 512 * MIB
    concurrency: int = 4
    kept_components: int = 32

    host_calls: int = 10_000
    workspace_bytes: int = 256 * MIB
    workspace_files: int = 10_000
    file_bytes: int = 1 * MIB
    http_seconds: float = 8.0
    http_request_bytes: int = 256 * KIB
    http_response_bytes: int = 1 * MIB
    http_redirects: int = 5
    http_requests: int = 64
    payments: int = 8
    payment_seconds: float = 20.0
    egress_bytes: int = 4 * MIB
    store_bytes: int = 1 * MIB
    store_keys: int = 1_000
    knowledge_results: int = 50
