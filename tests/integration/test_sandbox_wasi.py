"""The virtual WASI: it answers what an interpreter asks while it starts, and gives nothing away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.clock import ManualClock
from node.errors import ToolLimitError, ToolTrapError
from node.sandbox import Grant, Limits, Sandbox, ToolResult
from node.sandbox.testing import write_tool

LIBC = """
  (core module $libc
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))"""
CANON = '(memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))'
EXPORTS = f"""
  (func (export "describe") (result string)
    (canon lift (core func $main "describe") {CANON}))
  (func (export "call") (param "input" string) (result (result string (error string)))
    (canon lift (core func $main "call") {CANON}))"""
DECIMAL = """
    (func $decimal (param $n i64) (result i32) (local $at i32)
      (local.set $at (i32.const 3000))
      (loop $digit
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (i32.store8 (local.get $at)
          (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $n) (i64.const 10)))))
        (local.set $n (i64.div_u (local.get $n) (i64.const 10)))
        (br_if $digit (i64.ne (local.get $n) (i64.const 0))))
      (i32.store (i32.const 16) (i32.const 0))
      (i32.store (i32.const 20) (local.get $at))
      (i32.store (i32.const 24) (i32.sub (i32.const 3000) (local.get $at)))
      (i32.const 16))
    (func (export "describe") (result i32) (i32.const 0))"""


def asks(interface: str, function: str, kind: str, core: str, body: str) -> str:
    """A component that calls one function of WASI and answers a number made of what it got."""
    return f"""(component
  (import "{interface}@0.2.3" (instance $w (export "{function}" (func {kind}))))
  {LIBC}
  (core func $asked (canon lower (func $w "{function}") {CANON}))
  (core module $main
    (import "libc" "memory" (memory 0))
    (import "w" "asked" (func $asked {core}))
    {DECIMAL}
    (func (export "call") (param i32 i32) (result i32) {body}))
  (core instance $main (instantiate $main (with "libc" (instance $libc))
    (with "w" (instance (export "asked" (func $asked))))))
  {EXPORTS})"""


LENGTH = "(call $asked (i32.const 64)) (call $decimal (i64.load32_u (i32.const 68)))"
ENVIRONMENT = asks(
    "wasi:cli/environment",
    "get-environment",
    "(result (list (tuple string string)))",
    "(param i32)",
    LENGTH,
)
ARGUMENTS = asks(
    "wasi:cli/environment", "get-arguments", "(result (list string))", "(param i32)", LENGTH
)
NUMBER = "(call $decimal (call $asked))"
CHANCE = asks("wasi:random/random", "get-random-u64", "(result u64)", "(result i64)", NUMBER)
CHANCES = asks(
    "wasi:random/random",
    "get-random-u64",
    "(result u64)",
    "(result i64)",
    "(call $decimal (i64.extend_i32_u (i64.ne (call $asked) (call $asked))))",
)
TIMES = asks(
    "wasi:clocks/monotonic-clock",
    "now",
    "(result u64)",
    "(result i64)",
    "(call $decimal (i64.extend_i32_u (i64.lt_u (call $asked) (call $asked))))",
)
DATE = asks(
    "wasi:clocks/wall-clock",
    "now",
    "(result $datetime)",
    "(param i32)",
    "(call $asked (i32.const 64)) (call $decimal (i64.load (i32.const 64)))",
).replace(
    "(instance $w",
    """(instance $w (type $d (record (field "seconds" u64) (field "nanoseconds" u32)))
      (export "datetime" (type $datetime (eq $d)))""",
    1,
)
MONOTONIC = asks("wasi:clocks/monotonic-clock", "now", "(result u64)", "(result i64)", NUMBER)
MANY_BYTES = asks(
    "wasi:random/random",
    "get-random-bytes",
    '(param "len" u64) (result (list u8))',
    "(param i64 i32)",
    """(call $asked (i64.const 1000) (i32.const 64))
       (call $decimal (i64.load32_u (i32.const 68)))""",
)
TOO_MANY_BYTES = MANY_BYTES.replace("(i64.const 1000)", "(i64.const 1000000000000)")
EXIT = asks(
    "wasi:cli/exit",
    "exit",
    '(param "status" (result))',
    "(param i32)",
    "(call $asked (i32.const 1)) unreachable",
)
ABSENT = asks("wasi:sockets/tcp", "connect", "(result u32)", "(result i32)", "(call $asked)")

PRINT = f"""(component
  (import "wasi:io/streams@0.2.3" (instance $s
    (export "output-stream" (type $stream (sub resource)))
    (type $error (variant (case "closed")))
    (export "stream-error" (type $stream-error (eq $error)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $stream)) (param "contents" (list u8))
      (result (result (error $stream-error)))))))
  (alias export $s "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.3" (instance $o
    (alias outer 1 $stream (type $outer))
    (export "output-stream" (type $inner (eq $outer)))
    (export "get-stdout" (func (result (own $inner))))))
  {LIBC}
  (core func $get (canon lower (func $o "get-stdout")))
  (core func $write (canon lower
    (func $s "[method]output-stream.blocking-write-and-flush") {CANON}))
  (core module $main
    (import "libc" "memory" (memory 0))
    (import "w" "get" (func $get (result i32)))
    (import "w" "write" (func $write (param i32 i32 i32 i32)))
    {DECIMAL}
    (func (export "call") (param $at i32) (param $size i32) (result i32) (local $stream i32)
      (local.set $stream (call $get))
      (loop $again
        (call $write (local.get $stream) (local.get $at) (local.get $size) (i32.const 64))
        (br_if $again (i32.const TIMES)))
      ENDING))
  (core instance $main (instantiate $main (with "libc" (instance $libc))
    (with "w" (instance (export "get" (func $get)) (export "write" (func $write))))))
  {EXPORTS})"""

# Waits for two pauses at once, over and over, and answers the first index that is ready.
POLL = f"""(component
  (import "wasi:io/poll@0.2.3" (instance $p
    (export "pollable" (type $pollable (sub resource)))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $p "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.3" (instance $c
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $inner (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $inner))))))
  {LIBC}
  (core func $pause (canon lower (func $c "subscribe-duration")))
  (core func $poll (canon lower (func $p "poll") {CANON}))
  (core func $drop (canon resource.drop $pollable))
  (core module $main
    (import "libc" "memory" (memory 0))
    (import "w" "pause" (func $pause (param i64) (result i32)))
    (import "w" "poll" (func $poll (param i32 i32 i32)))
    (import "w" "drop" (func $drop (param i32)))
    {DECIMAL}
    (func (export "call") (param i32 i32) (result i32) (local $left i32)
      (local.set $left (i32.const 500))
      (loop $again
        (i32.store (i32.const 64) (call $pause (i64.const 1000000000)))
        (i32.store (i32.const 68) (call $pause (i64.const 2000000000)))
        (call $poll (i32.const 64) (i32.const 2) (i32.const 80))
        (call $drop (i32.load (i32.const 64)))
        (call $drop (i32.load (i32.const 68)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $again (local.get $left)))
      (call $decimal (i64.load32_u (i32.load (i32.const 80))))))
  (core instance $main (instantiate $main (with "libc" (instance $libc))
    (with "w" (instance (export "pause" (func $pause)) (export "poll" (func $poll))
      (export "drop" (func $drop))))))
  {EXPORTS})"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
async def sandbox(cache: Path) -> AsyncIterator[Sandbox]:
    clock = ManualClock(monotonic_s=5.0)
    sandbox = Sandbox(cache, clock=clock, entropy=lambda size: b"\0" * (size - 1) + b"\7")
    yield sandbox
    await sandbox.aclose()


async def ask(sandbox: Sandbox, folder: Path, wat: str, grant: Grant | None = None) -> ToolResult:
    return await sandbox.call(write_tool(folder, wat), "tool", {}, grant or Grant())


async def test_environment_and_arguments_are_empty(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert (await ask(sandbox, tmp_path, ENVIRONMENT)).value == 0
    assert (await ask(sandbox, tmp_path, ARGUMENTS)).value == 0


async def test_chance_and_time_are_the_same_in_every_call(sandbox: Sandbox, tmp_path: Path) -> None:
    for wat in (CHANCE, MONOTONIC):
        answers = {(await ask(sandbox, tmp_path, wat)).value for _ in range(3)}
        assert len(answers) == 1
    assert (await ask(sandbox, tmp_path, DATE)).value == 0


async def test_chance_and_time_go_on_within_a_call(sandbox: Sandbox, tmp_path: Path) -> None:
    """Else what waits for either to change never ends."""
    for wat in (CHANCES, TIMES):
        assert (await ask(sandbox, tmp_path, wat)).value == 1


async def test_chance_and_time_are_real_where_they_are_granted(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    assert (await ask(sandbox, tmp_path, CHANCE, Grant(random=True))).value == 7
    assert (await ask(sandbox, tmp_path, MONOTONIC, Grant(clock=True))).value == 0
    assert (await ask(sandbox, tmp_path, DATE, Grant(clock=True))).value == 1_700_000_000


async def test_bytes_come_as_many_as_asked_for_up_to_a_limit(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    assert (await ask(sandbox, tmp_path, MANY_BYTES)).value == 1000
    with pytest.raises(ToolTrapError, match="get-random-bytes"):
        await ask(sandbox, tmp_path, TOO_MANY_BYTES)


async def test_a_tool_that_ends_itself_has_no_result(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(ToolTrapError, match="ended itself"):
        await ask(sandbox, tmp_path, EXIT)


async def test_the_rest_of_wasi_traps_by_name(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(ToolTrapError, match="wasi:sockets/tcp"):
        await ask(sandbox, tmp_path, ABSENT)


async def test_what_was_printed_explains_a_trap(sandbox: Sandbox, tmp_path: Path) -> None:
    wat = PRINT.replace("TIMES", "0").replace("ENDING", "unreachable")
    with pytest.raises(ToolTrapError, match=r'it printed: \{"function": "tool"'):
        await ask(sandbox, tmp_path, wat)


async def test_printing_and_answering_go_together(sandbox: Sandbox, tmp_path: Path) -> None:
    wat = PRINT.replace("TIMES", "0").replace("ENDING", "(call $decimal (i64.const 42))")
    assert (await ask(sandbox, tmp_path, wat)).value == 42


async def test_a_pause_takes_no_time(sandbox: Sandbox, tmp_path: Path) -> None:
    assert (await ask(sandbox, tmp_path, POLL)).value == 0


async def test_a_flood_of_output_is_stopped(sandbox: Sandbox, tmp_path: Path) -> None:
    wat = PRINT.replace("TIMES", "1").replace("ENDING", "unreachable")
    with pytest.raises(ToolLimitError, match="stdout_bytes = 65536"):
        await ask(sandbox, tmp_path, wat)


@pytest.mark.parametrize(("size", "words"), [(65_536, "unreachable"), (65_537, "at most 65536")])
async def test_so_much_is_printed_at_once(
    sandbox: Sandbox, tmp_path: Path, size: int, words: str
) -> None:
    wat = PRINT.replace("TIMES", "0").replace("ENDING", "unreachable")
    at_once = wat.replace("(local.get $size) (i32.const 64)", f"(i32.const {size}) (i32.const 64)")
    with pytest.raises(ToolTrapError, match=words):
        await ask(sandbox, tmp_path, at_once)


async def test_many_at_once_do_not_mix(sandbox: Sandbox, tmp_path: Path) -> None:
    wat = PRINT.replace("TIMES", "0").replace("ENDING", "unreachable")
    tool = write_tool(tmp_path, wat)
    errors = await asyncio.gather(
        *(sandbox.call(tool, "tool", {"v": f"<{i}>"}, Grant()) for i in range(12)),
        return_exceptions=True,
    )
    for i, error in enumerate(errors):
        assert str(error).count("<") == 1
        assert f"<{i}>" in str(error)


def test_limits_name_every_number() -> None:
    assert all(value > 0 for value in vars(Limits()).values())
