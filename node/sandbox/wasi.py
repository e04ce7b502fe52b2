"""The virtual WASI 0.2: what the C library of a guest asks for, with nothing behind it.

Interpreters built for WASI (CPython, QuickJS) call it while they start, so it must answer; none of
it reaches the machine. The environment and the arguments are empty, there are no folders, a socket
is denied, standard input is at its end, and what is printed is kept, up to a limit, to explain a
trap. Time and chance are the same in every call unless `clock` or `random` is granted. A pause
takes no time: it moves the guest's clock. Every function of WASI that is not here traps.

Specification: WASI 0.2, the packages wasi:cli, clocks, filesystem, io, random and sockets.
"""

from __future__ import annotations

import hashlib
from functools import cache, partial

from node.sandbox import abi
from node.sandbox.abi import Err
from node.sandbox.binding import HostFunction
from node.sandbox.hostcall import HostCall

_ERROR, _POLLABLE, _INPUT, _OUTPUT, _TERMINAL_IN, _TERMINAL_OUT = 101, 102, 103, 104, 105, 106
_READY = 1
_STDIN, _STDOUT, _STDERR = 1, 2, 3
_WRITE_BYTES = 64 * 1024
_RANDOM_BYTES = 64 * 1024
_POLLED = 1024
_NS = 1_000_000_000
_READ_NS = 1_000

RESOURCES: dict[str, dict[str, int]] = {
    "wasi:io/error": {"error": _ERROR},
    "wasi:io/poll": {"pollable": _POLLABLE},
    "wasi:io/streams": {"input-stream": _INPUT, "output-stream": _OUTPUT},
    "wasi:cli/terminal-input": {"terminal-input": _TERMINAL_IN},
    "wasi:cli/terminal-output": {"terminal-output": _TERMINAL_OUT},
}


def _monotonic_ns(call: HostCall) -> int:
    if call.grant.clock:
        return int((call.clock.monotonic() - call.started_s) * _NS) + call.skipped_ns
    call.skipped_ns += _READ_NS
    return call.skipped_ns


def _wall(call: HostCall) -> tuple[int, int]:
    base_ns = int(call.clock.wall() * _NS) if call.grant.clock else 0
    return divmod(base_ns + (call.skipped_ns if call.grant.clock else _monotonic_ns(call)), _NS)


def _pause(call: HostCall, duration_ns: int) -> int:
    call.skipped_ns = min(call.skipped_ns + duration_ns, 2**62)
    return _READY


def _pause_until(call: HostCall, instant_ns: int) -> int:
    return _pause(call, max(0, instant_ns - _monotonic_ns(call)))


def _random(call: HostCall, size: int) -> bytes:
    if size > _RANDOM_BYTES:
        raise abi.TooLongError(size, _RANDOM_BYTES)
    if call.grant.random:
        return call.entropy(size)
    call.chance += 1
    return hashlib.shake_256(f"{call.seed}:{call.chance}".encode()).digest(size)


def _random_u64(call: HostCall) -> int:
    return int.from_bytes(_random(call, 8))


def _seed(call: HostCall) -> tuple[int, int]:
    return _random_u64(call), _random_u64(call)


def _write(call: HostCall, stream: int, content: bytes) -> None:
    call.stdout += content
    if len(call.stdout) > call.limits.stdout_bytes:
        raise call.stop(call.over("stdout_bytes"))


def _room(call: HostCall, stream: int) -> int:
    return _WRITE_BYTES


def _closed(call: HostCall, *_: object) -> Err:
    return Err("closed")


def _nothing(call: HostCall, *_: object) -> None:
    return None


def _none(call: HostCall) -> tuple[()]:
    return ()


def _ready(call: HostCall, *_: object) -> int:
    return _READY


def _all_ready(call: HostCall, pollables: list[int]) -> range:
    return range(len(pollables))


def _exit(call: HostCall, status: object) -> None:
    raise abi.GuestTypeError("the tool ended itself before it answered")


def _denied(call: HostCall, family: object) -> Err:
    return Err("access-denied")


def _streams() -> tuple[HostFunction, ...]:
    failed = abi.put_case
    done = abi.put_result(None, failed)
    on_stream = (abi.handle,)
    read_result = abi.put_result(abi.put_octets, failed)
    sends = partial(
        HostFunction,
        run=_write,
        params=(abi.handle, abi.octets),
        result=done,
        limit=_WRITE_BYTES,
    )
    reads = partial(HostFunction, run=_closed, params=(abi.handle, abi.u64), result=read_result)
    out, into = "[method]output-stream.", "[method]input-stream."
    ready = abi.put_handle(_POLLABLE)
    room = abi.put_result(abi.put_u64, failed)
    return (
        HostFunction(out + "check-write", _room, on_stream, room),
        sends(out + "write"),
        sends(out + "blocking-write-and-flush"),
        HostFunction(out + "flush", _nothing, on_stream, done),
        HostFunction(out + "blocking-flush", _nothing, on_stream, done),
        HostFunction(out + "subscribe", _ready, on_stream, ready),
        reads(into + "read"),
        reads(into + "blocking-read"),
        HostFunction(into + "subscribe", _ready, on_stream, ready),
    )


def _stream(name: str, number: int, kind: int) -> tuple[HostFunction, ...]:
    return (HostFunction(name, lambda call: number, result=abi.put_handle(kind)),)


def _terminal(name: str) -> tuple[HostFunction, ...]:
    return (HostFunction(name, _nothing, result=abi.put_option(abi.put_u64)),)


def _clocks() -> dict[str, tuple[HostFunction, ...]]:
    instant = abi.put_record(seconds=abi.put_u64, nanoseconds=abi.put_u32)
    pollable = abi.put_handle(_POLLABLE)
    return {
        "wasi:clocks/monotonic-clock": (
            HostFunction("now", _monotonic_ns, result=abi.put_u64),
            HostFunction("resolution", lambda call: _READ_NS, result=abi.put_u64),
            HostFunction("subscribe-duration", _pause, (abi.u64,), pollable),
            HostFunction("subscribe-instant", _pause_until, (abi.u64,), pollable),
        ),
        "wasi:clocks/wall-clock": (
            HostFunction("now", _wall, result=instant),
            HostFunction("resolution", lambda call: (0, _READ_NS), result=instant),
        ),
    }


def _chance() -> dict[str, tuple[HostFunction, ...]]:
    both = abi.put_tuple(abi.put_u64, abi.put_u64)
    octets = partial(HostFunction, run=_random, params=(abi.u64,), result=abi.put_octets)
    number = partial(HostFunction, run=_random_u64, result=abi.put_u64)
    return {
        "wasi:random/random": (octets("get-random-bytes"), number("get-random-u64")),
        "wasi:random/insecure": (
            octets("get-insecure-random-bytes"),
            number("get-insecure-random-u64"),
        ),
        "wasi:random/insecure-seed": (HostFunction("insecure-seed", _seed, result=both),),
    }


@cache
def wasi_interfaces() -> dict[str, tuple[HostFunction, ...]]:
    """The functions of each interface that has any, by its name without a version."""
    nothing = abi.put_list(abi.put_u64)
    socket = abi.put_result(abi.put_u64, abi.put_enum)
    polled = abi.put_list(abi.put_u32)
    return {
        "wasi:cli/environment": (
            HostFunction("get-environment", _none, result=nothing),
            HostFunction("get-arguments", _none, result=nothing),
            HostFunction("initial-cwd", _nothing, result=abi.put_option(abi.put_text)),
        ),
        "wasi:cli/exit": (HostFunction("exit", _exit, (abi.ignored,)),),
        "wasi:cli/stdin": _stream("get-stdin", _STDIN, _INPUT),
        "wasi:cli/stdout": _stream("get-stdout", _STDOUT, _OUTPUT),
        "wasi:cli/stderr": _stream("get-stderr", _STDERR, _OUTPUT),
        "wasi:cli/terminal-stdin": _terminal("get-terminal-stdin"),
        "wasi:cli/terminal-stdout": _terminal("get-terminal-stdout"),
        "wasi:cli/terminal-stderr": _terminal("get-terminal-stderr"),
        "wasi:filesystem/preopens": (HostFunction("get-directories", _none, result=nothing),),
        "wasi:io/error": (),
        "wasi:io/poll": (
            HostFunction("[method]pollable.block", _nothing, (abi.handle,)),
            HostFunction("[method]pollable.ready", lambda c, p: True, (abi.handle,), abi.put_bool),
            HostFunction("poll", _all_ready, (abi.handles,), polled, limit=_POLLED),
        ),
        "wasi:io/streams": _streams(),
        "wasi:cli/terminal-input": (),
        "wasi:cli/terminal-output": (),
        "wasi:sockets/tcp-create-socket": (
            HostFunction("create-tcp-socket", _denied, (abi.ignored,), socket),
        ),
        "wasi:sockets/udp-create-socket": (
            HostFunction("create-udp-socket", _denied, (abi.ignored,), socket),
        ),
        **_clocks(),
        **_chance(),
    }
