"""Models by name, pinned; a changed file is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.clock import ManualClock
from node.errors import ModelError
from node.inference import ModelStore, pin_shipped
from node.inference.testing import TinyModel, write_tiny_gguf


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "Tiny Model.gguf")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", shipped=tmp_path / "shipped")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_add_list_get_check_remove(store: ModelStore, gguf: Path, tmp_path: Path) -> None:
    assert store.list() == []
    pin = store.add(gguf)
    assert (pin.name, pin.file, pin.size) == ("tiny-model", "tiny-model.gguf", gguf.stat().st_size)
    assert pin.sha256 == sha256(gguf)
    assert store.list() == [pin]
    again = ModelStore(tmp_path / "models", shipped=tmp_path / "shipped")
    assert again.get("tiny-model") == pin
    copy = again.check("tiny-model").path
    assert copy.read_bytes() == gguf.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600
    again.remove("tiny-model")
    assert not copy.exists()
    assert gguf.exists()
    assert again.list() == []


def test_two_who_add_at_once_both_succeed(store: ModelStore, gguf: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.add(gguf, f"m{number}"), range(8)))
    assert [pin.name for pin in store.list()] == [f"m{number}" for number in range(8)]


def test_a_file_pinned_in_place_is_not_copied_nor_deleted(store: ModelStore, gguf: Path) -> None:
    pin = store.add(gguf, "here", in_place=True)
    assert store.check("here").path == gguf
    assert Path(pin.file).is_absolute()
    store.remove("here")
    assert gguf.exists()


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", ".hidden", "x" * 65, "a b"])
def test_names_are_plain(store: ModelStore, gguf: Path, name: str) -> None:
    if not name:
        return
    with pytest.raises(ModelError, match="cannot be the name"):
        store.add(gguf, name)


def test_errors_say_what_to_do(store: ModelStore, gguf: Path, tmp_path: Path) -> None:
    store.add(gguf, "a")
    with pytest.raises(ModelError, match="already") as caught:
        store.add(gguf, "a")
    assert "freehold model remove a" in caught.value.hint
    with pytest.raises(ModelError, match="there are: a"):
        store.get("b")
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="does not begin with GGUF"):
        store.add(junk)
    assert [pin.name for pin in store.list()] == ["a"]
    store.path(store.get("a")).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        store.check("a")


def test_a_changed_file_is_refused(store: ModelStore, gguf: Path) -> None:
    path = store.path(store.add(gguf, "a"))
    store.check("a")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    stat = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same mtime
    for look in (store.check, store.verify):
        with pytest.raises(ModelError, match="is not what was pinned"):
            look("a")


def test_a_digest_is_remembered_only_for_a_file_at_rest(
    store: ModelStore, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.path(store.add(gguf, "a"))
    written = path.stat().st_ctime
    fresh = ModelStore(tmp_path / "models", clock=ManualClock(wall_s=written + 0.5))
    fresh.check("a")
    assert not (tmp_path / "models" / ".digests.json").exists()
    later = ModelStore(tmp_path / "models", clock=ManualClock(wall_s=written + 60))
    later.check("a")
    assert str(path) in json.loads((tmp_path / "models" / ".digests.json").read_text())

    def never(*_args: object) -> tuple[str, int]:
        raise AssertionError("hashed again")

    monkeypatch.setattr("node.inference.store.digest", never)
    assert later.check("a").pin.name == "a"
    with pytest.raises(AssertionError):
        later.verify("a")


def test_a_bad_cache_is_only_empty(store: ModelStore, gguf: Path, tmp_path: Path) -> None:
    store.add(gguf, "a")
    for junk in ("", "[]", "{", '{"x": 1}'):
        (tmp_path / "models" / ".digests.json").write_text(junk)
        assert store.check("a").pin.name == "a"


def test_the_shipped_model_is_there_unless_another_has_its_name(
    store: ModelStore, gguf: Path, tmp_path: Path
) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    shutil.copy(gguf, shipped / "default.gguf")
    pin = pin_shipped(shipped)
    assert store.list() == [store.get("default")]
    assert store.get("default").sha256 == pin.sha256
    assert store.check("default").path == shipped / "default.gguf"
    with pytest.raises(ModelError, match="comes with Freehold"):
        store.remove("default")
    other = write_tiny_gguf(tmp_path / "other.gguf", TinyModel(seed=2))
    store.add(other, "default")
    assert store.get("default").sha256 == sha256(other)
    store.remove("default")
    assert store.get("default").sha256 == pin.sha256


@pytest.mark.parametrize(
    "text",
    [
        "version = 2",
        "nonsense",
        'version = 1\nmodels = "x"',
        'version = 1\n[models.a]\nsha256 = "00"\nsize = 1\nfile = "a"\nsource = ""',
        f'version = 1\n[models.a]\nsha256 = "{"0" * 64}"\nsize = true\nfile = "a"\nsource = ""',
        f'version = 1\n[models.a]\nsha256 = "{"0" * 64}"\nsize = 1\nfile = "../a"\nsource = ""',
        f'version = 1\n[models.a]\nsha256 = "{"0" * 64}"\nsize = 1\nfile = "a"\nsource = ""\nx = 1',
        f'version = 1\n[models."../a"]\nsha256 = "{"0" * 64}"\nsize = 1\nfile = "a"\nsource = ""',
    ],
)
def test_a_lock_that_is_not_one_is_refused(store: ModelStore, tmp_path: Path, text: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "models.lock").write_text(text)
    with pytest.raises(ModelError, match=r"models\.lock"):
        store.list()


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=80))
def test_any_lock_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("lock")
    (folder / "models.lock").write_bytes(b"version = 1\n" + data)
    with contextlib.suppress(ModelError):
        ModelStore(folder, shipped=folder).list()
