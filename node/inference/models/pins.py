"""`models.lock`: a model's name, what its file must be, and what a bench found it can do.

A lock that cannot be read is an error, since weights are trusted by it. The findings of a bench
are only shown, belong to one digest, and are dropped where they cannot be read.

Spec: TOML 1.0; `version = 1`, a table `models.NAME` a pin, a table `bench.NAME` a finding.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from node.errors import ModelError

Verdict = Literal["fit for agents", "only with grammar", "not fit", "not examined"]
VERSION: Final = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIN_FIELDS: Final = {"sha256": str, "size": int, "file": str, "source": str}
_HEAD: Final = "Models by name, pinned by SHA-256. Written by `freehold model`."


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
class BenchRecord:
    """What `freehold model bench` found of the weights with this digest, on this machine.

    The lists go together: tokens/s of all agents at once, prompt and generated, by how many agents
    there were. `exam_grammar` and `exam_plain` are the cases passed with and without the grammar.
    """

    sha256: str
    at: str
    verdict: Verdict
    exam_cases: int
    exam_grammar: int
    exam_plain: int
    agents: tuple[int, ...]
    prompt_tokens_per_s: tuple[float, ...]
    generated_tokens_per_s: tuple[float, ...]
    first_token_cold_s: float
    first_token_kept_s: float
    memory_bytes: int


@dataclass(frozen=True)
class Lock:
    """What a lock file says."""

    pins: Mapping[str, Pin]
    bench: Mapping[str, BenchRecord]


def is_name(text: str) -> bool:
    """Whether a model may be called so."""
    return bool(_NAME.fullmatch(text))


def read_lock(path: Path, *, shipped: bool = False) -> Lock:
    """The lock at `path`; an empty one if there is none.

    Raises:
        ModelError: it cannot be read, or is not a lock.
    """
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Lock({}, {})
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}", hint="Restore it.") from error
    models, bench = value.get("models", {}), value.get("bench", {})
    if value.get("version") != VERSION or not isinstance(models, dict):
        raise ModelError(
            f"{path} is not a lock of version {VERSION}, but {str(value.get('version'))[:20]}",
            hint="Use the version of Freehold that wrote it, or restore it from a backup.",
        )
    pins = {name: _pin(path, name, entry, shipped) for name, entry in models.items()}
    found = bench.items() if isinstance(bench, dict) else ()
    records = {name: _record(entry) for name, entry in found}
    return Lock(pins, {name: record for name, record in records.items() if record})


def lock_text(pins: Iterable[Pin], bench: Mapping[str, BenchRecord] | None = None) -> str:
    """A lock of these pins and findings, as TOML."""
    import tomlkit  # slow to import, and only needed to write

    document = tomlkit.document()
    document.add(tomlkit.comment(_HEAD))
    document["version"] = VERSION
    models, found = tomlkit.table(is_super_table=True), tomlkit.table(is_super_table=True)
    for pin in sorted(pins, key=lambda pin: pin.name):
        models[pin.name] = {key: getattr(pin, key) for key in _PIN_FIELDS}
    for name, record in sorted((bench or {}).items()):
        found[name] = asdict(record)
    document["models"] = models
    if bench:
        document["bench"] = found
    return tomlkit.dumps(document)


def _pin(path: Path, name: str, entry: Any, shipped: bool) -> Pin:
    right = (
        isinstance(entry, dict)
        and set(entry) == set(_PIN_FIELDS)
        and all(type(entry[key]) is kind for key, kind in _PIN_FIELDS.items())
        and is_name(name)
        and _SHA256.fullmatch(entry["sha256"])
        and (Path(entry["file"]).is_absolute() or Path(entry["file"]).name == entry["file"])
    )
    if not right:
        raise ModelError(
            f"{path}: the entry of {name!r} is not a pin",
            hint="A pin has sha256 (64 hex digits), size, file and source.",
        )
    return Pin(name=name, shipped=shipped, **entry)


def _record(entry: Any) -> BenchRecord | None:
    """The finding, or None where it is not one (of this version)."""
    if not isinstance(entry, dict) or set(entry) != {field.name for field in fields(BenchRecord)}:
        return None
    known = {key: tuple(item) if isinstance(item, list) else item for key, item in entry.items()}
    lists = (known["agents"], known["prompt_tokens_per_s"], known["generated_tokens_per_s"])
    numbers = [known[key] for key in ("exam_cases", "exam_grammar", "exam_plain", "memory_bytes")]
    numbers += [known["first_token_cold_s"], known["first_token_kept_s"]]
    right = (
        all(isinstance(known[key], str) for key in ("sha256", "at"))
        and known["verdict"] in get_args(Verdict)
        and all(isinstance(one, tuple) and len(one) == len(lists[0]) for one in lists)
        and all(_is_number(item) for one in lists for item in one)
        and all(map(_is_number, numbers))
    )
    return BenchRecord(**cast("dict[str, Any]", known)) if right else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
