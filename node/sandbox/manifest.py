"""`tool.toml`, read strictly: an unknown key is an error, and every error names file and key.

A tool whose component is built where it is used (it is too large to be kept beside its source, and
no two builds are the same) has no `sha256` there; the build pins it in `tool.sha256` beside it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from node.errors import ToolError
from node.sandbox.types import Capability, Example, Function, ToolManifest
from node.schemas import checker
from node.types import Json, JsonObject, canonical

MANIFEST = "tool.toml"
PIN = "tool.sha256"
_MANIFEST_BYTES = 256 * 1024
_MOST_DEEP = 64
_LONGEST = 300
_NAME = r"[a-z][a-z0-9_]{0,31}"
_SHA256 = r"[0-9a-f]{64}"
_Name = Annotated[str, StringConstraints(pattern=rf"^{_NAME}$")]
_FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
_Line = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Function(_Strict):
    name: _FunctionName
    description: _Line
    parameters: dict[str, Any]
    read_only: bool = False
    idempotent: bool = False


class _Example(_Strict):
    function: _FunctionName
    arguments: dict[str, Any] = {}
    files: dict[str, str] = {}
    result: Any = None
    error: str | None = None


class _Tool(_Strict):
    name: _Name
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    about: _Line
    language: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    capabilities: list[Capability] = []
    sha256: Annotated[str, StringConstraints(pattern=rf"^({_SHA256})?$")] = ""
    component: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+\.wasm$")] = "tool.wasm"
    functions: Annotated[list[_Function], Field(min_length=1, max_length=64)]
    examples: Annotated[list[_Example], Field(max_length=256)] = []


def is_tool_name(name: str) -> bool:
    """Whether a tool may have that name: lower case, digits and `_`, 32 characters at most."""
    return re.fullmatch(_NAME, name) is not None


def read_manifest(folder: Path) -> ToolManifest:
    """Parses `folder/tool.toml`.

    Raises:
        ToolError: it is missing, not TOML, or not a tool's manifest.
    """
    path = folder / MANIFEST
    manifest = parse_manifest(_read(path), path)
    pin = folder / PIN
    if manifest.sha256 or not pin.exists():
        return manifest
    digest = _read(pin).decode(errors="replace").strip()
    if re.fullmatch(_SHA256, digest) is None:
        raise ToolError(f"{pin} is not a SHA-256 in hex", hint="Build the tool anew.")
    return replace(manifest, sha256=digest)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}") from error
    if len(text) > _MANIFEST_BYTES:
        raise ToolError(f"{path} is larger than {_MANIFEST_BYTES} bytes")
    return text


@lru_cache(maxsize=2048)  # each run that starts looks at all agents, and so at all their tools
def parse_manifest(text: bytes, path: Path) -> ToolManifest:
    """Parses the bytes of a `tool.toml` found at `path`. Raises ToolError."""
    try:
        tool = _Tool.model_validate(tomllib.loads(text.decode()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ToolError(
            f"{path}: {where}: {first['msg']}",
            hint="See docs/tools.md for the keys of a tool.toml.",
        ) from None
    except (ValueError, RecursionError) as error:
        raise ToolError(f"{path} is not TOML: {error}") from None
    functions = tuple(_function(path, each) for each in tool.functions)
    names = [function.name for function in functions]
    if len(set(names)) != len(names):
        raise ToolError(f"{path}: functions: two of them have the same name")
    return ToolManifest(
        name=tool.name,
        version=tool.version,
        about=tool.about,
        language=tool.language,
        capabilities=frozenset(tool.capabilities),
        sha256=tool.sha256,
        functions=functions,
        folder=path.parent,
        component=tool.component,
        examples=tuple(_example(path, example, names) for example in tool.examples),
    )


def _example(path: Path, example: _Example, names: list[str]) -> Example:
    where = f"{path}: examples: {example.function}"
    if example.function not in names:
        raise ToolError(f"{where}: there is no such function")
    if ("result" in example.model_fields_set) == (example.error is not None):
        raise ToolError(f"{where}: it takes either result or error")
    for value in (example.arguments, example.result):
        _check_json(where, value)
    return Example(
        function=example.function,
        arguments=example.arguments,
        files=example.files,
        result=example.result,
        error=example.error,
    )


def _function(path: Path, function: _Function) -> Function:
    schema: JsonObject = function.parameters
    where = f"{path}: functions.{function.name}.parameters"
    _check_json(where, schema)
    try:
        checker(schema)
    except ValueError as error:
        raise ToolError(f"{where}: {str(error)[:_LONGEST]}") from None
    if schema.get("type") != "object":
        raise ToolError(f"{where}: type must be object")
    return Function(
        name=function.name,
        description=function.description,
        parameters=schema,
        read_only=function.read_only,
        idempotent=function.idempotent,
    )


def _check_json(where: str, value: Any) -> None:
    """TOML has what JSON has not: times, dates, NaN and infinities."""
    level: list[Json] = [value]
    for _ in range(_MOST_DEEP):
        level = [part for each in level for part in _parts(each)]
    if level:
        raise ToolError(f"{where}: it is nested over {_MOST_DEEP} deep")
    try:
        canonical(value)
    except ValueError as error:
        raise ToolError(f"{where}: a value that is not JSON: {error}") from None


def _parts(value: Json) -> Iterable[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def all_capabilities() -> tuple[Capability, ...]:
    """All capabilities there are."""
    return get_args(Capability)
