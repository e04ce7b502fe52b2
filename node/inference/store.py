"""Models by name, pinned by SHA-256.

`models.lock` (TOML) maps a name to a digest, a size and a file. A file is hashed before it is
loaded, and one that differs from its pin is refused. Hashing 20 GB takes a minute, so the digest is
remembered beside the identity of the file it was taken from (device, inode, size, mtime and ctime
in nanoseconds); whatever changes the bytes changes one of these. `verify` always hashes again.

The model shipped with the package is found under the name "default" without being copied, unless
the user has pinned another under that name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from node.clock import Clock, SystemClock
from node.errors import ModelError
from node.inference.files import Identity, Progress, digest, identity, replacing
from node.inference.gguf import read_header
from node.inference.gguf_header import Header

SHIPPED: Final = Path(__file__).parent / "default_model"
LOCK_FILE: Final = "models.lock"
DIGESTS_FILE: Final = ".digests.json"
_CHANGED_HINT = "Restore the file; or, if the change is yours, remove the model and add it."
_SHIPPED_HINT = (
    "Install Freehold again. Who has trained the model anew pins it by "
    "python -c 'from node.inference import pin_shipped; pin_shipped()'"
)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SETTLED_S = 2.0  # a file written less than this before it was hashed is hashed again next time


@dataclass(frozen=True)
class Pin:
    """A model's entry in the lock. `file` is absolute, or relative to the lock's folder."""

    name: str
    sha256: str
    size: int
    file: str
    source: str = ""
    shipped: bool = False


@dataclass(frozen=True)
class CheckedFile:
    """A file that was just found to be what its pin says."""

    pin: Pin
    path: Path
    identity: Identity


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
        self._clock = clock or SystemClock()

    def list(self) -> list[Pin]:
        """All pins, by name.

        Raises:
            ModelError: the lock cannot be read.
        """
        pins = {pin.name: pin for pin in _read_lock(self._shipped / "model.lock", shipped=True)}
        pins.update(self._mine())
        return sorted(pins.values(), key=lambda pin: pin.name)

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
        path = self.path(pin)
        with _open(path, name) as file:
            now = identity(os.fstat(file.fileno()))
            if self._remembered().get(str(path)) == [*now, pin.sha256]:
                return CheckedFile(pin, path, now)
            return self._hash(pin, path, file, progress)

    def verify(self, name: str, *, progress: Progress | None = None) -> CheckedFile:
        """As `check`, but always hashes.

        Raises:
            ModelError: as `check`.
        """
        pin = self.get(name)
        path = self.path(pin)
        with _open(path, name) as file:
            return self._hash(pin, path, file, progress)

    def header(self, name: str) -> Header:
        """What the model's file says of itself.

        Raises:
            ModelError: no such model, or the file is missing or is not a GGUF.
        """
        pin = self.get(name)
        with _open(self.path(pin), name):
            return read_header(self.path(pin))

    def add(
        self,
        source: Path,
        name: str | None = None,
        *,
        in_place: bool = False,
        progress: Progress | None = None,
    ) -> Pin:
        """Pins a GGUF file, copied into the store, or where it stands if `in_place`.

        Raises:
            ModelError: the name is taken or not a name, the file is not a GGUF, or unreadable.
        """
        chosen = name or _name_of(source)
        if not _NAME.fullmatch(chosen):
            raise ModelError(
                f"{chosen!r} cannot be the name of a model",
                hint="Give --name with lower-case letters, digits, '.', '_' or '-'.",
            )
        read_header(source)
        with self._alone():
            mine = self._mine()
            if chosen in mine:
                raise ModelError(
                    f"there is a model {chosen!r} already",
                    hint=f"`freehold model remove {chosen}` removes it; --name gives another name.",
                )
            pin = self._take_in(source.resolve(), chosen, in_place, progress)
            self._write({**mine, chosen: pin})
        return pin

    def remove(self, name: str) -> None:
        """Forgets a pin; deletes the file if it is the store's own copy.

        Raises:
            ModelError: there is no such model, or it is the shipped one.
        """
        pin = self.get(name)
        if pin.shipped:
            raise ModelError(
                f"the model {name!r} comes with Freehold and cannot be removed",
                hint='Agents use another model by `model = "NAME"` in their manifest.',
            )
        with self._alone():
            mine = self._mine()
            mine.pop(name, None)
            self._write(mine)
        if not Path(pin.file).is_absolute():
            self.path(pin).unlink(missing_ok=True)

    def _take_in(self, source: Path, name: str, in_place: bool, progress: Progress | None) -> Pin:
        with _open(source, name) as file:
            if in_place:
                sha256, size = digest(file, progress)
                return Pin(name, sha256, size, str(source), str(source))
            target = self._folder / f"{name}.gguf"
            with replacing(target) as copy:
                sha256, size = digest(file, progress, copy)
            return Pin(name, sha256, size, target.name, str(source))

    def _hash(self, pin: Pin, path: Path, file: BinaryIO, progress: Progress | None) -> CheckedFile:
        before, started = identity(os.fstat(file.fileno())), self._clock.wall()
        sha256, size = digest(file, progress)
        if identity(os.fstat(file.fileno())) != before:
            raise ModelError(f"{path} changed while it was read", hint="Try again.")
        if sha256 != pin.sha256:
            raise ModelError(
                f"the file of the model {pin.name!r} is not what was pinned: {path} has SHA-256 "
                f"{sha256} and {size} bytes, its pin says {pin.sha256} and {pin.size} bytes",
                hint=_SHIPPED_HINT if pin.shipped else _CHANGED_HINT,
            )
        if started - max(before[3:]) / 1e9 > _SETTLED_S:
            self._remember(str(path), [*before, sha256])
        return CheckedFile(pin, path, before)

    def _remembered(self) -> dict[str, Any]:
        """Digests taken before. A cache: whatever is wrong with it, it is only empty."""
        try:
            value = json.loads((self._folder / DIGESTS_FILE).read_text())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _remember(self, path: str, entry: Any) -> None:
        if not self._folder.is_dir():
            return
        entries = {**self._remembered(), path: entry}
        with contextlib.suppress(OSError), replacing(self._folder / DIGESTS_FILE) as file:
            file.write(json.dumps(entries).encode())

    def _mine(self) -> dict[str, Pin]:
        return {pin.name: pin for pin in _read_lock(self._folder / LOCK_FILE)}

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time changes the lock file; the others wait."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / f".{LOCK_FILE}.held").open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def _write(self, pins: dict[str, Pin]) -> None:
        with replacing(self._folder / LOCK_FILE) as file:
            file.write(lock_text(pins.values()).encode())


def lock_text(pins: Any) -> str:
    """A lock of these pins, as TOML."""
    import tomlkit  # slow to import, and only needed to write

    document = tomlkit.document()
    document.add(tomlkit.comment("Models by name, pinned by SHA-256. Written by `freehold model`."))
    document["version"] = 1
    models = tomlkit.table(is_super_table=True)
    for pin in sorted(pins, key=lambda pin: pin.name):
        entry = asdict(pin)
        models[pin.name] = {key: entry[key] for key in ("sha256", "size", "file", "source")}
    document["models"] = models
    return tomlkit.dumps(document)


def pin_shipped(folder: Path = SHIPPED) -> Pin:
    """Writes `model.lock` beside `default.gguf`, as who trains the model does at the end."""
    with _open(folder / "default.gguf", "default") as file:
        sha256, size = digest(file, None)
    pin = Pin("default", sha256, size, "default.gguf", "scripts/train_default_model")
    with replacing(folder / "model.lock", mode=0o644) as file:
        file.write(lock_text([pin]).encode())
    return pin


def _read_lock(path: Path, *, shipped: bool = False) -> list[Pin]:
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", hint="Restore it.") from error
    models = value.get("models", {})
    if value.get("version") != 1 or not isinstance(models, dict):
        raise ModelError(f"{path} is not a lock of version 1", hint="Restore it from a backup.")
    return [_pin(path, name, entry, shipped) for name, entry in models.items()]


def _pin(path: Path, name: str, entry: Any, shipped: bool) -> Pin:
    fields = {"sha256": str, "size": int, "file": str, "source": str}
    right = (
        isinstance(entry, dict)
        and set(entry) == set(fields)
        and all(type(entry[key]) is kind for key, kind in fields.items())
        and _NAME.fullmatch(name)
        and _SHA256.fullmatch(entry["sha256"])
        and (Path(entry["file"]).is_absolute() or Path(entry["file"]).name == entry["file"])
    )
    if not right:
        raise ModelError(
            f"{path}: the entry of {name!r} is not a pin",
            hint="A pin has sha256 (64 hex digits), size, file and source.",
        )
    return Pin(name=name, shipped=shipped, **entry)


def _name_of(source: Path) -> str:
    return source.name.removesuffix(".gguf").lower().replace(" ", "-")


@contextlib.contextmanager
def _open(path: Path, name: str) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise ModelError(
            f"the file of the model {name!r} cannot be read: {path}: {error.strerror}",
            hint="Restore it, or remove the model and add it again.",
        ) from error
