"""Reads `agents/NAME.toml` into an `AgentManifest`, strictly.

The file is an edge, so pydantic checks it; everything behind it sees the frozen dataclass. A key
nobody knows is an error with the nearest key that exists, because a misspelt `aproval = "ask"`
that is ignored is a hole. Sections of the format whose feature is not in this version are refused
by name rather than accepted in silence.
"""

from __future__ import annotations

import hashlib
import tomllib
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from node.errors import ManifestError
from node.runs.agent import AgentManifest, BudgetLimits, GuardNames, PaymentGrant, ToolGrant
from node.runs.manifest_schema import UNSUPPORTED, ManifestModel, ToolModel

MAX_BYTES = 256 * 1024
_MOST_ERRORS_SHOWN = 5


def read_manifest(path: Path) -> AgentManifest:
    """The agent that a file describes.

    Raises:
        ManifestError: the file cannot be read or is not what it must be; says file, key and what
            is allowed.
    """
    content = _read(path, path)
    return parse_manifest(content, path)


def parse_manifest(content: bytes, path: Path) -> AgentManifest:
    """The agent that `content` describes; `path` names it and places `instructions_file`.

    The digest is SHA-256 of the bytes, followed by those of the instructions file if there is one.

    Raises:
        ManifestError: as `read_manifest`.
    """
    model = _model(content, path)
    if model.name != path.stem:
        raise ManifestError(
            f"{path}: name is {model.name!r} but the file is {path.name!r}",
            hint=f"Set name = {path.stem!r} or rename the file to {model.name}.toml.",
        )
    instructions, seen = _instructions(model, content, path)
    return _manifest(model, instructions, hashlib.sha256(seen).hexdigest(), path)


@lru_cache(maxsize=8192)  # each run that starts looks at all agents again, in the same order
def _model(content: bytes, path: Path) -> ManifestModel:
    table = _table(content, path)
    for key in UNSUPPORTED:
        if key in table:
            raise ManifestError(
                f"{path}: [{key}] is not supported yet in this version",
                hint=f"Remove the [{key}] section; {UNSUPPORTED[key]} come in a later version.",
            )
    try:
        return ManifestModel.model_validate(table, strict=True)
    except ValidationError as error:
        raise _explain(error, path) from error


def _manifest(model: ManifestModel, text: str, digest: str, path: Path) -> AgentManifest:
    names = ("about", "model", "owner", "paused", "temperature", "max_tokens")
    return AgentManifest(
        name=model.name,
        instructions=text,
        budget=BudgetLimits(**model.budget.model_dump()),
        tools=tuple(_grant(tool) for tool in model.tools),
        payments=PaymentGrant(
            allow=tuple(model.payments.allow),
            approval_over_sats=model.payments.approval_over_sats,
        ),
        guards=GuardNames(**{k: tuple(v) for k, v in model.guards.model_dump().items()}),
        foreign=tuple(model.foreign),
        private=tuple(model.private),
        send_to=tuple(model.send_to),
        digest=digest,
        source=path,
        **{name: getattr(model, name) for name in names},
    )


def _grant(tool: ToolModel) -> ToolGrant:
    grant = tool.grant
    return ToolGrant(
        name=tool.name,
        workspace=grant.workspace,
        http=tuple(grant.http),
        pay=tuple(grant.pay),
        store=grant.store,
        clock=grant.clock,
        random=grant.random,
        approval=tool.approval,
        functions=None if tool.functions is None else tuple(tool.functions),
    )


def _read(file: Path, manifest: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(
            f"{manifest}: cannot read {file.name}: {error.strerror}",
            hint="Check that the file exists and that you may read it.",
        ) from error
    if len(content) > MAX_BYTES:
        raise ManifestError(
            f"{manifest}: {file.name} is larger than {MAX_BYTES} bytes",
            hint="Instructions belong in a few lines; put documents into the workspace.",
        )
    return content


def _text(content: bytes, file: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{file}: not UTF-8 at byte {error.start}", hint="Save the file as UTF-8."
        ) from error


def _table(content: bytes, path: Path) -> dict[str, Any]:
    text = _text(content, path)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ManifestError(
            f"{path}: not TOML: {error}",
            hint="Strings need quotes; a table starts with [name], a list of tables with [[name]].",
        ) from error


def _instructions(model: ManifestModel, content: bytes, path: Path) -> tuple[str, bytes]:
    """The instructions' text, and all bytes that the digest is taken over."""
    if model.instructions_file is None:
        return model.instructions or "", content
    folder = path.parent.resolve()
    try:
        file = (folder / model.instructions_file).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise ManifestError(
            f"{path}: instructions_file is not a usable path: {error}",
            hint="Name a text file in the agents folder.",
        ) from error
    if not file.is_relative_to(folder):
        raise ManifestError(
            f"{path}: instructions_file leaves the agents folder",
            hint=f"Put the file below {folder} and name it relative to that folder.",
        )
    found = _read(file, path)
    return _text(found, file).strip(), content + found


# ── errors ──────────────────────────────────────────────────────────────────────────────────


def _explain(error: ValidationError, path: Path) -> ManifestError:
    found = error.errors(include_url=False, include_context=True)
    lines = [_line(detail) for detail in found[:_MOST_ERRORS_SHOWN]]
    if len(found) > _MOST_ERRORS_SHOWN:
        lines.append(f"and {len(found) - _MOST_ERRORS_SHOWN} more")
    return ManifestError(
        f"{path}: " + "; ".join(lines),
        hint="docs/agents.md lists every key; `freehold agent new NAME` writes a valid file.",
    )


def _line(detail: ErrorDetails) -> str:
    where = _where(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return _unknown_key(where, detail["loc"])
    if detail["type"] == "missing":
        return f"{where} is missing"
    said = detail["msg"].removeprefix("Value error, ")
    message = said.removeprefix("Input should be ")
    if message == said:  # a sentence, and not what it should be
        return f"{where}: {message}" if where else message
    return f"{where} must be {message}, not {_shown(detail['input'])[:80]}"


def _shown(given: object) -> str:
    is_plain = isinstance(given, str | float | bool)
    if isinstance(given, int):  # Python tells no more than 4,300 digits, and 0xff... may have more
        is_plain = given.bit_length() < 256
    return repr(given) if is_plain else type(given).__name__


def _where(loc: tuple[int | str, ...]) -> str:
    """`tools[1].grant.http` for `("tools", 1, "grant", "http")`."""
    text = ""
    for part in loc:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _unknown_key(where: str, loc: tuple[int | str, ...]) -> str:
    allowed = sorted(_model_at(loc[:-1]).model_fields)
    near = get_close_matches(str(loc[-1]), allowed, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    return f"unknown key {where}{guess} (allowed: {', '.join(allowed)})"


def _model_at(loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The pydantic model whose keys stand at `loc`."""
    model: type[BaseModel] = ManifestModel
    for part in loc:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        annotation = model.model_fields[part].annotation
        for kind in (annotation, *get_args(annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model
