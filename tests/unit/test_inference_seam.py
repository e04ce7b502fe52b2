"""The rooms: every name they promise is there, and a process does not pay for all of them."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from node import inference, sandbox

ROOMS = (inference, sandbox)
NAMES = [(room, name) for room in ROOMS for name in room.__all__]


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_every_name_is_there(room: ModuleType, name: str) -> None:
    value = getattr(room, name)
    assert value is not None
    assert vars(room)[name] is value  # asked for once


@pytest.mark.parametrize("room", ROOMS)
def test_no_other_name_is(room: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"{room.__name__}.*nonsense"):
        room.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("node.inference.llama.runner", "httpx"),
        ("node.inference.engine", "numpy"),
        ("node.inference.engine", "llama_cpp"),
        ("node.cli.model", "httpx"),
        ("node.sandbox.compile_worker", "pydantic"),
    ],
)
def test_what_a_process_does_not_need_it_does_not_import(module: str, unwanted: str) -> None:
    code = f"import sys, {module}; sys.exit({unwanted!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == 0
