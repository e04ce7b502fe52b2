"""The keystore: private files, refusals, repair."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.errors import IdentityError
from node.identity import HttpSecret, HttpSecrets, KeyStore
from node.identity.http import decode
from node.identity.keystore import NAME, SECRET_MAX_BYTES


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


def test_round_trip(store: KeyStore, tmp_path: Path) -> None:
    store.set("api", b"\x00secret\n")
    assert store.get("api") == b"\x00secret\n"
    assert store.names() == ["api"]
    (path,) = (tmp_path / "keys").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.set("api", b"new")
    assert store.get("api") == b"new"
    store.remove("api")
    assert store.names() == []


def test_what_is_replaced_or_removed_is_overwritten(store: KeyStore, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "api.secret"
    for forget in (lambda: store.set("api", b"new"), lambda: store.remove("api")):
        store.set("api", b"secret")
        with path.open("rb") as old:
            forget()
            assert old.read() == bytes(6)
    store.set("api", b"secret")
    backup = tmp_path / "backup"
    backup.hardlink_to(path)
    store.set("api", b"new")
    assert backup.read_bytes() == b"secret", "what has another name is somebody's"


def test_missing_secrets_are_named(store: KeyStore) -> None:
    with pytest.raises(IdentityError, match="api") as caught:
        store.get("api")
    assert "freehold secret set api" in caught.value.hint
    with pytest.raises(IdentityError, match="api"):
        store.remove("api")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_wide_file_is_refused_until_repaired(store: KeyStore, tmp_path: Path, mode: int) -> None:
    store.set("api", b"s")
    path = tmp_path / "keys" / "api.secret"
    path.chmod(mode)
    with pytest.raises(IdentityError, match="open to others"):
        store.get("api")
    assert len(store.problems()) == 1
    store.repair()
    assert store.problems() == []
    assert store.get("api") == b"s"


def test_a_wide_folder_is_refused(store: KeyStore, tmp_path: Path) -> None:
    store.set("api", b"s")
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(IdentityError, match="open to others"):
        store.get("api")
    store.repair()
    assert store.get("api") == b"s"


def test_links_and_odd_files_are_refused(store: KeyStore, tmp_path: Path) -> None:
    store.set("real", b"s")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"other")
    elsewhere.chmod(0o600)
    (tmp_path / "keys" / "link.secret").symlink_to(elsewhere)
    os.mkfifo(tmp_path / "keys" / "pipe.secret", 0o600)
    (tmp_path / "keys" / "folder.secret").mkdir(0o700)
    odd = (("link", "symbolic link"), ("pipe", "not a plain file"), ("folder", "cannot read"))
    for name, said in odd:
        with pytest.raises(IdentityError, match=said):
            store.get(name)
    elsewhere.chmod(0o644)
    store.repair()
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644
    store.set("link", b"mine")
    assert elsewhere.read_bytes() == b"other"
    assert store.get("link") == b"mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_file_of_somebody_else_is_refused(store: KeyStore, tmp_path: Path) -> None:
    """They could put another key in its place."""
    store.set("api", b"s")
    os.chown(tmp_path / "keys" / "api.secret", 12345, -1)
    with pytest.raises(IdentityError, match="belongs to uid 12345"):
        store.get("api")


@pytest.mark.parametrize("value", [b"", b"x" * 65_537])
def test_sizes_are_bounded(store: KeyStore, value: bytes) -> None:
    with pytest.raises(IdentityError, match="1 to 65536"):
        store.set("api", value)


@settings(max_examples=100, deadline=None)
@given(name=st.text(max_size=70) | st.text("a./_-", max_size=70))
def test_odd_names_cannot_leave_the_folder(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz-keys"
    store = KeyStore(folder)
    if not NAME.match(name):
        with pytest.raises(IdentityError):
            store.set(name, b"v")
        return
    store.set(name, b"v")
    assert store.get(name) == b"v"
    assert (folder / f"{name}.secret").resolve().parent == folder.resolve()
    store.remove(name)


# ── secrets for requests ────────────────────────────────────────────────────────────────────


def test_a_secret_is_for_the_agents_it_names(store: KeyStore, tmp_path: Path) -> None:
    secrets = HttpSecrets(tmp_path / "keys")
    assert secrets.headers("clerk") == {}
    assert secrets.values() == ()
    url = "https://api.example.org/*"
    store.set("one", HttpSecret(url, "Authorization", "Bearer top", ("clerk",)).encode())
    store.set("two", HttpSecret(url, "X-Key", "deep", ("clerk", "poet")).encode())
    assert secrets.headers("clerk") == {url: {"Authorization": "Bearer top", "X-Key": "deep"}}
    assert secrets.headers("poet") == {url: {"X-Key": "deep"}}
    assert set(secrets.values()) == {"Bearer top", "top", "deep"}
    assert "top" not in repr(secrets.all())
    store.set("two", HttpSecret(url, "X-Key", "new", ("poet",)).encode())
    assert secrets.headers("poet") == {url: {"X-Key": "new"}}
    store.remove("one")
    assert secrets.headers("clerk") == {}


def test_a_secret_that_took_anothers_inode_is_read(store: KeyStore, tmp_path: Path) -> None:
    """A file system gives a number that is free again to the next file."""
    url, path = "https://a.org/*", tmp_path / "keys" / "one.secret"
    store.set("one", HttpSecret(url, "X-Key", "old", ("clerk",)).encode())
    secrets = HttpSecrets(tmp_path / "keys")
    assert secrets.values() == ("old",)
    path.write_bytes(HttpSecret(url, "X-Key", "new", ("clerk",)).encode())
    assert secrets.headers("clerk") == {url: {"X-Key": "new"}}
    assert secrets.values() == ("new",), "what is not known is not kept out of the log"
    for value in ("a", "b", "c"):
        store.remove("one")
        store.set("one", HttpSecret(url, "X-Key", value, ("clerk",)).encode())
        assert secrets.values() == (value,)
    path.chmod(0o644)
    with pytest.raises(IdentityError, match="open to others"):
        secrets.headers("clerk")


def test_a_secret_others_can_read_is_not_sent(store: KeyStore, tmp_path: Path) -> None:
    store.set("one", HttpSecret("https://a.org/*", "X-Key", "v", ("clerk",)).encode())
    (tmp_path / "keys" / "one.secret").chmod(0o644)
    with pytest.raises(IdentityError, match="open to others"):
        HttpSecrets(tmp_path / "keys").headers("clerk")
    assert HttpSecrets(tmp_path / "keys").values() == ()


@pytest.mark.parametrize(
    ("header", "value"),
    [("X Key", "v"), ("", "v"), ("X:", "v")]
    + [("X-Key", v) for v in ("", "a\r\nB: c", "ü", " v", "Bearer v ", " ", "v" * 8193)],
)
def test_what_cannot_be_a_header_is_refused(header: str, value: str) -> None:
    with pytest.raises(IdentityError):
        HttpSecret("https://a.org/*", header, value, ("clerk",)).encode()


def test_a_space_behind_a_key_hides_it_from_no_guard(store: KeyStore, tmp_path: Path) -> None:
    """Its server takes the space away, and knows the key."""
    kept = HttpSecret("https://a.org/*", "X-Key", "Bearer topsecret", ("clerk",)).encode()
    store.set("one", kept.replace(b"topsecret", b"topsecret "))
    assert set(HttpSecrets(tmp_path / "keys").values()) == {"Bearer topsecret", "topsecret"}


@pytest.mark.parametrize("value", ["v", "Bearer v", "v" * 8192])
def test_what_can_be_a_headers_value_is_taken(value: str) -> None:
    secret = HttpSecret("https://a.org/*", "X-Key", value, ("clerk",))
    assert decode("x", secret.encode()) == secret


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=60) | st.text("{}[]\"':,ulrheadvg0", max_size=60).map(str.encode))
@example(content=b"[" * SECRET_MAX_BYTES)
def test_anything_else_in_the_keystore_is_said(content: bytes) -> None:
    with pytest.raises(IdentityError):
        decode("x", content)
