"""Host functions and guest calls: the two directions through the component boundary.

All host functions share one C callback and are told apart by a number. Which call they serve is
kept per thread, as a guest runs on one thread from instantiation to result.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping
from ctypes import byref
from dataclasses import dataclass
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import component as wc

from node.errors import FreeholdError, SandboxError
from node.sandbox.abi import Err, GuestTypeError, Lift, Lower, TooLongError, Value, check, put_utf8
from node.sandbox.abi import text as take_text
from node.sandbox.hostcall import HostCall


@dataclass(frozen=True)
class HostFunction:
    """A function that a guest may import.

    `run` gets the call and the lifted arguments. `limit` bounds each argument's size in bytes;
    `soft` says that the result has an `err` of text, so that a long argument is not a trap.
    """

    name: str
    run: Callable[..., Value]
    params: tuple[Lift, ...] = ()
    result: Lower | None = None
    limit: int = 4096
    soft: bool = False


class _Current(threading.local):
    call: HostCall | None = None


_current = _Current()
_functions: list[HostFunction] = []


def _error(message: str) -> int:
    buffer = ctypes.create_string_buffer(message.replace("\0", " ").encode(errors="replace"))
    pointer = ffi.wasmtime_error_new(buffer)
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def _arguments(function: HostFunction, context: Any, args: Any, count: int) -> list[Value]:
    if count != len(function.params):
        raise GuestTypeError(f"it takes {len(function.params)} arguments")
    return [lift(context, args[i], function.limit) for i, lift in enumerate(function.params)]


def _answer(function: HostFunction, call: HostCall, context: Any, args: Any, count: int) -> Value:
    try:
        return function.run(call, *_arguments(function, context, args, count))
    except TooLongError as error:
        if function.soft:
            return Err(f"{function.name}: {error}")
        raise


def _serve(  # noqa: PLR0917 - the shape of wasmtime's callback
    function: HostFunction, context: Any, args: Any, n: int, results: Any, m: int
) -> None:
    call = _current.call
    if call is None:
        raise SandboxError("a host function was called outside of a call")
    call.check()
    call.count()
    value = _answer(function, call, context, args, n)
    if (m == 1) != (function.result is not None):
        raise GuestTypeError("it is imported with another result than it has")
    if function.result is not None:
        function.result(context, results[0], value)


@ffi.wasmtime_component_func_callback_t  # type: ignore[untyped-decorator]
def _callback(  # noqa: PLR0917 - the shape of wasmtime's callback
    index: int | None, context: Any, _type: Any, args: Any, n: int, results: Any, m: int
) -> int:
    function = _functions[index or 0]
    try:
        _serve(function, context, args, n, results, m)
    except FreeholdError as error:
        return _stopped(error)
    except (GuestTypeError, TooLongError) as error:
        return _error(f"{function.name}: {error}")
    except BaseException as error:  # an exception must not unwind through native code
        return _fault(function, error)
    return 0


def _stopped(error: FreeholdError) -> int:
    """Ends the guest; the call fails with `error` rather than with the trap that it becomes."""
    if _current.call is not None:
        _current.call.stop(error)
    return _error(error.message)


def _fault(function: HostFunction, error: BaseException) -> int:
    message = f"the host's function {function.name} failed: {error!r}"
    return _stopped(SandboxError(message, hint="This is a fault of the node; report it."))


_NO_FINALIZER = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))
_EPOCH_CALLBACK = ffi.dll.wasmtime_store_epoch_deadline_callback.argtypes[1]


@_EPOCH_CALLBACK  # type: ignore[untyped-decorator]
def _on_tick(_context: Any, _data: Any, delta: Any, kind: Any) -> int:
    call = _current.call
    try:
        if call is not None:
            call.check()
        delta[0], kind[0] = 1, 0
    except FreeholdError as error:
        return _error(error.message)
    except BaseException as error:  # as above
        return _error(f"the time limit could not be checked: {error!r}")
    return 0


def register(functions: tuple[HostFunction, ...]) -> dict[str, int]:
    """Numbers for host functions, by name; they stay for the life of the process."""
    start = len(_functions)
    _functions.extend(functions)
    return {function.name: start + i for i, function in enumerate(functions)}


def link(
    linker: wc.Linker, interface: str, numbers: Mapping[str, int], types: Mapping[str, int]
) -> None:
    """Defines an interface: its functions by number, its resource types by the host's number."""
    with linker.root() as root, root.add_instance(interface) as instance:
        for name, number in types.items():
            instance.add_resource(name, wc.ResourceType.host(number), lambda *_: None)
        for name, number in numbers.items():
            data = name.encode()
            buffer = ctypes.create_string_buffer(data)
            check(
                ffi.wasmtime_component_linker_instance_add_func(
                    instance.ptr(), buffer, len(data), _callback, number, _NO_FINALIZER
                )
            )


class Guest:
    """A component in a store of its own. It is dead after a trap.

    Raises:
        wasmtime.WasmtimeError: by all methods, with wasmtime's words for a trap.
    """

    def __init__(
        self, engine: wasmtime.Engine, linker: wc.Linker, component: wc.Component, call: HostCall
    ) -> None:
        limits = call.limits
        self._call = call
        self._store = wasmtime.Store(engine)
        self._store.set_fuel(call.fuel)
        self._store.set_limits(
            limits.memory_bytes,
            limits.table_elements,
            limits.instances,
            limits.tables,
            limits.memories,
        )
        self._context = self._store._context()
        store = self._store.ptr()
        ffi.wasmtime_store_epoch_deadline_callback(store, _on_tick, None, _NO_FINALIZER)
        self._store.set_epoch_deadline(1)
        self._instance = ffi.wasmtime_component_instance_t()
        try:
            self._enter(
                lambda: ffi.wasmtime_component_linker_instantiate(
                    linker.ptr(), self._context, component.ptr(), byref(self._instance)
                )
            )
        except BaseException:  # which holds this guest, and with it a place in the pool
            self.close()
            raise

    def _enter(self, run: Callable[[], Any]) -> None:
        _current.call = self._call
        try:
            error = run()
        finally:
            _current.call = None
        check(error)

    def _function(self, export: wc.ExportIndex) -> Any:
        function = ffi.wasmtime_component_func_t()
        ffi.wasmtime_component_instance_get_func(
            byref(self._instance), self._context, export.ptr(), byref(function)
        )
        return function

    def _invoke(self, export: wc.ExportIndex, arguments: Any, count: int) -> Any:
        function, result = self._function(export), ffi.wasmtime_component_val_t()
        self._enter(
            lambda: ffi.wasmtime_component_func_call(
                byref(function), self._context, arguments, count, byref(result), 1
            )
        )
        return result

    def call(self, export: wc.ExportIndex, text: bytes) -> str | Err:
        """Calls a `func(input: string) -> result<string, string>`. Raises TooLongError."""
        argument = ffi.wasmtime_component_val_t()
        put_utf8(argument, text)
        try:
            result = self._invoke(export, byref(argument), 1)
        finally:
            ffi.wasmtime_component_val_delete(byref(argument))
        try:
            answer = self._take(result.of.result.val.contents)
            return answer if result.of.result.is_ok else Err(answer)
        finally:
            ffi.wasmtime_component_val_delete(byref(result))

    def describe(self, export: wc.ExportIndex) -> str:
        """Calls a `func() -> string`. Raises TooLongError."""
        result = self._invoke(export, None, 0)
        try:
            return self._take(result)
        finally:
            ffi.wasmtime_component_val_delete(byref(result))

    def _take(self, val: Any) -> str:
        return take_text(self._context, val, self._call.limits.output_bytes)

    def fuel_used(self) -> int:
        """Fuel used so far."""
        return self._call.fuel - int(self._store.get_fuel())

    def close(self) -> None:
        """Gives the memory back."""
        self._store.close()
