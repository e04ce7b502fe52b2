"""Models by name, pinned by SHA-256.

`models.lock` (TOML) maps a name to a digest, a size and a file. A file is hashed before it is
loaded (`digests`), and one that differs from its pin is refused.

The model shipped with the package is found under the name "default" without being copied, unless
the user has pinned another under that name.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from node.clock import Clock, SystemClock
from node.disk import is_unfinished, private_file, write_private
from node.errors import ModelError
from node.inference.models.digests import CheckedFile, Digests, opened
from node.inference.models.files import KEEP_FREE_BYTES, Progress, changing, digest
from node.inference.models.gguf import read_header
from node.inference.models.gguf_header import Header
from node.inference.models.pins import BenchRecord, Lock, Pin, is_name, lock_text, read_lock

SHIPPED: Final = Path(__file__).parent.parent / "default_model"
LOCK_FILE: Final = "models.lock"


class ModelStore:
    """The models in one folder, and the shipped one.

    Args:
        folder: `models/` of a home; made when something is added.
        shipped: the folder of the model in the package, with a `model.lock` of its own.
    """

    def __init__(
        self, folder: Path, *, shipped: Path = SHIPPED, clock: Clock | None = None
    ) -> None:
        self._folder = folder
        self._shipped = shipped
        self._digests = Digests(folder, clock or SystemClock())

    def list(self) -> list[Pin]:
        """All pins, by name.

        Raises:
            ModelError: the lock cannot be read.
        """
        shipped = read_lock(self._shipped / "model.lock", shipped=True).pins
        return sorted({**shipped, **self._mine().pins}.values(), key=lambda pin: pin.name)

    def get(self, name: str) -> Pin:
        """The pin of `name`.

        Raises:
            ModelError: there is none, or the lock cannot be read.
        """
        pins = {pin.name: pin for pin in self.list()}
        if name not in pins:
            raise ModelError(
                f"there is no model {name!r}; there are: {', '.join(pins) or 'none'}",
                hint="Add one with `freehold model add FILE.gguf`.",
            )
        return pins[name]

    def path(self, pin: Pin) -> Path:
        """Where the pin's file is."""
        return (self._shipped if pin.shipped else self._folder) / pin.file

    def check(self, name: str, *, progress: Progress | None = None) -> CheckedFile:
        """The file of `name`, found unchanged; hashed only if it may have changed since last time.

        Raises:
            ModelError: no such model, the file is missing, or it differs from its pin.
        """
        pin = self.get(name)
        return self._digests.check(pin, self.path(pin), progress)

    def verify(self, name: str, *, progress: Progress | None = None) -> CheckedFile:
        """As `check`, but always hashes.

        Raises:
            ModelError: as `check`.
        """
        pin = self.get(name)
        return self._digests.verify(pin, self.path(pin), progress)

    def header(self, name: str) -> Header:
        """What the model's file says of itself.

        Raises:
            ModelError: no such model, or the file is missing or is not a GGUF.
        """
        pin = self.get(name)
        with opened(self.path(pin), name):
            return read_header(self.path(pin))

    def add(
        self,
        source: Path,
        name: str | None = None,
        *,
        in_place: bool = False,
        sha256: str = "",
        progress: Progress | None = None,
    ) -> Pin:
        """Pins a GGUF file, copied into the store, or where it stands if `in_place`.

        Raises:
            ModelError: the name is taken or not a name, the file is not a GGUF, unreadable, or
                not the one with the `sha256` given; or there is no room for a copy.
        """
        chosen = self.free_name(name or name_of(source.name))
        read_header(source)
        if not in_place:
            self._check_disk(source.stat().st_size)
        with self._alone():
            mine = self._mine()
            _check_taken(chosen, mine)
            if not in_place:
                self._check_free(f"{chosen}.gguf", mine)
            pin = self._take_in(source.resolve(), chosen, in_place, sha256.lower(), progress)
            self._write(mine, {**mine.pins, chosen: pin})
        return pin

    def adopt(self, file: Path, name: str, *, sha256: str, size: int, source: str) -> Pin:
        """Pins a whole and checked file that lies in the store's folder, and moves it to its name.

        Raises:
            ModelError: the name is taken or not a name, or the file cannot be moved.
        """
        pin = Pin(self.free_name(name), sha256, size, f"{name}.gguf", source)
        with self._alone():
            mine = self._mine()
            _check_taken(name, mine)
            self._check_free(pin.file, mine)
            try:
                file.chmod(0o600)
                file.replace(self._folder / pin.file)
            except OSError as error:
                raise ModelError(
                    f"{file} cannot be moved to {self._folder / pin.file}: {error.strerror}",
                    hint="Look at the folder's rights, and try again.",
                ) from error
            try:
                self._write(mine, {**mine.pins, name: pin})
            except OSError:  # hours of fetching are not lost for want of a few bytes
                (self._folder / pin.file).replace(file)
                raise
        return pin

    def free_name(self, name: str) -> str:
        """The name, found to be one that a model can be added by.

        Raises:
            ModelError: it is taken, or not a name.
        """
        if not is_name(name):
            raise ModelError(
                f"{name!r} cannot be the name of a model",
                hint="Give --name with lower-case letters, digits, '.', '_' or '-'.",
            )
        _check_taken(name, self._mine())
        return name

    def bench(self, name: str) -> BenchRecord | None:
        """What the last bench found, if it was of these very weights.

        Raises:
            ModelError: there is no such model, or the lock cannot be read.
        """
        pin, record = self.get(name), self._mine().bench.get(name)
        return record if record is not None and record.sha256 == pin.sha256 else None

    def keep_bench(self, name: str, record: BenchRecord) -> None:
        """Keeps a bench's finding beside the pins."""
        with self._alone():
            mine = self._mine()
            self._write(replace(mine, bench={**mine.bench, name: record}), mine.pins)

    def remove(self, name: str) -> None:
        """Forgets a pin; deletes the file if it is the store's own copy.

        Raises:
            ModelError: there is no such model, or it is the shipped one.
        """
        with self._alone():
            pin = self.get(name)
            if pin.shipped:
                raise ModelError(
                    f"the model {name!r} comes with Freehold and cannot be removed",
                    hint='Agents use another model by `model = "NAME"` in their manifest.',
                )
            mine = self._mine()
            if not Path(pin.file).is_absolute():  # first: it may be what fills the disk
                self.path(pin).unlink(missing_ok=True)
            bench = {key: record for key, record in mine.bench.items() if key != name}
            pins = {key: kept for key, kept in mine.pins.items() if key != name}
            self._write(replace(mine, bench=bench), pins)

    def _take_in(
        self, source: Path, name: str, in_place: bool, expected: str, progress: Progress | None
    ) -> Pin:
        with opened(source, name) as file:
            if in_place:
                sha256, size = digest(file, progress)
                _check_digest(source, sha256, expected)
                return Pin(name, sha256, size, str(source), str(source))
            target = self._folder / f"{name}.gguf"
            with private_file(target) as copy:
                sha256, size = digest(file, progress, copy)
                _check_digest(source, sha256, expected)
            return Pin(name, sha256, size, target.name, str(source))

    def _mine(self) -> Lock:
        return read_lock(self._folder / LOCK_FILE)

    def _check_disk(self, more: int) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if free < more + KEEP_FREE_BYTES:
            raise ModelError(
                f"a copy takes {more} bytes on the disk of {self._folder}; {free} are free, "
                f"and {KEEP_FREE_BYTES} of them are kept",
                hint="Make room, or pin the file where it is with --in-place.",
            )

    def _check_free(self, file: str, lock: Lock) -> None:
        """Raises ModelError where a model that was pinned in place has the file of that name."""
        target = self._folder / file
        for pin in lock.pins.values():
            if target.exists() and self.path(pin).exists() and self.path(pin).samefile(target):
                raise ModelError(
                    f"{target} is the file of the model {pin.name!r}",
                    hint="Give another name with --name.",
                )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """The lock file is this process's to change. What one that was killed left of a model goes.

        Raises:
            ModelError: the disk refuses.
        """
        with changing(self._folder / LOCK_FILE):
            for path in filter(is_unfinished, self._folder.glob(".*.gguf.*")):
                path.unlink()
            yield

    def _write(self, lock: Lock, pins: Mapping[str, Pin]) -> None:
        write_private(self._folder / LOCK_FILE, lock_text(pins.values(), lock.bench).encode())


def pin_shipped(folder: Path = SHIPPED) -> Pin:
    """Writes `model.lock` beside `default.gguf`, as who trains the model does at the end."""
    with opened(folder / "default.gguf", "default") as file:
        sha256, size = digest(file, None)
    pin = Pin("default", sha256, size, "default.gguf", "scripts/train_default_model")
    lock = folder / "model.lock"
    write_private(lock, lock_text([pin]).encode())
    lock.chmod(0o644)
    return pin


def name_of(file_name: str) -> str:
    """What a model is called if nobody says: as its file, in lower case."""
    return file_name.removesuffix(".gguf").lower().replace(" ", "-")


def _check_digest(path: Path, sha256: str, expected: str) -> None:
    if expected not in ("", sha256):
        raise ModelError(
            f"{path} has the SHA-256 {sha256}, not {expected}", hint="Fetch the model again."
        )


def _check_taken(name: str, lock: Lock) -> None:
    if name in lock.pins:
        raise ModelError(
            f"there is a model {name!r} already",
            hint=f"`freehold model remove {name}` removes it; --name gives another name.",
        )
