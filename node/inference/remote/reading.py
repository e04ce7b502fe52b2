"""Replies of a model's server, read within bounds of size and time.

Spec: WHATWG HTML "Server-sent events".
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import httpx

from node.errors import RemoteError
from node.inference.grammar.strict_json import StrictJsonError, parse_prefix
from node.inference.remote.limits import NOT_AGAIN, Deadline, RemoteLimits
from node.types import Json


class ReplyReader:
    """Reads replies. `who` names the server in errors."""

    def __init__(self, who: str, limits: RemoteLimits) -> None:
        self._who = who
        self._limits = limits

    async def events(
        self, response: httpx.Response, deadline: Deadline, most_bytes: int
    ) -> AsyncGenerator[str, None]:
        """The data of each server-sent event, of no more bytes than one line may have.

        Raises:
            RemoteError: too slow, too long, cut off.
        """
        data: list[str] = []
        size = 0
        async for line in self._lines(response, deadline, most_bytes):
            name, _, value = line.partition(":")
            if name in ("data", "error"):  # llama-server has sent errors under that name
                data.append(value.removeprefix(" "))
                size += len(line)
                if size > self._limits.line_bytes:
                    raise broken(
                        self._who, f"sent an event of over {self._limits.line_bytes} bytes"
                    )
            elif not line and data:
                yield "\n".join(data)
                data, size = [], 0
        if data:
            yield "\n".join(data)

    async def whole(self, response: httpx.Response, deadline: Deadline, most_bytes: int) -> str:
        """All of a reply that is no stream. Raises RemoteError as `events`."""
        parts = [part async for part in self._chunks(response, deadline, most_bytes)]
        return b"".join(parts).decode(errors="replace")

    async def short(self, response: httpx.Response, most: int) -> str:
        """All of a small reply. Raises RemoteError where it is larger, or cut off."""
        size, parts = 0, []
        with self._told():
            async for part in response.aiter_raw():
                size += len(part)
                if size > most:
                    raise broken(self._who, f"sent over {most} bytes for a short answer")
                parts.append(part)
        return b"".join(parts).decode(errors="replace")

    def parse(self, text: str) -> Json:
        """One JSON value. Raises RemoteError if it is none."""
        try:
            value, end = parse_prefix(text.strip())
        except StrictJsonError as error:
            raise broken(self._who, f"sent what is not JSON ({error.message})") from error
        if text.strip()[end:]:
            raise broken(self._who, "sent what is not JSON (there is more behind it)")
        return value

    async def _lines(
        self, response: httpx.Response, deadline: Deadline, most_bytes: int
    ) -> AsyncIterator[str]:
        held = bytearray()
        async for part in self._chunks(response, deadline, most_bytes):
            held += part
            if b"\n" in part:
                *lines, held = held.split(b"\n")
                for line in lines:
                    yield self._line(line)
            self._check_line(held)
        if held:
            yield self._line(held)

    def _check_line(self, raw: bytearray) -> None:
        if len(raw) > self._limits.line_bytes:
            raise broken(self._who, f"sent a line of over {self._limits.line_bytes} bytes")

    def _line(self, raw: bytearray) -> str:
        self._check_line(raw)
        return raw.decode(errors="replace").removesuffix("\r")

    async def _chunks(
        self, response: httpx.Response, deadline: Deadline, most_bytes: int
    ) -> AsyncIterator[bytes]:
        size = 0
        parts = aiter(response.aiter_raw())
        while True:
            async with deadline.hold(self._who):
                with self._told():
                    part = await anext(parts, None)
            if part is None:
                return
            size += len(part)
            if size > most_bytes:
                raise broken(
                    self._who, f"sent over {most_bytes} bytes, far more than was asked for"
                )
            yield part

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong with a connection, as an error of the node's."""
        try:
            yield
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise RemoteError(
                f"{self._who} broke off in the middle of its answer ({type(error).__name__})",
                hint=NOT_AGAIN,
            ) from error


def broken(who: str, what: str, kind: type[RemoteError] = RemoteError) -> RemoteError:
    """The error of a server that does not keep to its protocol."""
    return kind(
        f"{who} {what}",
        hint="Is this the address of an OpenAI-compatible API, most often ending in /v1?",
    )
