"""Guests that want out, or want everything: each is refused or stopped, and the node goes on.

Every attack is a real component. After each the same sandbox must answer an honest call, and the
memory of the process must not grow with their number.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from node.errors import CapabilityError, SandboxError, ToolError, ToolLimitError, ToolTrapError
from node.sandbox import Grant, Limits, Sandbox, ToolManifest, WorkspaceGrant
from node.sandbox.testing import component_wat, write_tool
from node.types import Json

REPEATS = int(os.environ.get("FREEHOLD_ATTACKS", "60"))
FAIL = "(call $answer (i32.const 1) (local.get $text) (local.get $size))"
ECHO = component_wat(
    """(call $answer (i32.const 0) (i32.sub (local.get $text) (i32.const 1))
         (i32.add (local.get $size) (i32.const 2)))"""
)
LOOP = "(loop $for_ever (br $for_ever)) unreachable"


def before_libc(text: str, wat: str) -> str:
    return wat.replace("(core instance $libc", text + "(core instance $libc", 1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
async def sandbox(cache: Path) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(cache, limits=Limits(seconds=1.5))
    yield sandbox
    await sandbox.aclose()


@pytest.fixture
async def calm(cache: Path) -> AsyncIterator[Sandbox]:
    """With the usual time, for calls that wait for a disk."""
    sandbox = Sandbox(cache)
    yield sandbox
    await sandbox.aclose()


async def run(sandbox: Sandbox, tool: ToolManifest, text: str, grant: Grant | None = None) -> Json:
    result = await sandbox.call(tool, tool.name, {"v": text}, grant or Grant())
    return result.value


async def assert_well(sandbox: Sandbox, folder: Path) -> None:
    assert await run(sandbox, write_tool(folder, ECHO, name="honest"), "fine") == "fine"


BOMBS = {
    "loop": (component_wat(LOOP), ToolLimitError, "seconds = 1.5"),
    "loop at the start": (
        component_wat(FAIL, declarations=f"(func $start {LOOP}) (start $start)"),
        ToolLimitError,
        "seconds = 1.5",
    ),
    "loop in an allocation": (
        component_wat(FAIL).replace("(local $end i32)", f"(local $end i32) {LOOP}", 1),
        ToolLimitError,
        "seconds = 1.5",
    ),
    "loop of long instructions": (
        component_wat(
            """(drop (memory.grow (i32.const 1900)))
               (loop $for_ever
                 (memory.fill (i32.const 0) (i32.const 1) (i32.const 120000000))
                 (br $for_ever))
               unreachable"""
        ),
        ToolLimitError,
        "seconds = 1.5",
    ),
    "bulk instructions without a loop": (
        component_wat(
            "(memory.fill (i32.const 70000) (i32.const 1) (i32.const 124000000))" * 300
            + "unreachable",
            pages=1900,
        ),
        ToolLimitError,
        "seconds = 1.5",
    ),
    "stack": (
        component_wat("(call $body (local.get $text) (local.get $size))"),
        ToolLimitError,
        "stack_bytes = 1048576",
    ),
    "memory at the start": (
        component_wat(FAIL, pages=3000),
        ToolLimitError,
        "memory_bytes = 134217728",
    ),
    "memory": (
        component_wat(
            """(loop $more
                 (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 16)))))
               unreachable"""
        ),
        ToolTrapError,
        "unreachable",
    ),
    "memories": (
        component_wat(FAIL, declarations="(memory 1) " * 10),
        ToolLimitError,
        "memories = 4",
    ),
    "memories of many instances": (
        before_libc(
            "(core module $e (memory 1000))" + "(core instance (instantiate $e))" * 20,
            component_wat(FAIL),
        ),
        ToolLimitError,
        "memories = 4",
    ),
    "table at the start": (
        component_wat(FAIL, declarations="(table 200000 funcref)"),
        ToolLimitError,
        "table_elements = 100000",
    ),
    "table": (
        component_wat(
            """(loop $more (br_if $more (i32.ne (i32.const -1)
                 (table.grow $t (ref.null func) (i32.const 1000)))))
               unreachable""",
            declarations="(table $t 1 funcref)",
        ),
        ToolTrapError,
        "unreachable",
    ),
    "tables": (
        component_wat(FAIL, declarations="(table 1 funcref) " * 40),
        ToolLimitError,
        "tables = 16",
    ),
    "instances": (
        before_libc(
            "(core module $e)" + "(core instance (instantiate $e))" * 100, component_wat(FAIL)
        ),
        ToolLimitError,
        "instances = 64",
    ),
    "handles": (
        before_libc(
            "(type $made (resource (rep i32))) (core func $new (canon resource.new $made))",
            component_wat(
                "(loop $more (drop (call $new (i32.const 7))) (br $more)) unreachable",
                declarations='(import "own" "new" (func $new (param i32) (result i32)))',
            ).replace(
                "(instantiate $main",
                '(instantiate $main (with "own" (instance (export "new" (func $new))))',
            ),
        ),
        ToolLimitError,
        "limit of handles",
    ),
    "an answer outside of memory": (
        component_wat("(call $answer (i32.const 0) (i32.const 0) (i32.const 0x7fffffff))"),
        ToolTrapError,
        "out of bounds",
    ),
    "an answer that is too long": (
        component_wat(
            """(drop (memory.grow (i32.const 100)))
               (call $answer (i32.const 0) (i32.const 200000) (i32.const 2000000))"""
        ),
        ToolLimitError,
        "output_bytes = 1048576",
    ),
    "an answer that is not text": (
        component_wat(
            """(i32.store8 (i32.const 3000) (i32.const 0xff))
               (call $answer (i32.const 0) (i32.const 3000) (i32.const 1))"""
        ),
        ToolTrapError,
        "utf-8",
    ),
    "memory that is not its own": (
        component_wat("(i32.load (i32.const 0x7ffffff0))"),
        ToolTrapError,
        "out of bounds",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_stopped_by_name(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    wat, error, words = BOMBS[name]
    tool = write_tool(tmp_path, wat)
    with pytest.raises(SandboxError) as caught:
        await run(sandbox, tool, "x")
    assert type(caught.value) is error
    assert words in caught.value.message
    assert caught.value.hint
    await assert_well(sandbox, tmp_path)


async def test_what_fails_at_its_start_takes_nobodys_place(calm: Sandbox, tmp_path: Path) -> None:
    wat = component_wat(FAIL, declarations="(func $start unreachable) (start $start)")
    tool = write_tool(tmp_path, wat)
    calls = [run(calm, tool, "x") for _ in range(40)]  # more than there are places
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(error) for error in errors} == {
        "tool tool trapped: wasm `unreachable` instruction executed"
    }
    await assert_well(calm, tmp_path)


async def test_growth_that_was_refused_names_the_limits(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, BOMBS["memory"][0])
    with pytest.raises(ToolTrapError) as caught:
        await run(sandbox, tool, "x")
    assert "memory_bytes = 134217728" in caught.value.hint
    assert "table_elements = 100000" in caught.value.hint


async def test_fuel_ends_a_loop_too(cache: Path, tmp_path: Path) -> None:
    sandbox = Sandbox(cache, limits=Limits(fuel=100_000))
    tool = write_tool(tmp_path, component_wat(LOOP))
    with pytest.raises(ToolLimitError, match="fuel = 100000"):
        await run(sandbox, tool, "x")
    await sandbox.aclose()


async def test_a_loop_holds_neither_the_event_loop_nor_its_neighbours(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    bomb = write_tool(tmp_path, component_wat(LOOP), name="bomb")
    honest = write_tool(tmp_path, ECHO, name="honest")
    await sandbox.prepare(bomb)
    await sandbox.prepare(honest)
    bombs = [asyncio.create_task(run(sandbox, bomb, "x")) for _ in range(3)]
    answered = 0
    while not all(task.done() for task in bombs):
        assert await run(sandbox, honest, "fine") == "fine"
        answered += 1
    assert answered > 3
    results = await asyncio.gather(*bombs, return_exceptions=True)
    assert {type(result) for result in results} == {ToolLimitError}


async def test_more_calls_than_threads_all_end(cache: Path, tmp_path: Path) -> None:
    sandbox = Sandbox(cache, limits=Limits(seconds=120))  # a busy machine takes its time
    bomb = write_tool(tmp_path, BOMBS["memory"][0])
    results = await asyncio.gather(
        *(run(sandbox, bomb, "x") for _ in range(20)), return_exceptions=True
    )
    assert [type(result) for result in results] == [ToolTrapError] * 20
    await sandbox.aclose()


async def test_a_cancelled_call_gives_its_thread_back(cache: Path, tmp_path: Path) -> None:
    """And does not keep it for the hour that it may take."""
    sandbox = Sandbox(cache, limits=Limits(seconds=3600, concurrency=1))
    bomb = write_tool(tmp_path, component_wat(LOOP), name="bomb")
    await sandbox.prepare(bomb)
    task = asyncio.create_task(run(sandbox, bomb, "x"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_well(sandbox, tmp_path)
    await sandbox.aclose()


WRITE = component_wat(
    """(call $workspace.write (local.get $text) (local.get $size)
         (local.get $text) (local.get $size) (i32.const 32))
       (if (i32.load8_u (i32.const 32))
         (then (return (call $answer (i32.const 1)
           (i32.load offset=8 (i32.const 32)) (i32.load offset=12 (i32.const 32))))))
       (call $answer (i32.const 0) (i32.sub (local.get $text) (i32.const 1))
         (i32.add (local.get $size) (i32.const 2)))""",
    imports=["workspace.write"],
)
READ = component_wat(
    """(call $workspace.read (local.get $text) (local.get $size) (i32.const 32))
       (call $quote (i32.const 32))""",
    imports=["workspace.read"],
)


@pytest.mark.parametrize(
    "path",
    ["../secret", "/etc/passwd", "a/../../secret", "link", "absolute", "folder/secret", "hard"],
)
async def test_a_component_reads_and_writes_nothing_outside(
    calm: Sandbox, tmp_path: Path, path: str
) -> None:
    root, secret = tmp_path / "root", tmp_path / "secret"
    root.mkdir()
    secret.write_text("secret")
    (root / "link").symlink_to("../secret")
    (root / "absolute").symlink_to(secret)
    (root / "folder").symlink_to("..")
    os.link(secret, root / "hard")
    grant = Grant(workspace=WorkspaceGrant(root, "rw"))
    for wat in (READ, WRITE):
        tool = write_tool(tmp_path, wat, wants=["workspace"])
        result = await calm.call(tool, "tool", {"v": path}, grant)
        assert not result.ok
        assert "secret" not in str(result.value).replace(path, "")
    assert secret.read_text() == "secret"


async def test_a_component_writes_only_where_it_may(calm: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, WRITE, wants=["workspace"])
    (tmp_path / "root").mkdir()
    for mode in ("rw", "ro"):
        grant = Grant(workspace=WorkspaceGrant(tmp_path / "root", mode))
        result = await calm.call(tool, "tool", {"v": mode}, grant)
        assert result.ok is (mode == "rw")
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["rw"]


async def test_a_link_swapped_in_while_it_writes_changes_nothing(
    calm: Sandbox, tmp_path: Path
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    outside.mkdir()
    tool = write_tool(tmp_path, WRITE, wants=["workspace"])
    grant = Grant(workspace=WorkspaceGrant(root, "rw"))
    await calm.prepare(tool)

    def swap() -> None:
        with suppress(OSError):
            os.rename(root / "a", root / "b")
            os.symlink(outside, root / "a")
            os.unlink(root / "a")
            os.rename(root / "b", root / "a")

    async def swapping() -> None:
        while True:
            await asyncio.to_thread(swap)

    task = asyncio.create_task(swapping())
    for _ in range(REPEATS):
        await calm.call(tool, "tool", {"v": "a/file"}, grant)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert list(outside.iterdir()) == []


GUESSES = [
    "wasi:http/outgoing-handler",
    "freehold:tool/workspace",
    "freehold:tool/workspace@2.0.0",
    "freehold:tool/workspace@1.0.1",
    "freehold:tool/wallet@1.0.0",
    "freehold:tool/shell@1.0.0",
    "host:system/exec",
    "env",
]


@pytest.mark.parametrize("name", [each for each in GUESSES if not each.startswith("wasi")])
async def test_a_guessed_import_is_refused_by_name(
    calm: Sandbox, tmp_path: Path, name: str
) -> None:
    wat = READ.replace("freehold:tool/workspace@1.0.0", name)
    tool = write_tool(tmp_path, wat, wants=["workspace"])
    with pytest.raises(CapabilityError) as caught:
        await run(calm, tool, "a", Grant(workspace=WorkspaceGrant(tmp_path)))
    assert name in caught.value.message


@pytest.mark.parametrize(
    "kind", ["(core module)", '(instance (export "x" (core module)))'], ids=["root", "within"]
)
async def test_code_is_no_import(calm: Sandbox, tmp_path: Path, kind: str) -> None:
    wat = ECHO.replace("(component", f'(component (import "wasi:cli/code@0.2.0" {kind})', 1)
    tool = write_tool(tmp_path, wat)
    with pytest.raises(CapabilityError, match="imports what no tool can be given"):
        await run(calm, tool, "a")
    with pytest.raises(CapabilityError, match="imports what no tool can be given"):
        await calm.describe(tool)


async def test_what_wasi_has_and_the_node_has_not_traps(calm: Sandbox, tmp_path: Path) -> None:
    wat = READ.replace("freehold:tool/workspace@1.0.0", "wasi:http/outgoing-handler@0.2.0")
    tool = write_tool(tmp_path, wat)
    with pytest.raises(ToolTrapError, match="wasi:http/outgoing-handler"):
        await run(calm, tool, "a")


WRONG = {
    "types": ("workspace", "read", '(param "path" u32) (result u32)', "other types than tool.wit"),
    "too few": ("workspace", "read", "(result u32)", "it takes 1 arguments"),
    "too many": (
        "workspace",
        "read",
        '(param "path" u32) (param "more" u32) (result u32)',
        "it takes 1 arguments",
    ),
    "no result": ("clock", "now", "", "another result than it has"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_an_import_that_is_another_than_the_hosts_traps(
    calm: Sandbox, tmp_path: Path, name: str
) -> None:
    """What the host took for its arguments, or for where its result goes, would be any memory."""
    interface, function, kind, words = WRONG[name]
    count, result = kind.count("param"), "(result i32)" if "result" in kind else ""
    wat = f"""(component
      (import "freehold:tool/{interface}@1.0.0"
        (instance $w (export "{function}" (func {kind}))))
      (core func $asked (canon lower (func $w "{function}")))
      (core module $m
        (import "w" "asked" (func $asked (param {"i32 " * count}) {result}))
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export "describe") (result i32) (i32.const 0))
        (func (export "call") (param i32 i32) (result i32)
          (call $asked {"(i32.const 7) " * count}) {"" if result else "(i32.const 0)"}))
      (core instance $i (instantiate $m (with "w" (instance (export "asked" (func $asked))))))
      (func (export "describe") (result string)
        (canon lift (core func $i "describe") (memory (core memory $i "memory"))))
      (func (export "call") (param "input" string) (result (result string (error string)))
        (canon lift (core func $i "call") (memory (core memory $i "memory"))
          (realloc (core func $i "realloc")))))"""
    tool = write_tool(tmp_path, wat, wants=["workspace", "clock"])
    with pytest.raises(ToolTrapError, match=words):
        await run(calm, tool, "a", Grant(workspace=WorkspaceGrant(tmp_path), clock=True))
    await assert_well(calm, tmp_path)


async def test_an_argument_that_is_too_long_is_answered(calm: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, READ, wants=["workspace"])
    grant = Grant(workspace=WorkspaceGrant(tmp_path))
    result = await calm.call(tool, "tool", {"v": "a" * 5000}, grant)
    assert not result.ok
    assert "read: 5000 bytes where at most 4096 are allowed" in str(result.value)


# Types are the guest's to state, and a list of bytes is thirty times as large in the host.
AMPLIFIED = """(component
  (import "{interface}" (instance $w
    (export "{function}" (func (param "path" (list {item})) (result u32)))))
  (core module $libc (memory (export "memory") 1600))
  (core instance $libc (instantiate $libc))
  (core func $asked (canon lower (func $w "{function}") (memory (core memory $libc "memory"))))
  (core module $m
    (import "libc" "memory" (memory 0))
    (import "w" "asked" (func $asked (param i32 i32) (result i32)))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "describe") (result i32) (i32.const 0))
    (func (export "call") (param i32 i32) (result i32)
      (call $asked (i32.const 0) (i32.const 100000000))))
  (core instance $i (instantiate $m (with "libc" (instance $libc))
    (with "w" (instance (export "asked" (func $asked))))))
  (func (export "describe") (result string)
    (canon lift (core func $i "describe") (memory (core memory $libc "memory"))))
  (func (export "call") (param "input" string) (result (result string (error string)))
    (canon lift (core func $i "call") (memory (core memory $libc "memory"))
      (realloc (core func $i "realloc")))))"""


@pytest.mark.parametrize("item", ["u8", "bool"])
@pytest.mark.parametrize(
    ("interface", "function"),
    [("freehold:tool/workspace@1.0.0", "read"), ("wasi:cli/made-up@0.2.0", "anything")],
)
async def test_a_list_does_not_grow_in_the_host(
    calm: Sandbox, tmp_path: Path, interface: str, function: str, item: str
) -> None:
    wat = AMPLIFIED
    for key, value in {"interface": interface, "function": function, "item": item}.items():
        wat = wat.replace("{" + key + "}", value)
    tool = write_tool(tmp_path, wat, wants=["workspace"])
    before = psutil.Process().memory_info().rss
    with pytest.raises(ToolLimitError, match="copied_bytes = 134217728"):
        await run(calm, tool, "x", Grant(workspace=WorkspaceGrant(tmp_path)))
    assert psutil.Process().memory_info().rss - before < 300 * 1024 * 1024


@pytest.mark.parametrize(
    ("count", "words"), [(1, "other types"), (1025, "1025 bytes where at most 1024")]
)
async def test_what_is_waited_for_is_few_handles(
    calm: Sandbox, tmp_path: Path, count: int, words: str
) -> None:
    """A number that were taken for a handle would be an address in the host."""
    wat = AMPLIFIED.replace("100000000", str(count))
    named = {"interface": "wasi:io/poll@0.2.0", "function": "poll", "item": "u64"}
    for key, value in named.items():
        wat = wat.replace("{" + key + "}", value)
    with pytest.raises(ToolTrapError, match=words):
        await run(calm, write_tool(tmp_path, wat), "x")
    await assert_well(calm, tmp_path)


async def test_host_calls_are_counted(cache: Path, tmp_path: Path) -> None:
    sandbox = Sandbox(cache, limits=Limits(host_calls=50))
    body = """(loop $again
        (call $workspace.read (local.get $text) (local.get $size) (i32.const 32))
        (br $again)) unreachable"""
    tool = write_tool(
        tmp_path, component_wat(body, imports=["workspace.read"]), wants=["workspace"]
    )
    with pytest.raises(ToolLimitError, match="host_calls = 50"):
        await run(sandbox, tool, "a", Grant(workspace=WorkspaceGrant(tmp_path)))
    await sandbox.aclose()


SEARCH = component_wat(
    """(call $knowledge.search (local.get $text) (local.get $size) (i32.const 3) (i32.const 32))
       (if (i32.load8_u (i32.const 32)) (then (return (i32.const 32))))
       (i32.const 32)""",
    imports=["knowledge.search"],
)


async def test_a_host_call_that_never_answers_ends_with_the_call(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    ended = asyncio.Event()

    async def never(query: str, limit: int) -> Json:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        return None

    tool = write_tool(tmp_path, SEARCH, wants=["knowledge"])
    with pytest.raises(ToolLimitError, match=r"seconds = 1\.5"):
        await run(sandbox, tool, "x", Grant(knowledge=never))
    await asyncio.wait_for(ended.wait(), 5)
    await assert_well(sandbox, tmp_path)


async def test_who_was_cancelled_reaches_nothing_more(cache: Path, tmp_path: Path) -> None:
    """Not even in the moment until the guest is stopped."""
    wat = component_wat(
        """(call $knowledge.search (local.get $text) (local.get $size) (i32.const 3) (i32.const 32))
           (call $workspace.write (local.get $text) (local.get $size)
             (local.get $text) (local.get $size) (i32.const 32))
           (call $answer (i32.const 1) (local.get $text) (local.get $size))""",
        imports=["knowledge.search", "workspace.write"],
    )
    sandbox, root = Sandbox(cache), tmp_path / "root"
    root.mkdir()

    async def search(query: str, limit: int) -> Json:
        task.cancel()
        await asyncio.wait([task])
        return []

    grant = Grant(knowledge=search, workspace=WorkspaceGrant(root, "rw"))
    tool = write_tool(tmp_path, wat, wants=["knowledge", "workspace"])
    task = asyncio.create_task(run(sandbox, tool, "file", grant))
    with pytest.raises(asyncio.CancelledError):
        await task
    await sandbox.aclose()
    assert [*root.iterdir()] == []


async def test_a_host_function_that_fails_is_a_fault_of_the_node(
    calm: Sandbox, tmp_path: Path
) -> None:
    async def broken(query: str, limit: int) -> Json:
        raise KeyError("private detail")

    tool = write_tool(tmp_path, SEARCH, wants=["knowledge"])
    with pytest.raises(SandboxError, match="search failed") as caught:
        await run(calm, tool, "x", Grant(knowledge=broken))
    assert type(caught.value) is SandboxError
    assert "fault of the node" in caught.value.hint
    await assert_well(calm, tmp_path)


async def test_running_out_of_descriptors_is_an_error_of_the_call(
    calm: Sandbox, tmp_path: Path
) -> None:
    tool = write_tool(tmp_path, READ, wants=["workspace"])
    (tmp_path / "a").write_text("a")
    grant = Grant(workspace=WorkspaceGrant(tmp_path))
    await run(calm, tool, "a", grant)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 20, before[1]))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        with suppress(OSError):
            while True:
                opened.enter_context(open(os.devnull))  # noqa: ASYNC230
        result = await calm.call(tool, "tool", {"v": "a"}, grant)
    assert (result.ok, result.value) == (False, {"error": "a: the host could not do it"})
    assert await run(calm, tool, "a", grant) == "a"


async def test_descriptors_and_memory_stay_flat(calm: Sandbox, tmp_path: Path) -> None:
    grant = Grant(workspace=WorkspaceGrant(tmp_path, "rw"))
    attacks = [
        "memory",
        "stack",
        "table",
        "an answer that is too long",
        "memory that is not its own",
    ]
    tools = [write_tool(tmp_path, BOMBS[name][0], name=f"t{i}") for i, name in enumerate(attacks)]
    tools.append(write_tool(tmp_path, WRITE, name="write", wants=["workspace"]))

    async def round_of_attacks() -> None:
        for tool in tools:
            with suppress(SandboxError, ToolError):
                await run(calm, tool, "../x" * 25_000, grant)

    for _ in range(10):
        await round_of_attacks()
    gc.collect()
    process = psutil.Process()
    rss, fds, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
    for _ in range(REPEATS):
        await round_of_attacks()
    gc.collect()
    assert process.num_fds() == fds
    assert process.num_threads() == threads
    assert process.memory_info().rss - rss < 8 * 1024 * 1024


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from node.errors import SandboxError
from node.sandbox import Grant, Sandbox, read_manifest

async def main():
    sandbox = Sandbox(Path(sys.argv[1]))
    for name in sys.argv[2:]:
        tool = read_manifest(Path(name))
        try:
            result = await sandbox.call(tool, tool.name, {"v": "fine"}, Grant())
            print(result.value)
        except SandboxError as error:
            print(error.message)
    await sandbox.aclose()

asyncio.run(main())
"""


def test_the_limits_hold_where_the_address_space_is_limited(cache: Path, tmp_path: Path) -> None:
    names = ["memory at the start", "memories", "table at the start", "tables", "instances"]
    tools = [write_tool(tmp_path, BOMBS[name][0], name=f"t{i}") for i, name in enumerate(names)]
    tools.append(write_tool(tmp_path, ECHO, name="honest"))
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, cache, *(tool.folder for tool in tools)],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        cwd=Path(__file__).parents[2],
    )
    told = run.stdout.splitlines()
    assert told[-1] == "fine"
    for name, line in zip(names, told, strict=False):
        assert BOMBS[name][2] in line
