"""Doubles and small real components for tests; nothing in the node imports this.

`MemorySandbox` has the interface of `Sandbox` with Python functions in place of components.
`write_tool` makes a real tool out of WebAssembly text, for which no toolchain is needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import wasmtime

from node.errors import FreeholdError, ToolError
from node.sandbox.linking import check_grant
from node.sandbox.manifest import MANIFEST, read_manifest
from node.sandbox.types import Capability, Function, Grant, Ticket, ToolManifest, ToolResult
from node.types import Json, JsonObject

PythonFunction = Callable[[JsonObject, Grant], Awaitable[Json]]


@dataclass
class FunctionTool:
    """A tool whose functions are Python coroutines; `calls` counts them by name."""

    name: str
    functions: dict[str, PythonFunction]
    parameters: dict[str, JsonObject] = field(default_factory=dict)
    capabilities: frozenset[Capability] = frozenset()
    read_only: bool = False
    idempotent: bool = False
    calls: Counter[str] = field(default_factory=Counter)

    def manifest(self) -> ToolManifest:
        """The manifest such a tool would have."""
        functions = tuple(self._function(name) for name in self.functions)
        sha256 = hashlib.sha256(self.name.encode()).hexdigest()
        return ToolManifest(
            name=self.name,
            version="1.0.0",
            about=f"The double {self.name}",
            language="python",
            capabilities=self.capabilities,
            sha256=sha256,
            functions=functions,
            folder=Path(),
        )

    def _function(self, name: str) -> Function:
        anything: JsonObject = {"type": "object"}
        return Function(
            name=name,
            description=f"The double {name}",
            parameters=self.parameters.get(name, anything),
            read_only=self.read_only,
            idempotent=self.idempotent,
        )


@dataclass
class MemoryPayer:
    """Pays every price with the next token, unless told to refuse; keeps what it was asked."""

    refuse: FreeholdError | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    async def pay(self, url: str, request: str) -> Ticket:
        self.asked.append((url, request))
        if self.refuse is not None:
            raise self.refuse
        return Ticket(f"cashuBtoken{len(self.asked)}", self.answers.append)


class MemorySandbox:
    """`Sandbox` over `FunctionTool`s. A function fails as a tool does by raising ToolError."""

    def __init__(self, tools: Iterable[FunctionTool]) -> None:
        self.tools = {tool.name: tool for tool in tools}

    async def call(
        self, manifest: ToolManifest, function: str, arguments: JsonObject, grant: Grant
    ) -> ToolResult:
        """Runs the Python function. Raises CapabilityError and ToolError as `Sandbox` does."""
        manifest.function(function)
        tool = self.tools[manifest.name]
        check_grant(tool.name, tool.capabilities, grant)
        tool.calls[function] += 1
        try:
            value = await tool.functions[function](arguments, grant)
        except ToolError as error:
            return ToolResult(ok=False, value={"error": error.message}, seconds=0.0)
        return ToolResult(ok=True, value=value, seconds=0.0)

    async def prepare(self, manifest: ToolManifest) -> frozenset[Capability]:
        """The capabilities the tool wants."""
        return self.tools[manifest.name].capabilities

    async def aclose(self) -> None:
        """Nothing to close."""


_TEXT_RESULT = "(result (result string (error string)))"
_INTERFACES = {
    "workspace": {
        "list": f'(param "path" string) {_TEXT_RESULT}',
        "read": f'(param "path" string) {_TEXT_RESULT}',
        "write": '(param "path" string) (param "content" string) '
        "(result (result u64 (error string)))",
        "remove": f'(param "path" string) {_TEXT_RESULT}',
    },
    "http": {"fetch": f'(param "request" string) {_TEXT_RESULT}'},
    "knowledge": {"search": f'(param "query" string) (param "limit" u32) {_TEXT_RESULT}'},
    "store": {
        "get": '(param "key" string) (result (result (option string) (error string)))',
        "set": f'(param "key" string) (param "value" string) {_TEXT_RESULT}',
        "delete": f'(param "key" string) {_TEXT_RESULT}',
        "keys": _TEXT_RESULT,
    },
    "clock": {"now": "(result u64)"},
    "random": {"bits": "(result u64)"},
}

# The core module sees its input's last JSON string as $text, $size; $quote makes JSON of text.
_MAIN = """
  (core module $libc
    (memory (export "memory") {pages})
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32) (local $end i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (local.set $end (i32.add (local.get $at) (local.get 3)))
      (global.set $next (local.get $end))
      (block $fits
        (br_if $fits (i32.le_u (local.get $end) (i32.shl (memory.size) (i32.const 16))))
        (br_if $fits (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1)
          (i32.shr_u (i32.sub (local.get $end) (i32.shl (memory.size) (i32.const 16)))
            (i32.const 16))))))
        unreachable)
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  {lowers}
  (core module $main
    (import "libc" "memory" (memory 0))
    (import "libc" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    {core_imports}
    {declarations}
    (func $answer (param $failed i32) (param $at i32) (param $size i32) (result i32)
      (i32.store8 (i32.const 16) (local.get $failed))
      (i32.store (i32.const 20) (local.get $at))
      (i32.store (i32.const 24) (local.get $size))
      (i32.const 16))
    (func $quote (param $result i32) (result i32)
      (local $at i32) (local $size i32)
      (if (i32.load8_u (local.get $result)) (then (return (local.get $result))))
      (local.set $size (i32.load offset=8 (local.get $result)))
      (local.set $at (call $realloc (i32.const 0) (i32.const 0) (i32.const 1)
        (i32.add (local.get $size) (i32.const 2))))
      (i32.store8 (local.get $at) (i32.const 34))
      (memory.copy (i32.add (local.get $at) (i32.const 1))
        (i32.load offset=4 (local.get $result)) (local.get $size))
      (i32.store8 (i32.add (local.get $at) (i32.add (local.get $size) (i32.const 1)))
        (i32.const 34))
      (call $answer (i32.const 0) (local.get $at) (i32.add (local.get $size) (i32.const 2))))
    (data (i32.const 1024) "{describe}")
    (func (export "describe") (result i32)
      (i32.store (i32.const 16) (i32.const 1024))
      (i32.store (i32.const 20) (i32.const {describe_size}))
      (i32.const 16))
    (func $body (param $text i32) (param $size i32) (result i32)
      {body})
    (func (export "call") (param $at i32) (param $size i32) (result i32)
      (local $start i32) (local $end i32)
      (local.set $end (i32.sub (i32.add (local.get $at) (local.get $size)) (i32.const 3)))
      (local.set $start (local.get $end))
      (block $found (loop $back
        (br_if $found (i32.le_u (local.get $start) (local.get $at)))
        (br_if $found (i32.eq (i32.const 34)
          (i32.load8_u (i32.sub (local.get $start) (i32.const 1)))))
        (local.set $start (i32.sub (local.get $start) (i32.const 1)))
        (br $back)))
      (call $body (local.get $start) (i32.sub (local.get $end) (local.get $start)))))
  (core instance $main (instantiate $main (with "libc" (instance $libc)) {hosts}))
  (func (export "describe") (result string)
    (canon lift (core func $main "describe") (memory (core memory $libc "memory"))))
  (func (export "call") (param "input" string) (result (result string (error string)))
    (canon lift (core func $main "call") (memory (core memory $libc "memory"))
      (realloc (core func $libc "realloc"))))
"""
_CANON = '(memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))'


def component_wat(
    body: str, *, imports: Iterable[str] = (), declarations: str = "", pages: int = 2
) -> str:
    """The text of a component whose `call` is `body`.

    Args:
        body: core WebAssembly with `$text` and `$size`, the last JSON string of the input; leaves
            the address of a `result<string, string>`, as `$answer` and `$quote` do.
        imports: host functions as `interface.function`, which the body calls as
            `$interface.function`.
        declarations: more of the core module: functions, globals, tables.
        pages: of 64 KiB, the memory starts with.
    """
    names = tuple(imports)
    instances = tuple(dict.fromkeys(name.split(".")[0] for name in names))
    described = json.dumps({"name": "tool"}).replace('"', "\\22")
    main = _MAIN
    for key, value in {
        "pages": str(pages),
        "lowers": "\n  ".join(_lower(name) for name in names),
        "core_imports": "\n    ".join(_core_import(name) for name in names),
        "declarations": declarations,
        "describe_size": str(len(described.replace("\\22", '"'))),
        "describe": described,
        "body": body,
        "hosts": " ".join(_host(each, names) for each in instances),
    }.items():
        main = main.replace("{" + key + "}", value)
    return "(component\n" + "\n".join(_import(each) for each in instances) + main + ")"


def _import(interface: str) -> str:
    functions = " ".join(
        f'(export "{name}" (func {kind}))' for name, kind in _INTERFACES[interface].items()
    )
    return f'  (import "freehold:tool/{interface}@1.0.0" (instance ${interface} {functions}))'


def _lower(name: str) -> str:
    interface, function = name.split(".")
    return f'(core func ${name} (canon lower (func ${interface} "{function}") {_CANON}))'


def _core_import(name: str) -> str:
    interface, function = name.split(".")
    kind = _INTERFACES[interface][function]
    params = 2 * len(re.findall(r'" string\)', kind)) + len(re.findall(r'" u32\)', kind))
    if "error" not in kind:
        return f'(import "{interface}" "{function}" (func ${name} (result i64)))'
    slots = "i32 " * (params + 1)
    return f'(import "{interface}" "{function}" (func ${name} (param {slots})))'


def _host(interface: str, names: Iterable[str]) -> str:
    functions = [name for name in names if name.startswith(interface + ".")]
    exports = " ".join(f'(export "{name.split(".")[1]}" (func ${name}))' for name in functions)
    return f'(with "{interface}" (instance {exports}))'


def write_tool(
    folder: Path, wat: str, *, name: str = "tool", wants: Iterable[Capability] = ()
) -> ToolManifest:
    """Writes a tool of one function, `tool`, into `folder/name`; answers its manifest."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    component = bytes(wasmtime.wat2wasm(wat))
    (target / "tool.wasm").write_bytes(component)
    (target / MANIFEST).write_text(
        f'name = "{name}"\nversion = "1.0.0"\nabout = "A tool of a test"\nlanguage = "wat"\n'
        f"capabilities = {json.dumps(sorted(wants))}\n"
        f'sha256 = "{hashlib.sha256(component).hexdigest()}"\n'
        f'[[functions]]\nname = "{name}"\ndescription = "Does it"\n'
        'parameters = {type = "object"}\n'
    )
    return read_manifest(target)
