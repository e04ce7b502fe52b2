"""The header of a GGUF file, read strictly and within bounds.

The file may come from anyone. The daemon never lets libllama near it; it reads the header itself,
for `freehold model add` and `show`, and the runner process takes whatever the native reader does
with the rest. Every length is checked against a cap and against the file's end before it is used.

Spec: ggml's `docs/gguf.md`, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.errors import ModelError

MAX_PAIRS: Final = 10_000
MAX_TENSORS: Final = 100_000
MAX_KEY_BYTES: Final = 65_535
MAX_STRING_BYTES: Final = 4 * 1024 * 1024
MAX_ARRAY_ITEMS: Final = 4_000_000
MAX_ARRAY_DEPTH: Final = 2
MAX_DIMENSIONS: Final = 4

_STRING, _ARRAY = 8, 9
_SCALARS: Final = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
# bytes and weights of one block, by ggml type
_BLOCKS: Final = {
    0: (4, 1), 1: (2, 1), 2: (18, 32), 3: (20, 32), 6: (22, 32), 7: (24, 32), 8: (34, 32),
    9: (36, 32), 10: (84, 256), 11: (110, 256), 12: (144, 256), 13: (176, 256), 14: (210, 256),
    15: (292, 256), 16: (66, 256), 17: (74, 256), 18: (98, 256), 19: (50, 256), 20: (18, 32),
    21: (110, 256), 22: (82, 256), 23: (136, 256), 24: (1, 1), 25: (2, 1), 26: (4, 1), 27: (8, 1),
    28: (8, 1), 29: (56, 256), 30: (2, 1), 34: (54, 256), 35: (66, 256), 39: (17, 32),
}  # fmt: skip

Scalar = int | float | bool | str


@dataclass(frozen=True)
class ArraySize:
    """Stands for an array's values, which are not kept: how many there are."""

    items: int


@dataclass(frozen=True)
class Header:
    """What the header says. `metadata` keeps scalars, and the size of arrays."""

    version: int
    metadata: dict[str, Scalar | ArraySize]
    tensors: int
    weights: int
    quantisation: str

    @property
    def architecture(self) -> str:
        """`general.architecture`, "" where it is missing."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def context_tokens(self) -> int:
        """The context the model was trained for; 0 where the file does not say."""
        value = self.metadata.get(f"{self.architecture}.context_length", 0)
        return value if isinstance(value, int) else 0

    @property
    def chat_template(self) -> str:
        """The Jinja source, "" where there is none."""
        return str(self.metadata.get("tokenizer.chat_template", ""))


def read_header(path: Path) -> Header:
    """The header of the file at `path`.

    Raises:
        ModelError: the file cannot be read, or is not a whole GGUF.
    """
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise ModelError(f"{path} is empty", hint="Fetch the model again.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(data, str(path)).header()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}", hint="Check the path and its rights."
        ) from error


class _Reader:
    def __init__(self, data: mmap.mmap, path: str) -> None:
        self._data = data
        self._size = len(data)
        self._path = path
        self._at = 0

    def header(self) -> Header:
        if self._take(4) != b"GGUF":
            raise self._error("does not begin with GGUF")
        version = self._number("<I")
        if version not in (2, 3):
            raise self._error(f"is of version {version}; 2 and 3 are known")
        tensors = self._bounded("<Q", MAX_TENSORS, "tensors")
        pairs = self._bounded("<Q", MAX_PAIRS, "metadata pairs")
        metadata = self._metadata(pairs)
        weights, kinds, end = self._tensors(tensors)
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 8 <= alignment <= 65536 or alignment % 8:
            raise self._error("has a bad alignment")
        start = -(-self._at // alignment) * alignment
        if tensors and start + end > self._size:
            raise self._error(f"ends at byte {self._size}, before its weights do ({start + end})")
        common = max(kinds, key=lambda kind: kinds[kind], default=0)
        return Header(
            version, metadata, tensors, weights, _TYPE_NAMES.get(common, f"type {common}")
        )

    def _metadata(self, pairs: int) -> dict[str, Scalar | ArraySize]:
        metadata: dict[str, Scalar | ArraySize] = {}
        for _ in range(pairs):
            key = self._string(MAX_KEY_BYTES)
            if key in metadata:
                raise self._error(f"has the key {key!r} twice")
            metadata[key] = self._value(self._number("<I"), 0)
        return metadata

    def _value(self, kind: int, depth: int) -> Scalar | ArraySize:
        if kind == _STRING:
            return self._string(MAX_STRING_BYTES)
        if kind == _ARRAY:
            return self._array(depth)
        if kind not in _SCALARS:
            raise self._error(f"has a value of the unknown type {kind}")
        value: int | float | bool = struct.unpack(_SCALARS[kind], self._take(_width(kind)))[0]
        return value

    def _array(self, depth: int) -> ArraySize:
        if depth >= MAX_ARRAY_DEPTH:
            raise self._error("has arrays nested too deep")
        kind = self._number("<I")
        items = self._bounded("<Q", MAX_ARRAY_ITEMS, "items in an array")
        if kind in _SCALARS:
            self._skip(items * _width(kind))
        else:
            for _ in range(items):
                self._skip_value(kind, depth + 1)
        return ArraySize(items)

    def _skip_value(self, kind: int, depth: int) -> None:
        if kind == _STRING:
            self._skip(self._bounded("<Q", MAX_STRING_BYTES, "bytes in a string"))
        else:
            self._value(kind, depth)

    def _tensors(self, count: int) -> tuple[int, dict[int, int], int]:
        """Weights in all, weights by type, and where the last tensor ends in the data."""
        total, end = 0, 0
        kinds: dict[int, int] = {}
        for _ in range(count):
            name = self._string(MAX_KEY_BYTES)
            elements, kind, offset = self._tensor(name)
            total += elements
            kinds[kind] = kinds.get(kind, 0) + elements
            if kind in _BLOCKS:
                size, per = _BLOCKS[kind]
                end = max(end, offset + elements // per * size)
        return total, kinds, end

    def _tensor(self, name: str) -> tuple[int, int, int]:
        dimensions = self._bounded("<I", MAX_DIMENSIONS, f"dimensions in {name!r}")
        elements = 1
        for _ in range(dimensions):
            elements *= self._number("<Q")
        if elements >= 1 << 62:
            raise self._error(f"has a tensor {name!r} of {elements} weights")
        return elements, self._number("<I"), self._number("<Q")

    def _string(self, most: int) -> str:
        raw = self._take(self._bounded("<Q", most, "bytes in a string"))
        return raw.decode(errors="replace")

    def _bounded(self, form: str, most: int, what: str) -> int:
        value = self._number(form)
        if value > most:
            raise self._error(f"says it has {value} {what}; at most {most} are taken")
        return value

    def _number(self, form: str) -> int:
        (value,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return int(value)

    def _take(self, count: int) -> bytes:
        start = self._at
        self._skip(count)
        return self._data[start : self._at]

    def _skip(self, count: int) -> None:
        if count > self._size - self._at:
            raise self._error(f"ends at byte {self._size}, in the middle of its header")
        self._at += count

    def _error(self, problem: str) -> ModelError:
        return ModelError(
            f"{self._path} {problem}", hint="It is damaged or no GGUF file. Fetch it again."
        )


def _width(kind: int) -> int:
    return struct.calcsize(_SCALARS[kind])


_TYPE_NAMES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K",
    11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS",
    18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M",
    30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
