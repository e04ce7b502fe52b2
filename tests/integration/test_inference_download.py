"""Models fetched from servers: good ones, broken ones, hostile ones. All on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import re
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import DownloadError, ModelError
from node.inference import ModelStore
from node.inference.models import download, partial
from node.inference.models.download import Download, Fetched, Wanted
from node.inference.models.gguf import read_header
from node.inference.models.gguf_header import Header
from node.inference.models.partial import FOLDER, forget_unfinished, unfinished
from node.inference.models.sources import parse_source
from node.inference.testing.gguf import TinyModel, pack_gguf, pair, write_tiny_gguf

Answer = Callable[["Handler"], None]


@dataclass
class Server:
    """Answers from `body` with ranges and an ETag, unless a path has an answer of its own."""

    body: bytes
    etag: str = '"v1"'
    answers: dict[str, Answer] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    @property
    def ranges(self) -> list[str]:
        return [headers.get("range", "") for _, headers in self.seen]


class Handler(BaseHTTPRequestHandler):
    """One request to the `Server` in `self.server.told`."""

    protocol_version = "HTTP/1.1"

    @property
    def told(self) -> Server:
        return self.server.told  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        names = {name.lower(): value for name, value in self.headers.items()}
        self.told.seen.append((self.path, names))
        try:
            self.told.answers.get(self.path, serve)(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *_args: object) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    """A client that goes away is what is tested, not an error of the server."""

    daemon_threads = True

    def handle_error(self, *_args: object) -> None:
        pass


def serve(ask: Handler, cut: int | None = None) -> None:
    """As a good server does; `cut` hangs up after so many bytes of the body."""
    body, start, status = ask.told.body, 0, 200
    found = re.fullmatch(r"bytes=(\d+)-", ask.headers.get("Range", ""))
    if found and ask.headers.get("If-Range", ask.told.etag) == ask.told.etag:
        start, status = int(found[1]), 206
    if start >= len(body):
        ask.head(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
        return
    extra = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
    ask.head(status, ETag=ask.told.etag, Content_Length=len(body) - start, **extra)
    if cut is None:
        ask.wfile.write(body[start:])
    else:
        ask.wfile.write(body[start : start + cut])
        ask.hang_up()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("served") / "a.gguf").read_bytes()


@pytest.fixture
def server(model: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    told = Server(model)
    listener = QuietServer(("127.0.0.1", 0), Handler)
    listener.told = told  # type: ignore[attr-defined]
    told.url = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    yield told
    listener.shutdown()
    listener.server_close()
    thread.join()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def fetch(
    models: Path,
    url: str,
    *,
    sha256: str = "",
    size: int | None = None,
    env: dict[str, str] | None = None,
    on_header: Callable[[Header], None] = lambda _header: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Fetched:
    return Download(
        models,
        Wanted(parse_source(url, env or {}), sha256, size),
        on_header=on_header,
        progress=progress,
        pause=lambda _seconds: None,
    ).run()


def kept(models: Path) -> list[int]:
    return [size for _, size in unfinished(models)]


# ── good servers ────────────────────────────────────────────────────────────────────────────


def test_a_model_comes_and_is_pinned(server: Server, models: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    headers: list[Header] = []
    got = fetch(
        models,
        f"{server.url}/Tiny.gguf?token=secret",
        on_header=headers.append,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert got.path.read_bytes() == server.body
    assert got.sha256 == hashlib.sha256(server.body).hexdigest()
    assert steps[-1] == (len(server.body), len(server.body))
    assert [header.architecture for header in headers] == ["llama"]
    store = ModelStore(models, shipped=tmp_path)
    pin = store.adopt(got.path, "tiny", sha256=got.sha256, size=got.size, source="x")
    assert store.verify("tiny").path == models / "tiny.gguf"
    assert pin.size == len(server.body)
    assert unfinished(models) == []


def test_what_broke_off_goes_on_from_there(server: Server, models: Path) -> None:
    half = len(server.body) // 2
    server.answers["/a"] = lambda ask: serve(ask, cut=half if len(server.seen) == 1 else None)
    assert fetch(models, f"{server.url}/a").path.read_bytes() == server.body
    assert server.ranges == ["", f"bytes={half}-"]
    assert server.seen[1][1]["if-range"] == '"v1"'


def test_ctrl_c_loses_nothing(server: Server, models: Path) -> None:
    def interrupted(done: int, _total: int) -> None:
        if done > 20_000:
            raise KeyboardInterrupt

    server.answers["/a"] = lambda ask: serve(ask, cut=30_000 if len(server.seen) == 1 else None)
    with pytest.raises(KeyboardInterrupt):
        fetch(models, f"{server.url}/a", progress=interrupted)
    (here,) = kept(models)
    assert 20_000 < here <= 30_000
    assert fetch(models, f"{server.url}/a").path.read_bytes() == server.body
    assert server.ranges[1] == f"bytes={here}-"


def test_a_file_that_changed_meanwhile_comes_anew(
    server: Server, models: Path, tmp_path: Path
) -> None:
    server.answers["/a"] = lambda ask: serve(ask, cut=9_000)
    with pytest.raises(KeyboardInterrupt):
        fetch(models, f"{server.url}/a", progress=stop_at(9_000))
    server.body = write_tiny_gguf(tmp_path / "b.gguf", TinyModel(seed=2)).read_bytes()
    server.etag = '"v2"'
    del server.answers["/a"]
    assert fetch(models, f"{server.url}/a").path.read_bytes() == server.body


def stop_at(count: int) -> Callable[[int, int], None]:
    def stop(done: int, _total: int) -> None:
        if done >= count:
            raise KeyboardInterrupt

    return stop


def test_without_an_etag_or_digest_it_begins_anew(server: Server, models: Path) -> None:
    server.etag = 'W/"weak"'
    server.answers["/a"] = lambda ask: serve(ask, cut=9_000)
    with pytest.raises(KeyboardInterrupt):
        fetch(models, f"{server.url}/a", progress=stop_at(9_000))
    del server.answers["/a"]
    assert fetch(models, f"{server.url}/a").path.read_bytes() == server.body
    assert server.ranges[-1] == ""


def test_a_break_does_not_join_two_files_that_nothing_tells_apart(
    server: Server, models: Path, tmp_path: Path
) -> None:
    other = write_tiny_gguf(tmp_path / "b.gguf", TinyModel(seed=2)).read_bytes()
    assert len(other) == len(server.body)
    server.etag = 'W/"weak"'

    def swapped(ask: Handler) -> None:
        serve(ask, cut=9_000 if len(server.seen) == 1 else None)
        server.body = other

    server.answers["/a"] = swapped
    assert fetch(models, f"{server.url}/a").path.read_bytes() == other


def test_a_part_of_another_version_is_not_appended(
    server: Server, models: Path, tmp_path: Path
) -> None:
    other = write_tiny_gguf(tmp_path / "b.gguf", TinyModel(seed=2)).read_bytes()

    def careless(ask: Handler) -> None:
        """Answers every range, whatever If-Range says."""
        del ask.headers["If-Range"]
        serve(ask, cut=9_000 if len(server.seen) == 1 else None)
        server.body, server.etag = other, '"v2"'

    server.answers["/a"] = careless
    assert fetch(models, f"{server.url}/a").path.read_bytes() == other


def test_a_part_without_an_etag_leaves_the_one_there_was(server: Server, models: Path) -> None:
    def terse(ask: Handler) -> None:
        if len(server.seen) == 2:
            start, size = 9_000, len(server.body)
            span = f"bytes {start}-{size - 1}/{size}"
            ask.head(206, Content_Range=span, Content_Length=size - start)
            ask.wfile.write(server.body[start:12_000])
            ask.hang_up()
        else:
            serve(ask, cut=9_000 if len(server.seen) == 1 else None)

    server.answers["/a"] = terse
    assert fetch(models, f"{server.url}/a").path.read_bytes() == server.body
    assert server.ranges[-1] == "bytes=12000-"
    assert server.seen[-1][1]["if-range"] == '"v1"'


def test_a_file_that_grew_meanwhile_is_looked_at_anew(
    server: Server, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_HEADER_BYTES", 64 << 10)
    model = TinyModel(seed=2, layers=TinyModel().layers + 1)
    other = write_tiny_gguf(tmp_path / "b.gguf", model).read_bytes()
    assert len(other) > len(server.body) > 100_000

    def grows(ask: Handler) -> None:
        serve(ask, cut=100_000 if len(server.seen) == 1 else None)
        server.body, server.etag = other, '"v2"'

    headers: list[Header] = []
    server.answers["/a"] = grows
    got = fetch(models, f"{server.url}/a", on_header=headers.append)
    assert got.path.read_bytes() == other
    assert got.header.file_bytes == headers[-1].file_bytes == read_header(got.path).file_bytes


def test_with_a_digest_it_needs_no_etag(server: Server, models: Path) -> None:
    server.etag = 'W/"weak"'
    sha256 = hashlib.sha256(server.body).hexdigest()
    server.answers["/a"] = lambda ask: serve(ask, cut=9_000)
    with pytest.raises(KeyboardInterrupt):
        fetch(models, f"{server.url}/a", sha256=sha256, progress=stop_at(9_000))
    del server.answers["/a"]
    assert fetch(models, f"{server.url}/a", sha256=sha256).sha256 == sha256
    assert server.ranges[-1] == "bytes=9000-"


def test_what_was_not_surely_written_is_not_trusted(server: Server, models: Path) -> None:
    server.answers["/a"] = lambda ask: serve(ask, cut=9_000)
    with pytest.raises(KeyboardInterrupt):
        fetch(models, f"{server.url}/a", progress=stop_at(9_000))
    (part,) = (models / FOLDER).glob("*.part")
    with part.open("ab") as file:
        file.write(bytes(5_000))  # as after a power cut
    del server.answers["/a"]
    assert fetch(models, f"{server.url}/a").path.read_bytes() == server.body
    assert server.ranges[-1] == "bytes=9000-"


def test_a_server_that_says_no_length_is_believed_by_the_file_itself(
    server: Server, models: Path
) -> None:
    def chunked(ask: Handler) -> None:
        ask.head(200, Transfer_Encoding="chunked")
        for start in range(0, len(server.body), 40_000):
            block = server.body[start : start + 40_000]
            ask.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        ask.wfile.write(b"0\r\n\r\n")

    server.answers["/a"] = chunked
    assert fetch(models, f"{server.url}/a").size == len(server.body)


def test_a_busy_server_is_asked_again(server: Server, models: Path) -> None:
    def busy(ask: Handler) -> None:
        if len(server.seen) < 3:
            ask.head(503, Content_Length=0)
        else:
            serve(ask)

    server.answers["/a"] = busy
    assert fetch(models, f"{server.url}/a").size == len(server.body)


# ── a hub ───────────────────────────────────────────────────────────────────────────────────


def hub(server: Server, **promised: object) -> dict[str, str]:
    def redirect(ask: Handler) -> None:
        ask.head(302, Location="/bytes", Content_Length=0, **promised)

    server.answers["/o/r/resolve/main/sub/a%20b.gguf"] = redirect
    return {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_secret"}


def test_a_hub_says_size_and_digest_first(server: Server, models: Path) -> None:
    sha256 = hashlib.sha256(server.body).hexdigest()
    env = hub(server, X_Linked_Etag=f'"{sha256}"', X_Linked_Size=len(server.body))
    assert fetch(models, "hf:o/r/sub/a b.gguf", env=env).sha256 == sha256
    assert server.seen[0][1]["authorization"] == "Bearer hf_secret"


def test_a_hub_whose_store_sends_other_bytes_is_caught(server: Server, models: Path) -> None:
    env = hub(server, X_Linked_Etag=f'"{"0" * 64}"', X_Linked_Size=len(server.body))
    with pytest.raises(DownloadError, match="where 0000"):
        fetch(models, "hf:o/r/sub/a b.gguf", env=env)
    assert kept(models) == []


def test_a_hub_s_word_is_not_taken_back_by_where_it_redirects(
    server: Server, models: Path, tmp_path: Path
) -> None:
    env = hub(server, X_Linked_Etag=f'"{"0" * 64}"')
    sha256 = hashlib.sha256(server.body).hexdigest()

    def stored(ask: Handler) -> None:
        size = len(server.body)
        ask.head(200, X_Linked_Etag=f'"{sha256}"', X_Linked_Size=size, Content_Length=size)
        ask.wfile.write(server.body)

    server.answers["/bytes"] = stored
    with pytest.raises(DownloadError, match="where 0000"):
        fetch(models, "hf:o/r/sub/a b.gguf", env=env)


def test_a_store_that_sends_another_length_than_the_hub_said(server: Server, models: Path) -> None:
    env = hub(server, X_Linked_Size=len(server.body) + 1)
    with pytest.raises(DownloadError, match="bytes of a file that has"):
        fetch(models, "hf:o/r/sub/a b.gguf", env=env)


def test_a_token_goes_to_the_hub_and_not_to_where_it_redirects(model: bytes, models: Path) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.host == "hub.test":
            return httpx.Response(302, headers={"Location": "https://store.test/x"})
        return httpx.Response(200, stream=httpx.ByteStream(model))

    source = parse_source(
        "hf:o/r/a.gguf", {"HF_ENDPOINT": "https://hub.test", "HF_TOKEN": "hf_secret"}
    )
    Download(models, Wanted(source), transport=httpx.MockTransport(answer)).run()
    assert [request.headers.get("authorization") for request in seen] == [
        "Bearer hf_secret",
        None,
    ]
    assert "hf_secret" not in repr(source)


def test_a_token_is_for_one_place() -> None:
    env = {"HF_ENDPOINT": "https://hub.test:8443", "HF_TOKEN": "hf_secret"}
    source = parse_source("hf:o/r/a.gguf", env)
    assert source.headers(source.url) == {"Authorization": "Bearer hf_secret"}
    for other in ("https://hub.test/a", "https://hub.test:9/a", "http://hub.test:8443/a"):
        assert source.headers(httpx.URL(other)) == {}


def test_a_revision_is_one_part_of_an_address() -> None:
    url = parse_source("hf:o/r/in/a.gguf@refs/pr/1", {}).url
    assert str(url) == "https://huggingface.co/o/r/resolve/refs%2Fpr%2F1/in/a.gguf"


def test_another_digest_than_was_given_is_refused_before_the_file_is_paid_for(
    model: bytes, models: Path
) -> None:
    said = {"X-Linked-Etag": '"' + "a" * 64 + '"'}

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=said, stream=httpx.ByteStream(model))

    wanted = Wanted(parse_source("https://hub.test/a", {}), sha256="b" * 64)
    with pytest.raises(DownloadError, match="says that its SHA-256 is a"):
        Download(models, wanted, transport=httpx.MockTransport(answer)).run()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hf:nothing", "does not name a file"),
        ("hf:a/b/../../x.gguf", "does not name a file"),
        ("file:///etc/passwd", "cannot be fetched"),
        ("ftp://h/a", "cannot be fetched"),
        ("https:///a", "cannot be fetched"),
        ("https://h:port/a", "not an address"),
    ],
)
def test_sources_that_are_none(text: str, problem: str) -> None:
    with pytest.raises(DownloadError, match=problem) as caught:
        parse_source(text, {})
    assert caught.value.hint


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=80),
        st.text(max_size=60).map("hf:a/b/".__add__),
        st.text(max_size=60).map("https://h.test/".__add__),
        st.text(max_size=60).map("https://".__add__),
    )
)
def test_any_text_is_a_source_or_none(text: str) -> None:
    with contextlib.suppress(DownloadError):
        source = parse_source(text, {})
        assert source.url.scheme in ("http", "https")
        assert source.url.host
        assert source.file_name


@pytest.mark.parametrize("token", ["hf_\u00e9", "hf_a\nX-Other: b", "two words"])
def test_a_token_that_no_header_can_hold_is_told_and_not_shown(token: str) -> None:
    with pytest.raises(DownloadError, match="HF_TOKEN is not a token") as caught:
        parse_source("hf:o/r/a.gguf", {"HF_TOKEN": token})
    assert token not in str(caught.value)
    assert parse_source("hf:o/r/a.gguf", {"HF_TOKEN": " hf_a\n"}).token == "hf_a"


def test_a_token_is_not_sent_over_plain_http() -> None:
    env = {"HF_ENDPOINT": "http://hub.test", "HF_TOKEN": "hf_secret"}
    with pytest.raises(DownloadError, match="could read HF_TOKEN") as caught:
        parse_source("hf:o/r/a.gguf", env)
    assert "hf_secret" not in caught.value.diagnostics()
    assert parse_source("hf:o/r/a.gguf", {"HF_ENDPOINT": "http://hub.test"}).token == ""


def test_plain_http_needs_a_digest() -> None:
    source = parse_source("http://example.test/a.gguf", {})
    with pytest.raises(DownloadError, match="plain HTTP"):
        Wanted(source)
    assert Wanted(source, "0" * 64)
    with pytest.raises(DownloadError, match="no SHA-256"):
        Wanted(source, "0" * 63)


def test_secrets_in_an_address_are_not_shown() -> None:
    assert parse_source("https://u:p@h.test/a.gguf?key=1#x", {}).shown == "https://h.test/a.gguf"


# ── broken and hostile servers ──────────────────────────────────────────────────────────────


def page(ask: Handler) -> None:
    text = b"<!DOCTYPE html><title>Sign in</title>"
    ask.head(200, Content_Length=len(text), Content_Type="text/html")
    ask.wfile.write(text)


def endless(ask: Handler) -> None:
    ask.head(200, Connection="close")
    ask.wfile.write(ask.told.body)
    while True:
        ask.wfile.write(bytes(1 << 16))


def longer(ask: Handler) -> None:
    ask.head(200, Content_Length=len(ask.told.body) + (2 << 20))
    ask.wfile.write(ask.told.body + bytes(2 << 20))


def shorter(ask: Handler) -> None:
    ask.head(200, Content_Length=len(ask.told.body) - 100)
    ask.wfile.write(ask.told.body[:-100])


def silent_cut(ask: Handler) -> None:
    ask.head(200, Connection="close")
    ask.wfile.write(ask.told.body[:50_000])
    ask.hang_up()


def empty(ask: Handler) -> None:
    ask.head(200, Content_Length=0)


def compressed(ask: Handler) -> None:
    ask.head(200, Content_Length=3, Content_Encoding="gzip")
    ask.wfile.write(b"abc")


def huge(ask: Handler) -> None:
    ask.head(200, Content_Length=1 << 50)
    ask.wfile.write(ask.told.body)


def missing(ask: Handler) -> None:
    ask.head(404, Content_Length=0)


def gated(ask: Handler) -> None:
    ask.head(403, Content_Length=0)


def unknown(ask: Handler) -> None:
    ask.head(401, Content_Length=0)


def uninvited_part(ask: Handler) -> None:
    size = len(ask.told.body)
    ask.head(206, Content_Length=size, Content_Range=f"bytes 0-{size - 1}/{size}")
    ask.wfile.write(ask.told.body)


def to(where: str) -> Answer:
    return lambda ask: ask.head(302, Location=where, Content_Length=0)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (page, "it is a web page"),
        (endless, "sends more than"),
        (longer, "sends more than"),
        (shorter, "before its weights do"),
        (silent_cut, "bytes of a model that has"),
        (empty, "is empty"),
        (compressed, "compressed"),
        (huge, "says that it has"),
        (missing, "answers 404.*name of the repository"),
        (gated, "answers 403.*licence"),
        (unknown, "answers 401.*name of the repository.*licence"),
        (uninvited_part, "another part of the file"),
        (to("file:///etc/passwd"), "redirects to 'file'"),
        (to("gopher://h/"), "redirects to 'gopher'"),
        (to("/a"), "redirects more than"),
        (to("http://h:port/"), "Invalid URL in location"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_strange_answers_are_refused_and_leave_nothing_to_be_taken_for_a_model(
    server: Server,
    models: Path,
    answer: Answer,
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "MAX_HEADER_BYTES", 64 << 10)  # so that small bodies count
    server.answers["/a"] = answer
    with pytest.raises(ModelError) as caught:
        fetch(models, f"{server.url}/a")
    assert caught.value.hint
    assert re.search(problem, caught.value.diagnostics().replace("\n", " "))
    assert not list(models.glob("*.gguf"))


def test_a_server_that_stops_each_time_is_given_up(server: Server, models: Path) -> None:
    server.answers["/a"] = lambda ask: serve(ask, cut=0)
    with pytest.raises(DownloadError, match="http") as caught:
        fetch(models, f"{server.url}/a")
    assert caught.value.hint == "The same command goes on from here."
    assert len(server.seen) == download.TRIES


def test_a_part_of_another_place_is_not_appended(server: Server, models: Path) -> None:
    def wrong(ask: Handler) -> None:
        if "Range" not in ask.headers:
            serve(ask, cut=9_000)
            return
        size = len(server.body)
        ask.head(206, Content_Range=f"bytes 1-{size - 1}/{size}", Content_Length=size - 1)
        ask.wfile.write(server.body[1:])

    server.answers["/a"] = wrong
    with pytest.raises(DownloadError, match="another part"):
        fetch(models, f"{server.url}/a")


def test_sizes_and_digests_that_were_given_are_held_to(server: Server, models: Path) -> None:
    with pytest.raises(DownloadError, match="where 7 were expected"):
        fetch(models, f"{server.url}/a", size=7)
    with pytest.raises(DownloadError, match="was expected"):
        fetch(models, f"{server.url}/a", sha256="0" * 64)
    assert kept(models) == []


def test_nobody_listens(models: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match="ConnectError"):
        fetch(models, f"http://127.0.0.1:{port}/a")


def test_no_proxy_is_asked_for_a_model_on_this_machine(
    server: Server, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(models, f"{server.url}/a").sha256 == hashlib.sha256(server.body).hexdigest()


@pytest.mark.parametrize(
    ("name", "value"),
    [("https_proxy", "foo://x"), ("no_proxy", "[::1"), ("SSL_CERT_FILE", "/nonexistent")],
)
def test_an_environment_that_leads_nowhere_is_told(
    name: str, value: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(DownloadError, match="what the environment says") as caught:
        fetch(models, "https://host.test/a.gguf")
    assert "SSL_CERT_FILE" in caught.value.hint


def test_https_is_not_left_for_http_nor_for_this_machine(models: Path) -> None:
    here = ("127.0.0.1", "127.0.0.2", "127.1", "2130706433", "0x7f.1", "0.0.0.0", "localhost.")
    here += ("a.localhost", "[::1]", "[::]", "[::ffff:127.0.0.1]")
    for where, problem in (
        ("http://store.test/x", "plain http"),
        *((f"https://{host}/x", "this machine") for host in here),
    ):
        answer = httpx.Response(302, headers={"Location": where})
        transport = httpx.MockTransport(lambda _request, answer=answer: answer)
        wanted = Wanted(parse_source("https://host.test/a.gguf", {}))
        with pytest.raises(DownloadError, match=problem):
            Download(models, wanted, transport=transport).run()


def test_a_full_disk_is_noticed_before_anything_is_written(
    server: Server, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "KEEP_FREE_BYTES", 1 << 60)
    with pytest.raises(DownloadError, match=r"more bytes on the disk .* are free"):
        fetch(models, f"{server.url}/a")
    assert kept(models) == [0]


def test_the_last_of_a_disk_is_left_to_others_while_a_file_comes(
    server: Server, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_LOOK_BYTES", len(server.body) // 4)

    def others_write(done: int, _all: int) -> None:
        if done > len(server.body) // 4:
            monkeypatch.setattr(download, "KEEP_FREE_BYTES", 1 << 60)

    with pytest.raises(DownloadError, match=r"more bytes on the disk .* are free"):
        fetch(models, f"{server.url}/a", progress=others_write)
    assert 0 < kept(models)[0] < len(server.body)


def test_a_disk_that_fills_up_meanwhile_is_an_error_and_no_model(
    server: Server, models: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        with pytest.raises(DownloadError, match="cannot be written: File too large"):
            fetch(models, f"{server.url}/a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(models.glob("*.gguf"))
    assert fetch(models, f"{server.url}/a").path.read_bytes() == server.body


def test_a_header_that_is_refused_ends_the_fetch_and_keeps_what_came(
    server: Server, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_HEADER_BYTES", 64 << 10)

    def refuse(_header: Header) -> None:
        raise ModelError("does not fit")

    with pytest.raises(ModelError, match="does not fit"):
        fetch(models, f"{server.url}/a", on_header=refuse)
    assert kept(models)[0] >= 64 << 10


def test_two_do_not_fetch_the_same_at_once(server: Server, models: Path) -> None:
    def again(_done: int, _total: int) -> None:
        with pytest.raises(DownloadError, match="being fetched already"):
            fetch(models, f"{server.url}/a")
        forget_unfinished(models)  # leaves what is being fetched

    assert fetch(models, f"{server.url}/a", progress=again).path.read_bytes() == server.body


def test_a_file_that_was_just_moved_to_its_place_is_not_begun_anew(
    server: Server, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is second opened the file before the first moved it, and locks it after."""
    got = fetch(models, f"{server.url}/a")
    lock = partial._lock

    def move_and_lock(file: BinaryIO, what: str) -> None:
        got.path.rename(models / "a.gguf")
        lock(file, what)

    monkeypatch.setattr(partial, "_lock", move_and_lock)
    with pytest.raises(DownloadError, match="just fetched by another"):
        fetch(models, f"{server.url}/a")
    assert (models / "a.gguf").read_bytes() == server.body


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"source": 1}', '{"source": "a", "etag": "\\n"}']
)
def test_a_bad_note_only_begins_anew(server: Server, models: Path, text: str) -> None:
    server.answers["/a"] = lambda ask: serve(ask, cut=9_000)
    with pytest.raises(KeyboardInterrupt):
        fetch(models, f"{server.url}/a", progress=stop_at(9_000))
    (note,) = (models / FOLDER).glob("*.json")
    note.write_text(text)
    del server.answers["/a"]
    assert fetch(models, f"{server.url}/a").path.read_bytes() == server.body
    assert server.ranges[-1] == ""


def test_beginnings_can_be_listed_and_removed(server: Server, models: Path) -> None:
    server.answers["/a"] = lambda ask: serve(ask, cut=9_000)
    with pytest.raises(KeyboardInterrupt):
        fetch(models, f"{server.url}/a", progress=stop_at(9_000))
    assert unfinished(models) == [(f"{server.url}/a", 9_000)]
    forget_unfinished(models)
    assert unfinished(models) == []
    assert list((models / FOLDER).iterdir()) == []


# ── anything a server can say ───────────────────────────────────────────────────────────────

NUMBERS = st.integers(-1, 1 << 70).map(str) | st.sampled_from(["0", "100", "x", "1,2", "", "٣"])
BYTES = st.binary(max_size=40)


@st.composite
def replies(draw: st.DrawFn) -> tuple[int, list[tuple[bytes, bytes]], int, int, bytes]:
    """Status, headers, which piece of the model is the body, and what stands after it."""
    headers: list[tuple[bytes, bytes]] = []
    for name, values in {
        "content-length": NUMBERS,
        "content-range": st.builds("bytes {}-{}/{}".format, NUMBERS, NUMBERS, NUMBERS),
        "etag": st.sampled_from(['"a"', '"b"', 'W/"a"', "a", '"']) | st.text(max_size=9),
        "x-linked-etag": st.sampled_from(['"' + "0" * 64 + '"', "0" * 64, '"x"']),
        "x-linked-size": NUMBERS,
        "location": st.sampled_from(["/a", "https://h.test/b", "ftp://x", "//", "\x00", ":", "é"]),
        "content-encoding": st.sampled_from(["identity", "gzip", "br"]),
    }.items():
        if draw(st.booleans()):
            headers.append((name.encode(), draw(values).encode()))
    status = draw(st.sampled_from([200, 200, 206, 206, 302, 307, 416, 404, 500, 503]))
    return status, headers, draw(st.integers(0, 200)), draw(st.integers(0, 400)), draw(BYTES)


@settings(max_examples=200, deadline=None)
@given(script=st.lists(replies(), min_size=1, max_size=6))
def test_whatever_a_server_says_it_is_an_error_or_a_whole_model(
    tmp_path_factory: pytest.TempPathFactory,
    script: list[tuple[int, list[tuple[bytes, bytes]], int, int, bytes]],
) -> None:
    small = pack_gguf([pair("general.architecture", "str", "x")], {"a": np.ones((1, 32))})
    models = tmp_path_factory.mktemp("any")
    turns = iter(script * 8)

    def answer(_request: httpx.Request) -> httpx.Response:
        status, headers, start, length, more = next(turns, script[-1])
        body = small[start : start + length] + more
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))

    wanted = Wanted(parse_source("https://h.test/a.gguf", {}))
    transport = httpx.MockTransport(answer)
    with contextlib.suppress(ModelError):
        got = Download(models, wanted, transport=transport, pause=lambda _s: None).run()
        data = got.path.read_bytes()
        assert hashlib.sha256(data).hexdigest() == got.sha256
        assert len(data) == got.size >= read_header(got.path).file_bytes
    assert not list(models.glob("*.gguf"))
