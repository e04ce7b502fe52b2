"""Compiled code is native code: what is loaded is what this node compiled, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.errors import SandboxError, ToolError, ToolLimitError
from node.sandbox import Limits
from node.sandbox.compiler import Compiled, Compiler
from node.sandbox.engine import build_engine
from node.sandbox.testing import component_wat

WAT = component_wat("(call $answer (i32.const 1) (local.get $text) (local.get $size))")
READS = component_wat(
    "(call $workspace.read (local.get $text) (local.get $size) (i32.const 32)) (i32.const 32)",
    imports=["workspace.read"],
)


def component(wat: str = WAT) -> bytes:
    return bytes(wasmtime.wat2wasm(wat))


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    return build_engine(Limits())


@pytest.fixture
def compiler(tmp_path: Path, engine: wasmtime.Engine) -> Compiler:
    return Compiler(tmp_path / "cache", engine, Limits())


async def get(compiler: Compiler, raw: bytes) -> Compiled:
    return await compiler.get(sha256(raw), raw)


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def files(tmp_path: Path) -> dict[str, Path]:
    return {path.suffix: path for path in (tmp_path / "cache").iterdir()}


async def test_compiles_once_and_keeps_it_private(tmp_path: Path, compiler: Compiler) -> None:
    compiled = await get(compiler, component(READS))
    assert compiled.imports == ("freehold:tool/workspace@1.0.0",)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    kept = files(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in kept.values()} == {0o600}
    before = kept[".cwasm"].stat().st_ino
    await get(compiler, component(READS))
    assert files(tmp_path)[".cwasm"].stat().st_ino == before


async def test_a_compiler_that_cannot_be_started_is_an_error_of_the_sandbox(
    compiler: Compiler,
) -> None:
    """An error of any other kind leaves open whether the tool has run, and a person is asked."""
    await get(compiler, component())
    limits, taken = resource.getrlimit(resource.RLIMIT_NOFILE), list[int]()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(SandboxError, match="no process can be started to compile a tool"):
            await get(compiler, component(READS))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


def spoil_code(kept: dict[str, Path]) -> None:
    raw = bytearray(kept[".cwasm"].read_bytes())
    raw[len(raw) // 2] ^= 1
    kept[".cwasm"].write_bytes(raw)


def spoil_note(kept: dict[str, Path]) -> None:
    mac, _, note = kept[".json"].read_text().partition("\n")
    facts = json.loads(note)
    facts["imports"] = []
    kept[".json"].write_text(mac + "\n" + json.dumps(facts))


def forge_both(kept: dict[str, Path]) -> None:
    kept[".cwasm"].write_bytes(b"native code")
    facts = json.loads(kept[".json"].read_text().partition("\n")[2])
    facts["code"] = hashlib.sha256(b"native code").hexdigest()
    kept[".json"].write_text("0" * 64 + "\n" + json.dumps(facts))


def open_to_all(kept: dict[str, Path]) -> None:
    kept[".cwasm"].chmod(0o666)


def link_away(kept: dict[str, Path]) -> None:
    kept[".cwasm"].rename(kept[".cwasm"].with_suffix(".moved"))
    kept[".cwasm"].symlink_to(kept[".cwasm"].with_suffix(".moved"))


def truncate(kept: dict[str, Path]) -> None:
    os.truncate(kept[".cwasm"], 100)


def empty_note(kept: dict[str, Path]) -> None:
    kept[".json"].write_text("")


def note_of_other_letters(kept: dict[str, Path]) -> None:
    kept[".json"].write_text("ü" * 64)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_code,
        spoil_note,
        forge_both,
        open_to_all,
        link_away,
        truncate,
        empty_note,
        note_of_other_letters,
    ],
)
async def test_what_was_tampered_with_is_compiled_again(
    tmp_path: Path, compiler: Compiler, spoil: Callable[[dict[str, Path]], None]
) -> None:
    raw = component(READS)
    await get(compiler, raw)
    before = files(tmp_path)[".cwasm"].read_bytes()
    spoil(files(tmp_path))
    compiled = await get(compiler, raw)
    assert compiled.imports == ("freehold:tool/workspace@1.0.0",)
    path = files(tmp_path)[".cwasm"]
    assert path.read_bytes() == before
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_code_of_another_component_is_not_taken_for_its_own(
    tmp_path: Path, compiler: Compiler
) -> None:
    """Both were compiled here; one lies under the name of the other."""
    one, other = component(), component(READS)
    await get(compiler, one)
    for path in files(tmp_path).values():
        path.rename(path.with_name(path.name.replace(sha256(one), sha256(other))))
    assert (await get(compiler, other)).imports == ("freehold:tool/workspace@1.0.0",)


async def test_a_node_that_starts_again_compiles_nothing_anew(
    tmp_path: Path, compiler: Compiler, engine: wasmtime.Engine
) -> None:
    await get(compiler, component())
    before = files(tmp_path)[".cwasm"].stat().st_ino
    await get(Compiler(tmp_path / "cache", engine, Limits()), component())
    assert files(tmp_path)[".cwasm"].stat().st_ino == before


@pytest.mark.parametrize("key", [b"", b"ab" * 31, b"xy" * 32, b"\xff" * 64])
def test_a_key_that_is_none_is_not_used(
    tmp_path: Path, engine: wasmtime.Engine, compiler: Compiler, key: bytes
) -> None:
    """One that is cut off, as by a full disk, could be guessed."""
    (tmp_path / "cache" / "key").write_bytes(key)
    with pytest.raises(SandboxError, match="is not usable"):
        Compiler(tmp_path / "cache", engine, Limits())


async def test_another_nodes_cache_is_not_trusted(
    tmp_path: Path, compiler: Compiler, engine: wasmtime.Engine
) -> None:
    await get(compiler, component())
    (tmp_path / "cache" / "key").unlink()
    before = files(tmp_path)[".cwasm"].stat().st_ino
    await get(Compiler(tmp_path / "cache", engine, Limits()), component())
    assert files(tmp_path)[".cwasm"].stat().st_ino != before


def test_a_folder_that_others_can_use_is_refused(tmp_path: Path, engine: wasmtime.Engine) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(SandboxError, match="no one else"):
        Compiler(folder, engine, Limits())
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SandboxError, match="no one else"):
        Compiler(folder, engine, Limits())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0asm",
        b"(component)",
        bytes(wasmtime.wat2wasm("(module)")),
        b"\0asm\x0d\0\x01\0garbage",
        component()[:-20],
    ],
)
async def test_what_is_no_component_is_refused(compiler: Compiler, raw: bytes) -> None:
    with pytest.raises(ToolError):
        await get(compiler, raw)


@pytest.mark.parametrize(
    "wat",
    [
        "(component)",
        WAT.replace('(export "call") (param "input" string)', '(export "run") (param "in" string)'),
        WAT.replace('(export "describe") (result string)', '(export "about") (result string)'),
        """(component
             (core module $m
               (func (export "f") (result i32) (i32.const 1)))
             (core instance $i (instantiate $m))
             (func $f (result u32) (canon lift (core func $i "f")))
             (export "describe" (func $f)) (export "call" (func $f)))""",
    ],
)
async def test_a_component_must_be_a_tool(compiler: Compiler, tmp_path: Path, wat: str) -> None:
    with pytest.raises(ToolError, match="does not export"):
        await get(compiler, component(wat))
    assert set(files(tmp_path)) == {""}


async def test_more_imports_than_there_are_are_told_as_that(compiler: Compiler) -> None:
    names = (f'(import "evil:pkg/{"x" * 60}{n}" (instance))' for n in range(1000))
    raw = component(WAT.replace("(component", "(component " + "\n".join(names), 1))
    with pytest.raises(ToolError, match="imports 1000 interfaces"):
        await get(compiler, raw)


FEATURES = {
    "memory64": "(memory i64 1)",
    "exceptions": "(tag $t) (func (throw $t))",
    "threads": "(memory 1 1 shared)",
    "gc": "(type (struct (field i32)))",
    "relaxed_simd": """(func (param v128 v128) (result v128)
        (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))""",
    "wide_arithmetic": """(func (param i64 i64) (result i64 i64)
        (i64.add128 (local.get 0) (local.get 1) (local.get 0) (local.get 1)))""",
}


@pytest.mark.parametrize("feature", FEATURES)
async def test_features_that_no_tool_needs_are_off(compiler: Compiler, feature: str) -> None:
    with pytest.raises(ToolError, match="cannot be compiled"):
        await get(compiler, component(f"(component (core module {FEATURES[feature]}))"))


async def test_a_disk_that_takes_no_code_is_told_as_that(
    tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("node.disk.sync", full)
        with pytest.raises(SandboxError, match=r"kept in .*cache: No space left") as told:
            await get(compiler, component())
    assert "free space" in told.value.hint
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key"]
    await get(compiler, component())
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(SandboxError, match=r"kept in .*cache: No such file") as told:
        await get(compiler, component())
    assert not isinstance(told.value, ToolError)


async def test_compiling_has_a_time(tmp_path: Path, engine: wasmtime.Engine) -> None:
    before = psutil.Process().children()
    compiler = Compiler(tmp_path / "cache", engine, Limits(compile_seconds=0.01))
    with pytest.raises(ToolLimitError, match=r"compile_seconds = 0\.01"):
        await get(compiler, component())
    assert psutil.Process().children() == before
    assert set(files(tmp_path)) == {""}


def test_compiling_has_its_time_on_every_processor() -> None:
    """Else it ends long before, and is told as one that took too much memory."""
    code = """if True:
        import os, resource
        from node.sandbox.compile_worker import _limit
        from node.sandbox.limits import Limits
        before = resource.getrlimit(resource.RLIMIT_CPU)
        _limit(Limits(compile_seconds=100))
        assert resource.getrlimit(resource.RLIMIT_CPU) == before
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        assert os.nice(0) > 0"""
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_compiling_has_a_memory(tmp_path: Path, engine: wasmtime.Engine) -> None:
    body = "(local.get 0) " + "(i32.add (i32.const 1)) (i32.mul (local.get 0)) " * 20_000
    big = f"(component (core module (func (param i32) (result i32) {body})))"
    limits = Limits(compile_memory_bytes=48 * 1024 * 1024)
    compiler = Compiler(tmp_path / "cache", engine, limits)
    with pytest.raises(ToolLimitError, match="compile_memory_bytes = 50331648"):
        await get(compiler, component(big))


@settings(
    max_examples=int(os.environ.get("FREEHOLD_FUZZ_COMPONENTS", "12")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_damaged_component_is_refused_or_compiled(
    compiler: Compiler, data: st.DataObject
) -> None:
    raw = bytearray(component())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(8, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        assert asyncio.run(get(compiler, bytes(raw))).imports == ()
    except (ToolError, ToolLimitError):
        return


def code_of(folder: Path, raw: bytes) -> Path:
    return next(folder.glob(f"{sha256(raw)}*.cwasm"))


async def room_for_two(folder: Path, engine: wasmtime.Engine) -> tuple[Compiler, list[bytes]]:
    """A compiler with room for two of three components, which holds the first two."""
    raw = [component(component_wat(f"(drop (i32.const {i})) unreachable")) for i in range(3)]
    await get(Compiler(folder, engine, Limits()), raw[0])
    size = code_of(folder, raw[0]).stat().st_size
    compiler = Compiler(folder, engine, Limits(compiled_bytes=2 * size + size // 2))
    await get(compiler, raw[1])
    for age, each in zip((30, 20), raw, strict=False):
        os.utime(code_of(folder, each), (time.time() - age,) * 2)
    return compiler, raw


def held(compiler: Compiler, raw: list[bytes]) -> list[bool]:
    return [compiler.holds(sha256(each)) for each in raw]


async def test_what_was_used_longest_ago_makes_room(
    tmp_path: Path, engine: wasmtime.Engine
) -> None:
    compiler, raw = await room_for_two(tmp_path / "cache", engine)
    assert held(compiler, raw) == [True, True, False]
    await get(compiler, raw[2])
    assert held(compiler, raw) == [False, True, True]
    assert len(list((tmp_path / "cache").glob("*.json"))) == 2


async def test_being_loaded_is_being_used(tmp_path: Path, engine: wasmtime.Engine) -> None:
    compiler, raw = await room_for_two(tmp_path / "cache", engine)
    await get(compiler, raw[0])
    await get(compiler, raw[2])
    assert held(compiler, raw) == [True, False, True]


async def test_what_was_just_compiled_stays_and_abandoned_files_go(
    tmp_path: Path, engine: wasmtime.Engine
) -> None:
    compiler = Compiler(tmp_path / "cache", engine, Limits(compiled_bytes=1))
    old, new = tmp_path / "cache" / "x.1.tmp", tmp_path / "cache" / "x.2.tmp"
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    assert await get(compiler, component())
    assert held(compiler, [component()]) == [True]
    assert (old.exists(), new.exists()) == (False, True)
