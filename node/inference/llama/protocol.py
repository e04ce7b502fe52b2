"""Frames between an engine and its runner process.

A frame is four bytes of big-endian length and that many bytes of UTF-8 JSON, an object. Both sides
cap the length before they read, so that neither can be made to hold more than `MAX_FRAME_BYTES`.

To the runner: first what to load, then `generate`, `count` (both with an id and a request),
`forget`, `cancel` (both with an id), `close`. From it: first `ready` or `failed`, then `tokens`
(pieces of text, each with its id), per id one `end`, `counted`, `forgotten` or `error`, and `stats`
now and then.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NoReturn, TypeVar

from node.errors import (
    ContextOverflowError,
    GrammarError,
    InferenceError,
    ModelError,
    TemplateError,
)

KEPT_SEQUENCES: Final = 24
PERSONS_MORE: Final = 2  # generations of persons, beyond those that may run and those that may wait
MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
_HEAD = struct.Struct(">I")
_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_text = json.encoder.encode_basestring
_ERRORS: Final = {
    kind.__name__: kind
    for kind in (
        ContextOverflowError,
        GrammarError,
        InferenceError,
        ModelError,
        TemplateError,
    )
}
_ESCAPED_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_MESSAGE_CHARS: Final = 2000
_MOST: Final = 1 << 53
Frame = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Load:
    """What a runner is to load, its first frame.

    `identity` is the file's, as it was hashed. Beside the sequences under way, `kept_sequences`
    wait for their next turn. `kv_tokens` 0 lets the runner choose; without a `state_folder` states
    are held in memory only.
    """

    path: str
    sha256: str
    identity: tuple[int, ...]
    context_tokens: int
    threads: int
    reuse: bool
    max_running: int = 8
    kept_sequences: int = KEPT_SEQUENCES
    kv_tokens: int = 0
    state_folder: str = ""
    state_bytes: int = 0


class ProtocolError(InferenceError):
    """The other side sent what is not a frame."""


def encode(frame: Frame) -> bytes:
    """The bytes of one frame.

    Raises:
        InferenceError: the frame is over the cap, or holds what is not JSON or not UTF-8.
    """
    try:
        body = _json(frame).encode()
    except (UnicodeEncodeError, ValueError, TypeError, RecursionError) as error:
        raise InferenceError(
            f"a request cannot be sent to the model: {error}",
            hint="Text must be valid Unicode without lone surrogates, and numbers finite.",
        ) from error
    if len(body) > MAX_FRAME_BYTES:
        raise InferenceError(
            f"a request of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}",
            hint="Shorten the conversation; no model's context holds this much.",
        )
    return _HEAD.pack(len(body)) + body


def encode_pieces(pieces: Iterable[tuple[int, str, str]]) -> bytes:
    """The bytes of a `tokens` frame, one a step: an encoder for any frame takes twice as long."""
    rows = [f"[{number},{_text(shown)},{_text(thought)}]" for number, shown, thought in pieces]
    body = f'{{"event":"tokens","tokens":[{",".join(rows)}]}}'.encode()
    return _HEAD.pack(len(body)) + body


def decode(body: bytes) -> Frame:
    """The frame in `body`.

    Raises:
        ProtocolError: it is not a JSON object.
    """
    try:
        frame = json.loads(body, parse_constant=_refuse)
        if _ESCAPED_SURROGATE.search(body):
            _json(frame).encode()
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a frame that is not JSON: {error}") from error
    if not isinstance(frame, dict):
        raise ProtocolError("a frame that is not an object")
    return frame


def field(frame: Frame, key: str, kind: type[T]) -> T:
    """The value at `key`, which must be of `kind`.

    The runner runs native code on a file from anywhere, so what it sends is outside data too.

    Raises:
        ProtocolError: it is missing or of another kind.
    """
    value = frame.get(key)
    if type(value) is not kind:
        raise ProtocolError(f"a frame whose {key} is not a {kind.__name__}")
    return value


def natural(frame: Frame, key: str, *, most: int = _MOST) -> int:
    """The count at `key`. Raises ProtocolError if it is none, or over `most`."""
    value = field(frame, key, int)
    if not 0 <= value <= most:
        raise ProtocolError(f"a frame whose {key} is not 0 to {most}")
    return value


def pieces(frame: Frame) -> list[tuple[int, str, str]]:
    """The pieces in a `tokens` frame: the id it is for, text of the answer, text of the thought.

    Raises:
        ProtocolError: one is of another kind.
    """
    found = []
    for piece in field(frame, "tokens", list):
        if not isinstance(piece, list) or [type(part) for part in piece] != [int, str, str]:
            raise ProtocolError("a piece of text that is not an id and two strings")
        found.append((piece[0], piece[1], piece[2]))
    return found


def numbers(frame: Frame, key: str) -> dict[str, float]:
    """The figures at `key`.

    Raises:
        ProtocolError: one is no number.
    """
    values = field(frame, key, dict)
    if not all(type(value) in (int, float) and abs(value) <= _MOST for value in values.values()):
        raise ProtocolError(f"a frame whose {key} are not numbers")
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _length(head: bytes) -> int:
    (length,) = _HEAD.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
    return int(length)


def read(stream: BinaryIO) -> Frame | None:
    """The next frame of a blocking stream; None at its end, also in the middle of a frame."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length = _length(head)
    body = stream.read(length)
    return decode(body) if len(body) == length else None


async def receive(stream: asyncio.StreamReader) -> Frame | None:
    """The next frame of an asyncio stream; None at its end, also in the middle of a frame."""
    try:
        length = _length(await stream.readexactly(_HEAD.size))
        return decode(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def error_frame(request: int, error: InferenceError) -> Frame:
    """An error of the runner, to be raised by the engine as the same class."""
    kind = type(error).__name__
    return {
        "event": "error",
        "id": request,
        "kind": kind if kind in _ERRORS else "InferenceError",
        "message": error.message,
        "hint": error.hint,
    }


def to_error(frame: Frame) -> InferenceError:
    """The error in an `error` or `failed` frame."""
    kind = _ERRORS.get(str(frame.get("kind")), InferenceError)
    message, hint = (str(frame.get(key, ""))[:_MESSAGE_CHARS] for key in ("message", "hint"))
    return kind(message, hint=hint)
