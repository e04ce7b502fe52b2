"""The header of a GGUF file, read strictly and within bounds.

The file may come from anyone. The daemon never lets libllama near it; it reads the header itself,
for `freehold model add` and `show` and to know the memory a model needs, and the runner process
takes whatever the native reader does with the rest. Every length is checked against a cap and
against what is there before it is used, and the header as a whole is bounded, so that reading one
takes a second or two at most. What would make libllama abort or read past a buffer is refused here
(a value or an array of an unexpected type) or by `gguf_header` (values that make no sense).

The file is read, not mapped: a mapped file that someone cuts short kills the process that reads it.

Spec: ggml's `docs/gguf.md`, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

from node.errors import ModelError
from node.inference.models.gguf_header import (
    MAX_ARRAY_ITEMS,
    Array,
    Header,
    Number,
    Scalar,
    partial,
    unsound,
)

MAX_HEADER_BYTES: Final = 64 * 1024 * 1024
MAX_PAIRS: Final = 10_000
MAX_TENSORS: Final = 100_000
MAX_KEY_BYTES: Final = 65_535
MAX_TENSOR_NAME_BYTES: Final = 63
MAX_STRING_BYTES: Final = 4 * 1024 * 1024
MAX_STRINGS: Final = 2_000_000  # in arrays, all together; the largest vocabularies have 700,000
MAX_DIMENSIONS: Final = 4
ARRAY_KEPT: Final = 1024  # items; one a layer is what is wanted

_DAMAGED = "It is damaged or no GGUF file. Fetch it again."
_PAGE = "Take the file's own address: on a hub it has /resolve/ where its page has /blob/."
_PARTIAL = "Fetch a whole model in one file; `llama-gguf-split --merge` of llama.cpp joins parts."
_OTHERS = "Another program's llama.cpp made it; fetch another quantisation, as Q4_K_M."

_STRING, _ARRAY, _U32, _I32, _F32 = 8, 9, 4, 5, 6
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
# name, bytes and weights of one block, by ggml type
_TYPES: Final = {
    0: ("F32", 4, 1), 1: ("F16", 2, 1), 2: ("Q4_0", 18, 32), 3: ("Q4_1", 20, 32),
    6: ("Q5_0", 22, 32), 7: ("Q5_1", 24, 32), 8: ("Q8_0", 34, 32), 9: ("Q8_1", 36, 32),
    10: ("Q2_K", 84, 256), 11: ("Q3_K", 110, 256), 12: ("Q4_K", 144, 256), 13: ("Q5_K", 176, 256),
    14: ("Q6_K", 210, 256), 15: ("Q8_K", 292, 256), 16: ("IQ2_XXS", 66, 256),
    17: ("IQ2_XS", 74, 256), 18: ("IQ3_XXS", 98, 256), 19: ("IQ1_S", 50, 256),
    20: ("IQ4_NL", 18, 32), 21: ("IQ3_S", 110, 256), 22: ("IQ2_S", 82, 256),
    23: ("IQ4_XS", 136, 256), 24: ("I8", 1, 1), 25: ("I16", 2, 1), 26: ("I32", 4, 1),
    27: ("I64", 8, 1), 28: ("F64", 8, 1), 29: ("IQ1_M", 56, 256), 30: ("BF16", 2, 1),
    34: ("TQ1_0", 54, 256), 35: ("TQ2_0", 66, 256), 39: ("MXFP4", 17, 32),
    40: ("NVFP4", 36, 64), 41: ("Q1_0", 18, 128),
}  # fmt: skip

# what libllama takes for granted of a value, by key: its type, and that of an array's items
_WANTED: Final = {
    "general.architecture": (_STRING, None),
    "general.alignment": (_U32, None),
    "tokenizer.ggml.model": (_STRING, None),
    "tokenizer.chat_template": (_STRING, None),
    "tokenizer.ggml.tokens": (_ARRAY, _STRING),
    "tokenizer.ggml.merges": (_ARRAY, _STRING),
    "tokenizer.ggml.scores": (_ARRAY, _F32),
    "tokenizer.ggml.token_type": (_ARRAY, _I32),
}


def read_header(path: Path) -> Header:
    """The header of the file at `path`.

    Raises:
        ModelError: the file cannot be read, or is not a whole GGUF.
    """
    try:
        with path.open("rb") as file:
            return read_open(file, str(path))
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}", hint="Check the path and its rights."
        ) from error


def read_open(file: BinaryIO, name: str, *, size: int | None = None) -> Header:
    """The header of an open file, from its start.

    Args:
        name: what errors call the file.
        size: bytes it will have, where it is still being fetched.

    Raises:
        ModelError: it is not a whole GGUF.
        OSError: it cannot be read.
    """
    return _Reader(file, name, file.seek(0, 2) if size is None else size).header()


class _Reader:
    """Reads on in growing pieces, so that a small header costs one small read."""

    def __init__(self, file: BinaryIO, name: str, size: int) -> None:
        self._file = file
        self._name = name
        self._size = size
        self._data = b""
        self._at = 0
        self._strings = 0
        file.seek(0)

    def header(self) -> Header:
        if not self._size:
            raise ModelError(f"{self._name} is empty", hint="Fetch the model again.")
        if self._take(min(4, self._size)) != b"GGUF":
            raise self._no_gguf()
        version = self._number("<I")
        if version not in (2, 3):
            raise self._error(f"is of version {version}; 2 and 3 are known")
        tensors = self._bounded("<Q", MAX_TENSORS, "tensors")
        pairs = self._bounded("<Q", MAX_PAIRS, "metadata pairs")
        metadata = self._metadata(pairs)
        alignment = self._alignment(metadata)
        weights, kinds, length = self._tensors(tensors, alignment)
        start = -(-self._at // alignment) * alignment
        end = start + length
        if tensors and end > self._size:
            raise self._error(f"ends at byte {self._size}, before its weights do ({end})")
        common = max(kinds, key=lambda kind: kinds[kind], default=0)
        header = Header(version, metadata, tensors, weights, length, end, _TYPES[common][0])
        if problem := unsound(header):
            raise self._error(problem)
        if problem := partial(header):
            raise self._error(problem, _PARTIAL)
        return header

    def _no_gguf(self) -> ModelError:
        if self._data[:512].lstrip().lower().startswith((b"<!doctype", b"<html")):
            return self._error("does not begin with GGUF (it is a web page)", _PAGE)
        return self._error("does not begin with GGUF")

    def _alignment(self, metadata: dict[str, Scalar | Array]) -> int:
        value = metadata.get("general.alignment", 32)
        if not isinstance(value, int) or not 8 <= value <= 65536 or value & (value - 1):
            raise self._error("has a bad alignment")
        return value

    def _metadata(self, pairs: int) -> dict[str, Scalar | Array]:
        metadata: dict[str, Scalar | Array] = {}
        for _ in range(pairs):
            key = self._string(MAX_KEY_BYTES)
            if key in metadata:
                raise self._error(f"has the key {key[:100]!r} twice")
            kind = self._number("<I")
            metadata[key], inner = (
                self._array(key) if kind == _ARRAY else (self._scalar(kind), None)
            )
            if key in _WANTED and _WANTED[key] != (kind, inner):
                raise self._error(f"has a {key!r} of the wrong type")
        return metadata

    def _scalar(self, kind: int) -> Scalar:
        if kind == _STRING:
            return self._string(MAX_STRING_BYTES)
        if kind not in _SCALARS:
            raise self._error(f"has a value of the unknown type {kind}")
        form = _SCALARS[kind]
        value: Number = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return value

    def _array(self, key: str) -> tuple[Array, int]:
        kind = self._number("<I")
        items = self._bounded("<Q", MAX_ARRAY_ITEMS, "items in an array")
        if kind == _STRING:
            self._strings += items
            if self._strings > MAX_STRINGS:
                raise self._error(f"has over {MAX_STRINGS} strings in arrays")
            if key != "tokenizer.ggml.tokens":
                self._skip_strings(items)
            elif self._different_strings(items) < items:
                raise self._error("has the same token twice")
            return Array(items), kind
        if kind not in _SCALARS:
            raise self._error(f"has an array of the unknown type {kind}")
        form = _SCALARS[kind][1]
        raw = self._take(items * struct.calcsize(f"<{form}"))
        values = struct.unpack(f"<{items}{form}", raw) if items <= ARRAY_KEPT else ()
        return Array(items, values), kind

    def _skip_strings(self, items: int) -> None:
        """A vocabulary has hundreds of thousands, so this is a loop that must be quick."""
        length = struct.Struct("<Q")
        for _ in range(items):
            if self._at + 8 > len(self._data):
                self._fill(8)
            (size,) = length.unpack_from(self._data, self._at)
            if size > MAX_STRING_BYTES:
                raise self._error(f"says it has {size} bytes in a string")
            self._at += 8
            if self._at + size > len(self._data):
                self._fill(size)
            self._at += size

    def _different_strings(self, items: int) -> int:
        """How many of them differ; empty ones are told apart, as libllama does."""
        at, seen, empty = self._at, set(), 0
        self._skip_strings(items)
        data, length = self._data, struct.Struct("<Q")
        for _ in range(items):
            (size,) = length.unpack_from(data, at)
            at += 8 + size
            seen.add(data[at - size : at])
            empty += not size
        return len(seen) + max(0, empty - 1)

    def _tensors(self, count: int, alignment: int) -> tuple[int, dict[int, int], int]:
        """Weights in all, weights by type, and where the last tensor ends in the data."""
        total, end = 0, 0
        kinds: dict[int, int] = {}
        names: set[str] = set()
        for _ in range(count):
            name = self._string(MAX_TENSOR_NAME_BYTES)
            if name in names:
                raise self._error(f"has the tensor {name!r} twice")
            names.add(name)
            elements, kind, offset = self._tensor(name)
            if offset != -(-end // alignment) * alignment:
                raise self._error(f"has the tensor {name!r} at {offset}, not where it belongs")
            end = offset + elements // _TYPES[kind][2] * _TYPES[kind][1]
            total += elements
            kinds[kind] = kinds.get(kind, 0) + elements
        return total, kinds, end

    def _tensor(self, name: str) -> tuple[int, int, int]:
        count = self._bounded("<I", MAX_DIMENSIONS, f"dimensions in {name!r}")
        sizes = [self._number("<Q") for _ in range(count)]
        kind, offset = self._number("<I"), self._number("<Q")
        if kind not in _TYPES:
            raise self._error(f"has weights of the unknown type {kind} in {name!r}", _OTHERS)
        elements = 1
        for size in sizes:
            elements *= size
        if not sizes or not 0 < elements < 1 << 48 or sizes[0] % _TYPES[kind][2]:
            shape = " x ".join(map(str, sizes))
            raise self._error(f"has a tensor {name!r} of the impossible shape {shape or 'none'}")
        return elements, kind, offset

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
        if start + count > len(self._data):
            self._fill(count)
        self._at = start + count
        return self._data[start : self._at]

    def _fill(self, count: int) -> None:
        """Reads on until `count` bytes more are there."""
        end = self._at + count
        if end > self._size:
            raise self._error(f"ends at byte {self._size}, in the middle of its header")
        if end > MAX_HEADER_BYTES:
            raise self._error(f"has a header of over {MAX_HEADER_BYTES} bytes")
        want = min(max(end, 2 * len(self._data), 65_536), self._size, MAX_HEADER_BYTES)
        self._data += self._file.read(want - len(self._data))
        if end > len(self._data):
            raise self._error("became shorter while it was read")

    def _error(self, problem: str, hint: str = _DAMAGED) -> ModelError:
        return ModelError(f"{self._name} {problem}", hint=hint)
