"""What the installed libllama was built for: the CPU alone, or GPUs too, and which are here.

To ask it, it must be loaded, and the daemon and the commands never load native code of a model's;
so a process of its own asks (`python -m node.inference.llama.build`) and prints what it found. Most
builds are for the CPU alone and are known by the files that are there, with no process at all.

Spec: `ggml-backend.h` (devices), `llama.h` (`llama_supports_gpu_offload`).
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

_TIMEOUT_S: Final = 60.0
_GPU, _INTEGRATED = 1, 2
_CPU_ONLY: Final = ("base", "cpu", "rpc", "blas")


@dataclass(frozen=True)
class Device:
    """A GPU. Bytes free and in all; `shared` where its memory is the machine's own."""

    name: str
    about: str
    free: int
    total: int
    shared: bool


@dataclass(frozen=True)
class Build:
    """Whether weights can go to a GPU at all, and to which."""

    offloads: bool
    devices: tuple[Device, ...] = ()

    def __str__(self) -> str:
        if not self.devices:
            return "built for GPUs, but none is here" if self.offloads else "CPU only"
        return ", ".join(f"{device.name} ({device.about})" for device in self.devices)


def gpus() -> tuple[Device, ...]:
    """The GPUs that libllama would use; what is free is asked anew each time."""
    return inspect().devices if _accelerated() else ()


def inspect() -> Build:
    """Asks libllama, in a process of its own. A build that cannot be asked counts as CPU only."""
    if not _accelerated():
        return Build(offloads=False)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "node.inference.llama.build"],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        value = json.loads(done.stdout)
        devices = tuple(Device(**device) for device in value["devices"])
        return Build(offloads=bool(value["offloads"]), devices=devices)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError):
        return Build(offloads=False)


@functools.cache
def _accelerated() -> bool:
    """Whether there is a backend beside the CPU's among libllama's files."""
    folder = os.environ.get("LLAMA_CPP_LIB_PATH")
    if folder is None:
        found = importlib.util.find_spec("llama_cpp")
        places = found.submodule_search_locations if found else None
        folder = str(Path(places[0]) / "lib") if places else ""
    return bool(folder) and any(map(_is_accelerator, Path(folder).glob("libggml-*")))


def _is_accelerator(file: Path) -> bool:
    backend = file.name.removeprefix("libggml-").split(".")[0].split("-")[0]
    return backend not in _CPU_ONLY


def _ask() -> Build:
    import llama_cpp.llama_cpp as lib

    lib.llama_backend_init()
    # libggml's symbols are found through libllama, which depends on it
    ggml: Any = lib._lib
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    for function in (ggml.ggml_backend_dev_name, ggml.ggml_backend_dev_description):
        function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    pointers = [
        ctypes.c_void_p(ggml.ggml_backend_dev_get(ctypes.c_size_t(index)))
        for index in range(ggml.ggml_backend_dev_count())
    ]
    return Build(
        offloads=bool(lib.llama_supports_gpu_offload()),
        devices=tuple(
            _device(ggml, pointer, kind)
            for pointer in pointers
            if (kind := ggml.ggml_backend_dev_type(pointer)) in (_GPU, _INTEGRATED)
        ),
    )


def _device(ggml: Any, pointer: ctypes.c_void_p, kind: int) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml.ggml_backend_dev_memory(pointer, ctypes.byref(free), ctypes.byref(total))
    name = ggml.ggml_backend_dev_name(pointer).decode(errors="replace")
    about = ggml.ggml_backend_dev_description(pointer).decode(errors="replace")
    # Apple's GPUs call themselves discrete, and share the machine's memory all the same
    shared = kind == _INTEGRATED or name.startswith(("Metal", "MTL"))
    return Device(name, about, free.value, total.value, shared)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_ask())))
