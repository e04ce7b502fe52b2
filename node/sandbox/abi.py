"""Values across the component boundary, straight on wasmtime's C API.

The Python bindings reflect a function's type on every call (about 20 µs), lift bytes one by one,
and keep an exception of a host function in one slot shared by all threads. A tool's contract is
text, so this module knows the few shapes that `tool.wit` and the virtual WASI have: a call in costs
about 5 µs, and a host function cannot raise: whatever it throws becomes a trap of its own guest.

A guest states the types of its imports itself, so each argument's kind is checked here, and
nothing longer than the limit is copied. (wasmtime checks a result against the guest's type.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import byref, string_at
from dataclasses import dataclass
from typing import Any, TypeAlias

import wasmtime
from wasmtime import _ffi as ffi

_Val = ffi.wasmtime_component_val_t
_VAL_SIZE = ctypes.sizeof(_Val)
_VAL_OFFSET = _Val.of.offset
_Bytes = ctypes.POINTER(ctypes.c_ubyte)
_U8 = ffi.WASMTIME_COMPONENT_U8.value
_BOOL = ffi.WASMTIME_COMPONENT_BOOL.value
_U32 = ffi.WASMTIME_COMPONENT_U32.value
_U64 = ffi.WASMTIME_COMPONENT_U64.value
_STRING = ffi.WASMTIME_COMPONENT_STRING.value
_LIST = ffi.WASMTIME_COMPONENT_LIST.value
_RECORD = ffi.WASMTIME_COMPONENT_RECORD.value
_TUPLE = ffi.WASMTIME_COMPONENT_TUPLE.value
_VARIANT = ffi.WASMTIME_COMPONENT_VARIANT.value
_ENUM = ffi.WASMTIME_COMPONENT_ENUM.value
_OPTION = ffi.WASMTIME_COMPONENT_OPTION.value
_RESULT = ffi.WASMTIME_COMPONENT_RESULT.value
_RESOURCE = ffi.WASMTIME_COMPONENT_RESOURCE.value

Context: TypeAlias = Any
Value: TypeAlias = Any
Lift: TypeAlias = Callable[[Context, Any, int], Value]
Lower: TypeAlias = Callable[[Context, Any, Value], None]


class TooLongError(Exception):
    """A guest handed over, or answered, more than the limit; `size` is in bytes."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"{size} bytes where at most {limit} are allowed")
        self.size = size


class GuestTypeError(Exception):
    """A guest used a host function as it cannot be used; the guest traps with these words."""


def check(error: Any) -> None:
    """Raises WasmtimeError where wasmtime's C API answered with an error."""
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)


@dataclass(frozen=True)
class Err:
    """The `err` case of a result; anything else a handler returns is its `ok` case."""

    value: Value


# ── lift: from the guest ────────────────────────────────────────────────────────────────────


def _expect(val: Any, kind: int) -> Any:
    if val.kind != kind:
        raise GuestTypeError("an import has other types than tool.wit gives it")
    return val.of


def text(_: Context, val: Any, limit: int) -> str:
    """A string of at most `limit` bytes."""
    raw = _expect(val, _STRING).string
    if raw.size > limit:
        raise TooLongError(raw.size, limit)
    return string_at(raw.data, raw.size).decode() if raw.size else ""


def u32(_: Context, val: Any, limit: int) -> int:
    """An unsigned 32-bit integer."""
    return int(_expect(val, _U32).u32)


def u64(_: Context, val: Any, limit: int) -> int:
    """An unsigned 64-bit integer."""
    return int(_expect(val, _U64).u64)


def octets(_: Context, val: Any, limit: int) -> bytes:
    """A `list<u8>` of at most `limit` bytes."""
    items = _expect(val, _LIST).list
    if items.size > limit:
        raise TooLongError(items.size, limit)
    if not items.size:
        return b""
    if items.data[0].kind != _U8:
        raise GuestTypeError("an import has other types than WASI gives it")
    return string_at(items.data, items.size * _VAL_SIZE)[_VAL_OFFSET::_VAL_SIZE]


def handle(context: Context, val: Any, limit: int) -> int:
    """The host's number for a resource. A borrowed one must be taken so, or the call cannot end."""
    any_resource = _expect(val, _RESOURCE).resource
    host = ctypes.POINTER(ffi.wasmtime_component_resource_host_t)()
    error = ffi.wasmtime_component_resource_any_to_host(context, any_resource, byref(host))
    if error:
        ffi.wasmtime_error_delete(error)
        raise GuestTypeError("an import takes a resource that is not the host's")
    number = int(ffi.wasmtime_component_resource_host_rep(host))
    ffi.wasmtime_component_resource_host_delete(host)
    return number


def handles(context: Context, val: Any, limit: int) -> list[int]:
    """The host's numbers for a list of at most `limit` resources."""
    items = _expect(val, _LIST).list
    if items.size > limit:
        raise TooLongError(items.size, limit)
    return [handle(context, items.data[i], limit) for i in range(items.size)]


def ignored(_: Context, val: Any, limit: int) -> None:
    """Any value at all."""


# ── lower: to the guest ─────────────────────────────────────────────────────────────────────


def _bytes(slot: Any, value: bytes) -> None:
    source = ctypes.cast(ctypes.c_char_p(value), _Bytes)
    ffi.wasm_byte_vec_new(byref(slot), len(value), source)


def put_utf8(val: Any, value: bytes) -> None:
    """A string, from its UTF-8."""
    val.kind = _STRING
    _bytes(val.of.string, value)


def put_text(_: Context, val: Any, value: str) -> None:
    """A string."""
    put_utf8(val, value.encode())


def put_bool(_: Context, val: Any, value: bool) -> None:
    """A bool."""
    val.kind, val.of.boolean = _BOOL, value


def put_u32(_: Context, val: Any, value: int) -> None:
    """An unsigned 32-bit integer."""
    val.kind, val.of.u32 = _U32, value


def put_u64(_: Context, val: Any, value: int) -> None:
    """An unsigned 64-bit integer."""
    val.kind, val.of.u64 = _U64, value


def put_octets(_: Context, val: Any, value: bytes) -> None:
    """A `list<u8>`."""
    if not value:
        val.kind = _LIST
        ffi.wasmtime_component_vallist_new_empty(byref(val.of.list))
        return
    raw = bytearray(len(value) * _VAL_SIZE)
    raw[::_VAL_SIZE] = bytes((_U8,)) * len(value)
    raw[_VAL_OFFSET::_VAL_SIZE] = value
    source = (_Val * len(value)).from_buffer(raw)
    val.kind = _LIST
    ffi.wasmtime_component_vallist_new(byref(val.of.list), len(value), source)


def _boxed(context: Context, lower: Lower | None, value: Value) -> Any:
    if lower is None:
        return None
    inner = _Val()
    lower(context, inner, value)
    return ffi.wasmtime_component_val_new(byref(inner))


def put_option(some: Lower) -> Lower:
    """An option: None is its `none`."""

    def lower(context: Context, val: Any, value: Value) -> None:
        val.kind = _OPTION
        val.of.option = None if value is None else _boxed(context, some, value)

    return lower


def put_result(ok: Lower | None, err: Lower | None) -> Lower:
    """A result; a case without a payload has no lowering."""

    def lower(context: Context, val: Any, value: Value) -> None:
        failed = isinstance(value, Err)
        boxed = _boxed(context, err if failed else ok, value.value if failed else value)
        val.kind = _RESULT
        val.of.result.is_ok, val.of.result.val = not failed, boxed

    return lower


def put_list(item: Lower) -> Lower:
    """A list."""

    def lower(context: Context, val: Any, value: Sequence[Value]) -> None:
        source = (_Val * len(value))()
        for slot, each in zip(source, value, strict=True):
            item(context, slot, each)
        val.kind = _LIST
        ffi.wasmtime_component_vallist_new(byref(val.of.list), len(value), source)

    return lower


def put_tuple(*parts: Lower) -> Lower:
    """A tuple."""

    def lower(context: Context, val: Any, value: Sequence[Value]) -> None:
        source = (_Val * len(parts))()
        for slot, part, each in zip(source, parts, value, strict=True):
            part(context, slot, each)
        val.kind = _TUPLE
        ffi.wasmtime_component_valtuple_new(byref(val.of.tuple), len(parts), source)

    return lower


def put_record(**fields: Lower) -> Lower:
    """A record, from a sequence in the order of its fields."""

    def lower(context: Context, val: Any, value: Sequence[Value]) -> None:
        source = (ffi.wasmtime_component_valrecord_entry_t * len(fields))()
        for slot, (name, part), each in zip(source, fields.items(), value, strict=True):
            _bytes(slot.name, name.encode())
            part(context, slot.val, each)
        val.kind = _RECORD
        ffi.wasmtime_component_valrecord_new(byref(val.of.record), len(fields), source)

    return lower


def put_case(_: Context, val: Any, value: str) -> None:
    """A variant's case that has no payload."""
    val.kind = _VARIANT
    _bytes(val.of.variant.discriminant, value.encode())
    val.of.variant.val = None


def put_enum(_: Context, val: Any, value: str) -> None:
    """An enum's case."""
    val.kind = _ENUM
    _bytes(val.of.enumeration, value.encode())


def put_handle(resource_type: int) -> Lower:
    """An owned resource of the host; the value is the host's number for it."""

    def lower(context: Context, val: Any, value: int) -> None:
        host = ffi.wasmtime_component_resource_host_new(True, value, resource_type)
        out = ctypes.POINTER(ffi.wasmtime_component_resource_any_t)()
        error = ffi.wasmtime_component_resource_host_to_any(context, host, byref(out))
        ffi.wasmtime_component_resource_host_delete(host)
        check(error)
        val.kind, val.of.resource = _RESOURCE, out

    return lower
