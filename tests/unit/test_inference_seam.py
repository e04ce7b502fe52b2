"""The room's way in: every name it promises is there, and a runner does not pay for all of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

import node.inference as room
from node.inference.llama import scheduler, slot


@pytest.mark.parametrize("name", room.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(room, name) is not None


def test_no_other_name_is() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        room.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("node.inference.llama.runner", "httpx"),
        ("node.inference.engine", "numpy"),
        ("node.inference.engine", "llama_cpp"),
        ("node.cli.model", "httpx"),
    ],
)
def test_what_a_process_does_not_need_it_does_not_import(module: str, unwanted: str) -> None:
    code = f"import sys, {module}; sys.exit({unwanted!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == 0


def test_a_person_may_go_beside_as_many_as_the_scheduler_lets() -> None:
    assert slot._PERSONS_MORE == scheduler.PERSONS_MORE
