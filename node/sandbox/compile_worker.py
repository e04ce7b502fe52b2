"""The process that compiles one component and says what it imports and exports.

Component on stdin; compiled code into the file named by the first argument; one line of JSON on
stdout. It is a process of its own because a hostile component can make a compiler use any time and
memory: the parent kills it when its time is over, and its memory is limited here. It gives way to
the node's other work.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from dataclasses import fields
from pathlib import Path

import wasmtime
from wasmtime import component as wc

from node.sandbox.engine import build_engine
from node.sandbox.limits import Limits

REFUSED = 1
OUT_OF_MEMORY = 3
UNWRITTEN = 4
_NICENESS = 5


def _type_name(kind: object) -> str:
    if isinstance(kind, wc.ResultType):
        return f"result<{_type_name(kind.ok)}, {_type_name(kind.err)}>"
    return type(kind).__name__.lower()


def _signature(extern: wc.ComponentExtern) -> str | None:
    kind = extern.ty
    if not isinstance(kind, wc.FuncType):
        return None
    params = ", ".join(_type_name(each) for _, each in kind.params)
    return f"func({params}) -> {_type_name(kind.result)}"


def _report(engine: wasmtime.Engine, component: wc.Component) -> dict[str, object]:
    exports = component.type.exports(engine)
    return {
        "imports": sorted(component.type.imports(engine)),
        "exports": {n: _signature(exports[n]) for n in ("describe", "call") if n in exports},
    }


def _limit(limits: Limits) -> None:
    # a parent out of threads or descriptors loses it, and never says more
    signal.alarm(int(limits.compile_seconds) + 1)
    os.nice(_NICENESS)
    memory = limits.compile_memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _fail(status: int, reason: str) -> int:
    sys.stderr.write(reason)
    return status


def main(arguments: list[str]) -> int:
    """Compiles stdin. Exit status 1 where that cannot be done, 3 where memory did not suffice, 4
    where the code cannot be written.

    The reason is on stderr.
    """
    target, shape = arguments
    known = {field.name for field in fields(Limits)}
    limits = Limits(**{k: v for k, v in json.loads(shape).items() if k in known})
    _limit(limits)
    engine = build_engine(limits)
    try:
        component = wc.Component(engine, sys.stdin.buffer.read(limits.component_bytes + 1))
        report = _report(engine, component)
        Path(target).write_bytes(component.serialize())
    except MemoryError:
        return _fail(OUT_OF_MEMORY, "out of memory")
    except OSError as error:
        return _fail(UNWRITTEN, str(error.strerror))
    except (wasmtime.WasmtimeError, TypeError) as error:
        is_memory = "annot allocate memory" in str(error)
        return _fail(OUT_OF_MEMORY if is_memory else REFUSED, str(error))
    sys.stdout.write(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
