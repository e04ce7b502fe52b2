"""What goes to the control API and comes back, as bytes: JSON objects, errors, server-sent events.

The daemon may be of another version than this process, so nothing is taken for granted of its
answers: what is missing in one is said to be.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NoReturn

import httpx

import node.errors
from node.errors import ControlError, FreeholdError, RequestError
from node.types import Json, JsonObject

if TYPE_CHECKING:
    from node.gateway.replies import Event

REPLY_MAX_BYTES = 256 * 1024 * 1024


def encoded(body: Mapping[str, object]) -> bytes:
    """A request's body. Raises RequestError if a text in it is not Unicode."""
    try:
        return json.dumps(dict(body), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            "what you typed is not UTF-8", hint="Check the terminal's encoding."
        ) from error


class _Reply(dict[str, Json]):
    """An object of a reply. The daemon may be of before an upgrade, and leave out what is new."""

    def __missing__(self, key: str) -> NoReturn:
        raise ControlError(
            f"the daemon's answer has no {key!r}: it is of another version than this command",
            hint="Start it anew: `freehold down`, then `freehold up`.",
        )


def object_of(response: httpx.Response) -> JsonObject:
    """The JSON object of a reply. Raises ControlError if it is something else."""
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > REPLY_MAX_BYTES:
            break
    try:
        value = json.loads(bytes(content), object_hook=_Reply)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ControlError(
            f"the daemon answered {response.status_code} with something that is not JSON",
            hint="Is another program on that address?",
        )
    return value


def error_of(body: JsonObject) -> FreeholdError:
    """The daemon's error as the class it was there."""
    kind = getattr(node.errors, str(body.get("code", "")), ControlError)
    if not (isinstance(kind, type) and issubclass(kind, FreeholdError)):
        kind = ControlError
    return kind(str(body.get("error", "the daemon refused")), hint=str(body.get("hint", "")))


def events_of(chunks: Iterator[bytes]) -> Iterator[Event]:
    """Server-sent events as they come. Raises the daemon's error if it sends one."""
    for event in _frames(_lines(chunks)):
        if event["type"] == "error":
            raise error_of(event["data"])
        yield event


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """A stream's lines. What else ends lines in Unicode, as U+2028, is of the text they hold."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode(errors="replace")


def _frames(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events out of a stream's lines. Broken ones are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        event, fields = fields, {}
        with contextlib.suppress(ValueError):
            data = json.loads(event.get("data", ""))
            if isinstance(data, dict):
                position = int(event.get("id", "0"))
                yield {"id": position, "type": event.get("event", "message"), "data": data}
