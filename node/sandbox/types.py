"""What the sandbox room's users see: tools, grants and results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from node.errors import ToolError
from node.types import Json, JsonObject

Capability = Literal["workspace", "http", "knowledge", "store", "clock", "random"]


@dataclass(frozen=True)
class Function:
    """One function of a tool, as `tool.toml` and the component's `describe` both state it."""

    name: str
    description: str
    parameters: JsonObject
    read_only: bool = False
    idempotent: bool = False


@dataclass(frozen=True)
class Example:
    """A call whose outcome its author states; `freehold tool test` makes it and compares.

    `files` are put into the empty workspace it is granted. `error` is a part of the words it
    fails with; where it is None the call answers `result`.
    """

    function: str
    arguments: JsonObject
    files: Mapping[str, str] = field(default_factory=dict)
    result: Json = None
    error: str | None = None


@dataclass(frozen=True)
class ToolManifest:
    """A parsed `tool.toml`. `sha256` is of the component; `folder` holds both.

    `is_shipped` says that the tool store found it among the tools that came with the node.
    """

    name: str
    version: str
    about: str
    language: str
    capabilities: frozenset[Capability]
    sha256: str
    functions: tuple[Function, ...]
    folder: Path
    component: str = "tool.wasm"
    examples: tuple[Example, ...] = ()
    is_shipped: bool = field(default=False, compare=False)

    def function(self, name: str) -> Function:
        """The function of that name. Raises ToolError if there is none."""
        for function in self.functions:
            if function.name == name:
                return function
        raise ToolError(
            f"tool {self.name} has no function {name}",
            hint="Its functions: " + ", ".join(f.name for f in self.functions),
        )


@dataclass(frozen=True)
class WorkspaceGrant:
    """Files below `root` (absolute), read-only or read-write.

    `before_write` is told the path of a file that is about to be replaced, or of what is about to
    be removed, and the origins of what the call has read so far; on a thread of the sandbox. If it
    raises OSError nothing is written.
    `after_write` is told the same once it has been replaced.
    `marks` are those of a file that is read, as they were with what was read; each comes as
    `mark:MARK` among the origins.
    """

    root: Path
    mode: Literal["ro", "rw"] = "ro"
    before_write: Callable[[str, tuple[str, ...]], None] | None = field(
        default=None, compare=False, repr=False
    )
    after_write: Callable[[str, tuple[str, ...]], None] | None = field(
        default=None, compare=False, repr=False
    )
    marks: Callable[[str], Iterable[str]] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Ticket:
    """A token that pays for one answer. `answered` is told that answer's status, 0 for none."""

    token: str = field(repr=False)
    answered: Callable[[int], None] = field(default=lambda _status: None, repr=False)


class Payer(Protocol):
    """Pays for an answer that a server sells. `testing.MemoryPayer` is the double."""

    async def pay(self, url: str, request: str) -> Ticket:
        """What to send in `X-Cashu` for `request`, the price that `url` named there (NUT-24).

        Raises:
            FreeholdError: it is not paid; the guest is told the message.
        """
        ...


@dataclass(frozen=True)
class Grant:
    """What one agent lets one tool do. A capability that is not here is not linked.

    `http` is an allow-list of URL patterns: scheme and host exact (or `*.example.org`), path a
    prefix ending in `*` or exact. `secrets` maps a pattern to headers the host adds.
    `knowledge` answers a search; `store` is the folder of the agent's key-value file.
    `store_marks` is told the origins of what a call has read so far and answers the marks that a
    value it stores gets; who reads the value gets `store:MARK` among its origins.
    `read_only` holds a function to its word: files and values can be read and not changed, and
    servers be asked with GET and HEAD alone.
    `egress_bytes` is the most one call may send, where that is less than the sandbox's own limit.
    `may_send` is told a URL and the origins of what the call has read so far, before the guest's
    request goes there; it answers why not, or "".
    `payer` is asked where a server wants to be paid; without one the guest gets its answer 402.
    """

    workspace: WorkspaceGrant | None = None
    http: tuple[str, ...] = ()
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    knowledge: Callable[[str, int], Awaitable[Json]] | None = None
    store: Path | None = None
    store_marks: Callable[[tuple[str, ...]], tuple[str, ...]] | None = field(
        default=None, compare=False, repr=False
    )
    clock: bool = False
    random: bool = False
    read_only: bool = False
    egress_bytes: int | None = None
    may_send: Callable[[str, tuple[str, ...]], str] | None = field(
        default=None, compare=False, repr=False
    )
    payer: Payer | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class ToolResult:
    """What a call came to.

    `ok` False means the tool itself answered an error (`value` is `{"error": …}`); a broken limit
    or a trap raises instead. `origins` are the hosts and files content came from, names included.
    """

    ok: bool
    value: Json
    seconds: float
    fuel: int = 0
    egress_bytes: int = 0
    origins: tuple[str, ...] = ()
