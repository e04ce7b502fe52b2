"""libllama, loaded. Only the processes that hold a model import this, and what stands on it: native
code may crash, and must not take the daemon with it.

`OMP_WAIT_POLICY` must be set before it is loaded (its OpenMP threads would spin, and a busy machine
falls to a token a second), so it is set here, first.
"""

from __future__ import annotations

import os
from typing import Any, Final

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import llama_cpp.llama_cpp

lib: Final[Any] = llama_cpp.llama_cpp
LIBRARY: Final[Any] = lib._lib
