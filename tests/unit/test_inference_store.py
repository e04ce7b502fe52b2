"""Models by name, pinned; a changed file is refused."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.clock import ManualClock
from node.errors import ModelError
from node.inference import BenchRecord, ModelStore, pin_shipped
from node.inference.testing.gguf import TinyModel, write_tiny_gguf


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


def test_a_file_that_is_written_while_it_is_read_is_refused(store: ModelStore, gguf: Path) -> None:
    pin = store.add(gguf, "mine")
    with pytest.raises(ModelError, match="changed while it was read"):
        store.verify("mine", progress=lambda _done, _all: os.utime(store.path(pin)))


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

    monkeypatch.setattr("node.inference.models.digests.digest", never)
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
        pins = ModelStore(folder, shipped=folder).list()
        assert pins == []  # no 80 bytes name a model with its digest


# ── what a bench found ──────────────────────────────────────────────────────────────────────


def record(digest: str) -> BenchRecord:
    return BenchRecord(
        sha256=digest,
        at="2031-01-01T00:00:00Z",
        verdict="only with grammar",
        exam_cases=30,
        exam_grammar=25,
        exam_plain=3,
        agents=(1, 4, 8),
        prompt_tokens_per_s=(10.0, 20.0, 30.5),
        generated_tokens_per_s=(1.0, 2.0, 3.5),
        first_token_cold_s=0.5,
        first_token_kept_s=0.05,
        memory_bytes=1 << 30,
    )


def test_what_a_bench_found_is_kept_with_the_pin(
    store: ModelStore, gguf: Path, tmp_path: Path
) -> None:
    pin = store.add(gguf, "a.b")
    assert store.bench("a.b") is None
    store.keep_bench("a.b", record(pin.sha256))
    again = ModelStore(tmp_path / "models", shipped=tmp_path / "shipped")
    assert again.bench("a.b") == record(pin.sha256)
    store.add(gguf, "c")
    assert again.bench("a.b") == record(pin.sha256)
    store.remove("a.b")
    assert "a.b" not in (tmp_path / "models" / "models.lock").read_text()


def test_what_was_found_of_other_weights_is_not_shown(store: ModelStore, gguf: Path) -> None:
    store.add(gguf, "a")
    store.keep_bench("a", record("0" * 64))
    assert store.bench("a") is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('verdict = "only with grammar"', 'verdict = "splendid"'),
        ("agents = [1, 4, 8]", "agents = [1, 4]"),
        ("agents = [1, 4, 8]", 'agents = "three"'),
        ("memory_bytes = 1073741824", "memory_bytes = true"),
        ("exam_plain = 3\n", ""),
        ("exam_plain = 3", "exam_plain = 3\nmore = 1"),
        ("at = ", "at = 1979-05-27 #"),
    ],
)
def test_findings_that_cannot_be_read_are_dropped_and_pins_are_kept(
    store: ModelStore, gguf: Path, tmp_path: Path, before: str, after: str
) -> None:
    pin = store.add(gguf, "a")
    store.keep_bench("a", record(pin.sha256))
    lock = tmp_path / "models" / "models.lock"
    text = lock.read_text()
    assert before in text
    lock.write_text(text.replace(before, after))
    assert store.bench("a") is None
    assert store.get("a") == pin


# ── adopting what was fetched ───────────────────────────────────────────────────────────────


def test_a_fetched_file_is_moved_to_its_name(store: ModelStore, gguf: Path, tmp_path: Path) -> None:
    part = tmp_path / "models" / ".partial" / "x.part"
    part.parent.mkdir(parents=True)
    shutil.copy(gguf, part)
    digest, size = sha256(gguf), gguf.stat().st_size
    pin = store.adopt(part, "got", sha256=digest, size=size, source="hf:o/r/x.gguf")
    assert store.verify("got").pin == pin
    assert not part.exists()
    with pytest.raises(ModelError, match="cannot be moved"):
        store.adopt(part, "other", sha256=digest, size=size, source="")
    with pytest.raises(ModelError, match="already"):
        store.adopt(gguf, "got", sha256=digest, size=size, source="")
    assert [each.name for each in store.list()] == ["got"]


def test_a_digest_that_was_given_is_held_to(store: ModelStore, gguf: Path, tmp_path: Path) -> None:
    for in_place in (False, True):
        with pytest.raises(ModelError, match="not 0000"):
            store.add(gguf, "a", in_place=in_place, sha256="0" * 64)
    assert store.list() == []
    assert not list((tmp_path / "models").glob("*.gguf"))
    store.add(gguf, "a", sha256=sha256(gguf).upper())


def test_a_copy_wants_room_on_the_disk(
    store: ModelStore, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.inference.models.store.KEEP_FREE_BYTES", 1 << 60)
    with pytest.raises(ModelError, match="are free") as caught:
        store.add(gguf, "a")
    assert "--in-place" in caught.value.hint
    store.add(gguf, "a", in_place=True)


def test_a_copy_never_takes_the_place_of_a_file_pinned_in_place(
    store: ModelStore, gguf: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copy(gguf, tmp_path / "mine.gguf"))
    store.add(gguf, "first")
    here = tmp_path / "models" / "big.gguf"
    write_tiny_gguf(here, TinyModel(seed=2))
    store.add(here, "favourite", in_place=True)
    with pytest.raises(ModelError, match="is the file of the model 'favourite'"):
        store.add(gguf, "big")
    with pytest.raises(ModelError, match="is the file of the model 'favourite'"):
        store.adopt(mine, "big", sha256=sha256(mine), size=mine.stat().st_size, source="x")
    assert store.verify("favourite").path == here


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A disk on which nothing can be written until this is undone."""

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("node.disk.sync", full)
        yield patched


def test_a_full_disk_is_not_said_to_be_the_source(
    store: ModelStore, gguf: Path, tmp_path: Path, full_disk: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"cannot write .*models/tiny-model.gguf: No space"):
        store.add(gguf)
    assert [path for path in (tmp_path / "models").iterdir() if "gguf" in path.name] == []
    full_disk.undo()
    assert store.add(gguf).name == "tiny-model"


def test_a_model_that_fills_the_disk_can_be_removed(
    store: ModelStore, gguf: Path, full_disk: pytest.MonkeyPatch
) -> None:
    full_disk.undo()
    file = store.path(store.add(gguf))
    full_disk.setattr("node.disk.sync", _full_while(file))
    store.remove("tiny-model")
    assert (store.list(), file.exists()) == ([], False)


def _full_while(there: Path) -> Callable[[int], None]:
    def sync(_fd: int) -> None:
        if there.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return sync


def test_what_a_killed_add_copied_goes_with_the_next_change(
    store: ModelStore, gguf: Path, tmp_path: Path
) -> None:
    store.add(gguf)
    left = tmp_path / "models" / f".big.gguf.{'0' * 16}.tmp"
    left.write_bytes(b"half of it")
    store.remove("tiny-model")
    assert not left.exists()


def test_what_was_fetched_is_kept_where_its_pin_cannot_be(
    store: ModelStore, gguf: Path, tmp_path: Path, full_disk: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "models" / ".partial" / "k.part"
    part.parent.mkdir(parents=True)
    shutil.copy(gguf, part)
    found = {"sha256": sha256(gguf), "size": gguf.stat().st_size, "source": "hf:a/b/c.gguf"}
    with pytest.raises(ModelError, match=r"cannot write .*models.lock: No space"):
        store.adopt(part, "m", **found)
    assert part.exists()
    full_disk.undo()
    assert store.check(store.adopt(part, "m", **found).name).path.name == "m.gguf"
