"""A model fetched over HTTP, whole or not at all, resumable.

The server is not trusted: not its lengths, its redirects, its idea of where a resumed answer
begins, nor that it sends a model and not a page. A fetch that ends early, whatever ended it, leaves
a beginning (`partial`), and the next one goes on from there: by `Range`, and `If-Range` with the
version's strong ETag, so that a file that changed meanwhile comes anew. Where the SHA-256 is known,
a beginning without an ETag may be gone on with too, since the digest shows whether it was one.

Spec: RFC 9110, sections 13.1.5 (If-Range), 14 (ranges), 15.4 (redirects).
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from node.errors import DownloadError, ModelError
from node.inference.models.files import KEEP_FREE_BYTES, Progress
from node.inference.models.gguf import MAX_HEADER_BYTES, read_open
from node.inference.models.gguf_header import Header
from node.inference.models.partial import FOLDER, Partial
from node.inference.models.sources import Source, is_here, is_loopback

MAX_BYTES: Final = 4 << 40
SLACK_BYTES: Final = 1 << 20  # what may follow the last weights
TRIES: Final = 4
MAX_REDIRECTS: Final = 5
_LOOK_BYTES: Final = 64 << 20
_TIMEOUT = httpx.Timeout(60.0, connect=20.0)
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TRANSIENT: Final = (408, 425, 429, 500, 502, 503, 504)
_AGAIN = "The same command goes on from here."
_NAMES = "Look at the name of the repository and the file; upper and lower case count."
_LICENCE = (
    "The model may want its licence accepted on its page first, and HF_TOKEN set to a token of the "
    "account that did."
)
_STRANGE = "The server is broken or not what it should be; fetch the model from another."


@dataclass(frozen=True)
class Wanted:
    """What is known of a file before it comes. `sha256` in hex, `size` in bytes.

    Raises:
        DownloadError: nobody could tell whether what comes is what was meant.
    """

    source: Source
    sha256: str = ""
    size: int | None = None

    def __post_init__(self) -> None:
        url = self.source.url
        if self.sha256 and not _SHA256.fullmatch(self.sha256):
            raise DownloadError(
                f"{self.sha256!r} is no SHA-256", hint="It is 64 digits, 0-9 and a-f."
            )
        if url.scheme == "http" and not is_loopback(url) and not self.sha256:
            raise DownloadError(
                f"{self.source.shown} is plain HTTP: anyone on the way can change it",
                hint="Use https, or say what must come with --sha256.",
            )


@dataclass(frozen=True)
class Fetched:
    """A whole model in a file that is the caller's to move: its digest, size and header."""

    path: Path
    sha256: str
    size: int
    header: Header


@dataclass(frozen=True)
class _Promise:
    """What a hub says of a file before it redirects to where the bytes are."""

    sha256: str = ""
    size: int | None = None

    def joined(self, headers: httpx.Headers) -> _Promise:
        """What the first that spoke said counts: who comes later was only redirected to."""
        sha256 = headers.get("x-linked-etag", "").strip('"').lower()
        size = _length(headers.get("x-linked-size", ""))
        return _Promise(
            self.sha256 or (sha256 if _SHA256.fullmatch(sha256) else ""),
            size if self.size is None else self.size,
        )


class _TransientError(DownloadError):
    """The connection or the server failed in a way that may be over soon."""


class Download:
    """One model being fetched.

    Args:
        models: `models/` of a home.
        on_header: told what the file says of itself once enough of it is here; may raise to end
            the fetch before the rest is paid for.
        progress: bytes here and in all (0 where the server does not say).
        transport: how requests go out, for tests.
        pause: waits so many seconds before another try.
    """

    def __init__(
        self,
        models: Path,
        wanted: Wanted,
        *,
        on_header: Callable[[Header], None] = lambda _header: None,
        progress: Progress = lambda _done, _total: None,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = models / FOLDER
        self._wanted = wanted
        self._on_header = on_header
        self._progress = progress
        self._transport = transport
        self._pause = pause
        self._header: Header | None = None

    def run(self) -> Fetched:
        """Fetches what is missing.

        Raises:
            DownloadError: the server cannot be used, sent something else, or stopped too often.
            ModelError: what came is not a GGUF; or whatever `on_header` raises.
        """
        source = self._wanted.source
        key = hashlib.sha256(str(source.url).encode()).hexdigest()[:32]
        with Partial.open(self._folder, key, source.shown) as self._part:
            self._part.take_up(known=bool(self._wanted.sha256))
            self._persist()
            header = self._check_whole()
            return Fetched(self._part.path, self._part.sha256, self._part.have, header)

    @property
    def _size(self) -> int | None:
        return self._wanted.size if self._wanted.size is not None else self._part.note.size

    def _persist(self) -> None:
        """Asks again where a connection breaks, until nothing comes any more."""
        failures = 0
        with self._client() as client:
            while True:
                before = self._part.have
                try:
                    self._ask(client)
                except (_TransientError, httpx.TransportError) as error:
                    failures = 1 if self._part.have > before else failures + 1
                    if failures >= TRIES:
                        raise self._gave_up(error) from error
                    self._pause(2.0 ** (failures - 1))
                else:
                    return

    def _client(self) -> httpx.Client:
        """A client that goes through the environment's proxies, but not to this machine."""
        transport = self._transport
        try:
            if transport is None and is_here(self._wanted.source.url):
                transport = httpx.HTTPTransport()
            return httpx.Client(transport=transport, timeout=_TIMEOUT)
        except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
            raise DownloadError(
                f"what the environment says of proxies or certificates cannot be used: {error}",
                hint="Look at HTTPS_PROXY, ALL_PROXY (http:// only), NO_PROXY and SSL_CERT_FILE.",
            ) from error

    def _gave_up(self, error: Exception) -> DownloadError:
        said = error.message if isinstance(error, DownloadError) else _in_words(error)
        kept = f"; {self._part.have} bytes are kept" if self._part.have else ""
        return DownloadError(f"{self._wanted.source.shown}: {said}{kept}", hint=_AGAIN)

    def _ask(self, client: httpx.Client) -> None:
        """One request, and its body to the end."""
        if self._part.have and self._part.have == self._size:
            return
        if not (self._part.note.etag or self._part.note.sha256 or self._wanted.sha256):
            self._start_anew()  # nothing would show that it goes on with another file
        url, promise = self._wanted.source.url, _Promise()
        for _ in range(MAX_REDIRECTS + 1):
            headers = {**self._range(), **self._wanted.source.headers(url)}
            with client.stream("GET", url, headers=headers) as answer:
                promise = promise.joined(answer.headers)
                if not answer.is_redirect:
                    self._take(answer, promise)
                    return
                url = self._redirected(url, answer)
        raise self._strange(f"redirects more than {MAX_REDIRECTS} times")

    def _range(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if self._part.have:
            headers["Range"] = f"bytes={self._part.have}-"
            if self._part.note.etag:
                headers["If-Range"] = self._part.note.etag
        return headers

    def _redirected(self, url: httpx.URL, answer: httpx.Response) -> httpx.URL:
        try:
            target = url.join(answer.headers["location"])
        except (KeyError, ValueError, TypeError, httpx.InvalidURL) as error:
            raise self._strange("redirects to nowhere") from error
        if target.scheme not in ("https", "http"):
            raise self._strange(f"redirects to {target.scheme[:20]!r}, which is not the web")
        if target.scheme == "http" and url.scheme == "https":
            raise self._strange("redirects from https to plain http")
        if is_here(target) and not is_here(url):
            raise self._strange("redirects to this machine")
        return target

    def _take(self, answer: httpx.Response, promise: _Promise) -> None:
        """Everything that is looked at before a byte is written, and then the body."""
        self._check_status(answer.status_code)
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise self._strange("sends the file compressed, unasked")
        size = self._begin(answer, promise)
        wanted = self._wanted
        if size is not None and wanted.size not in (None, size):
            raise self._strange(f"has {size} bytes, where {wanted.size} were expected")
        if promise.sha256 and wanted.sha256 not in ("", promise.sha256):
            raise self._strange(f"says that its SHA-256 is {promise.sha256}, not {wanted.sha256}")
        self._part.describe(
            etag=answer.headers.get("etag", self._part.note.etag),
            size=wanted.size if size is None else size,
            sha256=promise.sha256 or self._part.note.sha256,
        )
        self._check_disk()
        self._body(answer)

    def _check_status(self, status: int) -> None:
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and self._part.have:
            self._start_anew()
            raise _TransientError("the server has no such part of the file")
        if status in _TRANSIENT:
            raise _TransientError(f"the server answers {status}")
        if status not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise DownloadError(
                f"{self._wanted.source.shown}: the server answers {status}",
                hint=_explained(status),
            )

    def _begin(self, answer: httpx.Response, promise: _Promise) -> int | None:
        """Looks where the body goes on; the whole file's size, if it is said."""
        note = self._part.note
        if answer.status_code == httpx.codes.OK:
            self._start_anew()
            length = _length(answer.headers.get("content-length", ""))
            if None not in (length, promise.size) and length != promise.size:
                raise self._strange(f"sends {length} bytes of a file that has {promise.size}")
            return promise.size if length is None else length
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if not self._part.have or found is None or int(found[1]) != self._part.have:
            raise self._strange("answers with another part of the file than was asked for")
        size = None if found[3] == "*" else int(found[3])
        if (
            (note.size is not None and size not in (None, note.size))
            or (note.sha256 and promise.sha256 not in ("", note.sha256))
            or (note.etag and answer.headers.get("etag", note.etag) != note.etag)
        ):
            self._start_anew()
            raise _TransientError("the file changed on the server")
        return note.size if size is None else size

    def _start_anew(self) -> None:
        """Forgets what is here, and what it said of itself."""
        self._part.start_anew()
        self._header = None

    def _check_disk(self) -> None:
        size, free = self._size, shutil.disk_usage(self._folder).free
        if size is not None and size > MAX_BYTES:
            raise self._strange(f"says that it has {size} bytes")
        more = 0 if size is None else max(0, size - self._part.have)
        if free < more + KEEP_FREE_BYTES:
            raise DownloadError(
                f"{self._wanted.source.shown} needs {more} more bytes on the disk of "
                f"{self._folder.parent}; {free} are free, and {KEEP_FREE_BYTES} of them are kept",
                hint=f"Make room. {_AGAIN}",
            )

    def _body(self, answer: httpx.Response) -> None:
        look = self._part.have + _LOOK_BYTES
        for block in answer.iter_raw():  # whole blocks would lose the last one of a broken body
            self._write(block)
            if self._part.have >= look:
                look = self._part.have + _LOOK_BYTES
                self._check_disk()
        if self._size is not None and self._part.have < self._size:
            raise _TransientError(
                f"the server stopped after {self._part.have} of {self._size} bytes"
            )

    def _write(self, block: bytes) -> None:
        most = MAX_BYTES if self._size is None else self._size
        if self._header is not None:
            most = min(most, self._header.file_bytes + SLACK_BYTES)
        if self._part.have + len(block) > most:
            self._part.forget()
            raise self._strange(f"sends more than the {most} bytes that the file can have")
        starts = not self._part.have
        self._part.append(block)
        bad = starts and not block.startswith(b"GGUF"[: len(block)])
        if bad or (self._header is None and self._part.have >= MAX_HEADER_BYTES):
            self._look()
        self._progress(self._part.have, self._size or 0)

    def _look(self) -> Header:
        """The header, read once there is enough of the file; told of the first time."""
        if self._header is None:
            self._part.file.flush()
            size = MAX_BYTES if self._size is None else self._size
            try:
                header = read_open(self._part.file, self._wanted.source.shown, size=size)
            except ModelError:
                self._part.forget()
                raise
            self._on_header(header)
            self._header = header
        return self._header

    def _check_whole(self) -> Header:
        header, have = self._look(), self._part.have
        expected = self._wanted.sha256 or self._part.note.sha256
        problem = ""
        if not header.file_bytes <= have <= header.file_bytes + SLACK_BYTES:
            problem = f"sent {have} bytes of a model that has {header.file_bytes}"
        elif expected and self._part.sha256 != expected:
            problem = f"sent a file of SHA-256 {self._part.sha256}, where {expected} was expected"
        if problem:
            self._part.forget()
            raise self._strange(problem)
        return header

    def _strange(self, what: str) -> DownloadError:
        return DownloadError(f"{self._wanted.source.shown} {what}", hint=_STRANGE)


def _length(text: str) -> int | None:
    return int(text) if _LENGTH.fullmatch(text) else None


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _explained(status: int) -> str:
    # a hub says 401 to a stranger of a repository that does not exist, too
    hints = {401: f"{_NAMES} {_LICENCE}", 403: _LICENCE, 404: _NAMES, 410: _NAMES}
    return hints.get(status, "Try again later, or fetch it from elsewhere.")
