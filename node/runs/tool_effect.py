"""A tool call as an effect: what it needs, what it leaves behind, what its result carries.

A call leaves no trace outside only where its function is read-only and cannot reach the network: a
fetch is seen by the server that answers it. What a read brings in decides the run's labels, by the
host or file that the sandbox says it came from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import cast

from node.errors import OutcomeUnknownError, SandboxError
from node.runs.agent import ToolGrant
from node.runs.content import clean
from node.runs.effect import Label, Needs, Outcome, StepKind, Usage
from node.runs.offer import Offer
from node.runs.tool_payer import ToolPayer
from node.runs.workspace_labels import folded
from node.sandbox import Payer, ToolResult
from node.types import Json, JsonObject

# What one call may send: the largest request there is (256 KiB), and redirects. A budget that has
# less gives what it has, and the host sees to that.
FETCH_EGRESS_BYTES = 524_288
_CALL_SECONDS = 15.0
_PAYING_SECONDS = 30.0


@dataclass(frozen=True)
class ToolEffect:
    """One call. `args` are its arguments, so that guards judge exactly what the tool will get.

    `call` gets the arguments, the most bytes they may send, and the `payer`, which is there where
    the grant lists anything that may be paid for.
    """

    offer: Offer
    arguments: JsonObject
    grant: ToolGrant
    call: Callable[[JsonObject, int, Payer | None], Awaitable[ToolResult]]
    labels: Callable[[tuple[str, ...]], frozenset[Label]]
    egress_bytes: int = FETCH_EGRESS_BYTES
    payer: ToolPayer | None = field(default=None, compare=False, repr=False)

    @property
    def kind(self) -> StepKind:
        return StepKind.TOOL

    @property
    def name(self) -> str:
        return self.offer.name

    @property
    def args(self) -> Json:
        return self.arguments

    @cached_property
    def needs(self) -> Needs:
        fetches = "http" in self.offer.capabilities
        return Needs(
            usage=Usage(
                tool_calls=1,
                seconds=_CALL_SECONDS + (_PAYING_SECONDS if self.payer else 0),
                egress_bytes=self.egress_bytes if fetches else 0,
            ),
            capabilities=self.offer.capabilities,
            destinations=self.grant.http if fetches else (),
            traceless=self.offer.read_only and not fetches,
            tool=self.offer.tool,
        )

    def with_args(self, args: Json) -> ToolEffect:
        """The same call with arguments a guard rewrote."""
        return replace(self, arguments=cast("JsonObject", args))

    def bounded(self, held: Usage) -> ToolEffect:
        """The same call, which may send no more than is held for it."""
        return replace(self, egress_bytes=held.egress_bytes)

    async def perform(self, key: str) -> Outcome:
        """Calls the tool. A limit, a trap or a broken tool is an answer for the model too."""
        if self.payer is None:
            return await self._perform()
        await self.payer.begin(_path(key))
        try:
            return await self._perform()
        finally:
            await self.payer.end()

    async def _perform(self) -> Outcome:
        try:
            result = await self.call(self.arguments, self.egress_bytes, self.payer)
        except SandboxError as error:
            usage = Usage(tool_calls=1, egress_bytes=error.egress_bytes)
            return Outcome(
                ok=False,
                value=clean({"error": error.message}),
                usage=usage,
                labels=self.labels(error.origins),  # a trap tells what the tool had printed
            )
        return Outcome(
            ok=result.ok,
            value=clean(result.value),
            usage=Usage(tool_calls=1, egress_bytes=result.egress_bytes),
            labels=self.labels(result.origins),
        )

    async def settle(self, key: str) -> Outcome | None:
        """A call that may be made twice with the effect of one is simply made again; what it had
        paid for stays paid."""
        if self.payer is not None:
            await self.payer.begin(_path(key))
        if self.offer.read_only or self.offer.idempotent:
            return None
        raise OutcomeUnknownError(
            f"{self.name} may or may not have run before the node stopped, and running it twice "
            "is not the same as once",
            hint="Look at what the tool changes: approve if it ran, deny to run it now.",
        )


def _path(key: str) -> str:
    return key.partition(":")[2]


def labels_of(
    origins: tuple[str, ...],
    *,
    foreign: tuple[str, ...],
    private: tuple[str, ...],
    marked: Callable[[str], frozenset[Label]],
) -> frozenset[Label]:
    """What content from these origins carries: `workspace:PATH`, `mark:LABEL` of a file,
    `store:LABEL`, `knowledge:…`, or a host.

    A file carries what it is `marked` with and what the patterns say, which match a whole path;
    `*` also matches `/`. So does its name in a list. What it was marked with when it was read, it
    may not be any more.
    """
    found: set[Label] = set()
    for origin in origins:
        kind, _, path = origin.partition(":")
        if kind == "workspace":
            found |= marked(path) | _listed(path, foreign, private)
        else:
            is_private = kind == "knowledge" or origin in ("store:private", "mark:private")
            found.add("private" if is_private else "untrusted")
    return frozenset(found)


def _listed(path: str, foreign: tuple[str, ...], private: tuple[str, ...]) -> set[Label]:
    found: set[Label] = set()
    if any(_matches(path, pattern) for pattern in foreign):
        found.add("untrusted")
    if any(_matches(path, pattern) for pattern in private):
        found.add("private")
    return found


def _matches(path: str, pattern: str) -> bool:
    """By its letters, or as a file system does that takes `Diary` for `diary`."""
    return fnmatchcase(path, pattern) or fnmatchcase(folded(path), folded(pattern))
