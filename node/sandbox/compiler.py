"""Compiled components, kept by what they were compiled from.

Compiled code is native code: whoever can put a file into the cache can run anything as this user.
So the folder is 0700, files are ours, 0600 and regular, and beside each lies a note with the
SHA-256 of the code and what the component imports, under an HMAC whose key lies in the folder. A
file that fails any of it is compiled again, never loaded. Compiling happens in a process of its own
(`compile_worker`) with a time and a memory limit. The folder is kept within a size (`pruning`).
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import hmac
import json
import os
import secrets
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import component as wc

from node.disk import write_private
from node.errors import SandboxError, ToolError, ToolLimitError
from node.sandbox.abi import check
from node.sandbox.compile_worker import REFUSED, UNWRITTEN
from node.sandbox.engine import fingerprint
from node.sandbox.limits import Limits
from node.sandbox.pruning import CODE, NOTE, UNFINISHED, prune, touch
from node.sandbox.traps import static_limit
from node.version import ANEW, replaced

_MAGIC = b"\0asm\x0d\0\x01\0"
_ROOT = Path(__file__).resolve().parents[2]
_KEY_BYTES = 32
_AT_ONCE = 2
_NOTE_BYTES = 64 * 1024
_IMPORTS_BYTES = _NOTE_BYTES // 2


@dataclass(frozen=True)
class Compiled:
    """A component ready to be linked; `imports` names the interfaces it wants."""

    component: wc.Component
    imports: tuple[str, ...]


class Compiler:
    """Compiles components for one engine and keeps the result in `folder`."""

    def __init__(self, folder: Path, engine: wasmtime.Engine, limits: Limits) -> None:
        self._folder, self._engine, self._limits = folder, engine, limits
        self._fingerprint = fingerprint(limits)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_open_folder(folder)
        self._key = _load_key(folder / "key")
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def get(self, sha256: str, component: bytes) -> Compiled:
        """The compiled form of `component`, whose digest the caller has checked.

        Raises:
            ToolError: it is not a component, or not one that exports `describe` and `call`.
            ToolLimitError: it took more time or memory to compile than it may.
        """
        cached = await asyncio.to_thread(self._load, sha256)
        if cached is None:
            async with self._turns:
                await self._compile(sha256, component)
            cached = await asyncio.to_thread(self._load, sha256)
        if cached is None:
            raise self._unkept("it cannot be read again")
        return cached

    def holds(self, sha256: str) -> bool:
        """Whether code for that component lies in the folder; only `get` can tell if it is good."""
        return self._path(sha256, CODE).exists()

    def _path(self, sha256: str, suffix: str) -> Path:
        return self._folder / f"{sha256}-{self._fingerprint}{suffix}"

    def _mac(self, note: bytes) -> bytes:
        return hmac.new(self._key, note, hashlib.sha256).hexdigest().encode()

    def _load(self, sha256: str) -> Compiled | None:
        try:
            note_fd = _open_own(self._path(sha256, NOTE))
            with os.fdopen(note_fd, "rb") as note_file:
                mac, _, note = note_file.read(_NOTE_BYTES).partition(b"\n")
            if not hmac.compare_digest(mac, self._mac(note)):
                return None
            touch(self._path(sha256, CODE))
            return self._deserialize(sha256, json.loads(note))
        except (OSError, ValueError, KeyError, wasmtime.WasmtimeError):
            return None

    def _deserialize(self, sha256: str, facts: dict[str, Any]) -> Compiled | None:
        # A copy, not a mapping of the file: a mapped file that is truncated later is a SIGBUS.
        with os.fdopen(_open_own(self._path(sha256, CODE)), "rb") as file:
            code = file.read()
        if facts["component"] != sha256 or facts["code"] != hashlib.sha256(code).hexdigest():
            return None
        return Compiled(_deserialize(self._engine, code), tuple(facts["imports"]))

    async def _compile(self, sha256: str, component: bytes) -> None:
        if not component.startswith(_MAGIC):
            raise ToolError("the file is not a WebAssembly component", hint="Build it anew.")
        code = self._path(sha256, f".{secrets.token_hex(4)}{UNFINISHED}")
        try:
            report = await self._run_worker(code, component)
            _check_exports(report["exports"])
            _check_imports(report["imports"])
            await asyncio.to_thread(self._keep, sha256, code, report["imports"])
        finally:
            code.unlink(missing_ok=True)

    async def _run_worker(self, code: Path, component: bytes) -> dict[str, Any]:
        process = await self._start_worker(code)
        try:
            async with asyncio.timeout(self._limits.compile_seconds):
                out, err = await process.communicate(component)
        except TimeoutError:
            raise ToolLimitError(
                f"compiling took longer than compile_seconds = {self._limits.compile_seconds:g}",
                hint="Make the component smaller.",
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return self._read_report(process.returncode, out, err)

    async def _start_worker(self, code: Path) -> asyncio.subprocess.Process:
        if other := replaced():
            raise SandboxError(other, hint=ANEW)
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "node.sandbox.compile_worker",
                str(code), json.dumps(asdict(self._limits)),
                cwd="/", env={"PYTHONPATH": str(_ROOT)},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except (OSError, RuntimeError) as error:  # the latter: no thread that would wait for it
            raise SandboxError(
                f"no process can be started to compile a tool: {error}",
                hint="Look at memory, and at the limits on open files and processes (`ulimit -a`).",
            ) from error

    def _read_report(self, status: int | None, out: bytes, err: bytes) -> dict[str, Any]:
        if status == 0:
            report: dict[str, Any] = json.loads(out)
            return report
        reason = err.decode(errors="replace").strip()[-500:] or f"the compiler ended with {status}"
        if status == UNWRITTEN:
            raise self._unkept(reason)
        limit = static_limit(reason) if status == REFUSED else "compile_memory_bytes"
        if limit is None:
            raise ToolError(f"the component cannot be compiled: {reason}", hint="Build it anew.")
        value = getattr(self._limits, limit)
        raise ToolLimitError(
            f"the component goes over {limit} = {value}: {reason}",
            hint="Make the component smaller.",
        )

    def _keep(self, sha256: str, code: Path, imports: object) -> None:
        try:
            with code.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            note = json.dumps({"component": sha256, "code": digest, "imports": imports}).encode()
            code.chmod(0o600)
            write_private(self._path(sha256, NOTE), self._mac(note) + b"\n" + note)
            kept = code.rename(self._path(sha256, CODE))
            prune(self._folder, self._limits.compiled_bytes, keep=kept)
        except OSError as error:
            raise self._unkept(str(error.strerror)) from error

    def _unkept(self, why: str) -> SandboxError:
        return SandboxError(
            f"compiled code cannot be kept in {self._folder}: {why}",
            hint="Check the folder's owner, mode and free space.",
        )


def _deserialize(engine: wasmtime.Engine, code: bytes) -> wc.Component:
    """As `Component.deserialize`, which would copy the code twice. Raises WasmtimeError."""
    pointer = ctypes.POINTER(ffi.wasmtime_component_t)()
    source = ctypes.cast(ctypes.c_char_p(code), ctypes.POINTER(ctypes.c_uint8))
    check(
        ffi.wasmtime_component_deserialize(engine.ptr(), source, len(code), ctypes.byref(pointer))
    )
    return wc.Component._from_ptr(pointer)


def _check_exports(exports: dict[str, str]) -> None:
    wanted = {
        "describe": "func() -> string",
        "call": "func(string) -> result<string, string>",
    }
    for name, signature in wanted.items():
        if exports.get(name) != signature:
            raise ToolError(
                f"the component does not export {name}: {signature}",
                hint="Build it for the world `tool` of wasm_tools/tool.wit.",
            )


def _check_imports(names: list[str]) -> None:
    if len(json.dumps(names)) > _IMPORTS_BYTES:
        raise ToolError(
            f"the component imports {len(names)} interfaces, more than there are",
            hint="Build it for the world `tool` of wasm_tools/tool.wit.",
        )


def _refuse_open_folder(folder: Path) -> None:
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise SandboxError(
            f"{folder} must be a folder of this user that no one else can use",
            hint=f"chmod 700 {folder}, after checking what is in it.",
        )


def _open_own(path: Path) -> int:
    """Opens a regular file of ours that no one else can write. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    facts = os.fstat(fd)
    if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077:
        return fd
    os.close(fd)
    raise PermissionError(f"{path} is not a private file of this user")


def _load_key(path: Path) -> bytes:
    if not path.exists():
        write_private(path, secrets.token_hex(_KEY_BYTES).encode())
    try:
        with os.fdopen(_open_own(path)) as file:
            key = bytes.fromhex(file.read())
        if len(key) != _KEY_BYTES:
            raise ValueError("it has another length")
    except (OSError, ValueError) as error:
        raise SandboxError(
            f"the key of the compiled code, {path}, is not usable: {error}",
            hint=f"Remove {path.parent}; it is made again.",
        ) from error
    return key
