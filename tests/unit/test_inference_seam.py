"""The room's way in: every name it promises is there, and a runner does not pay for all of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

import node.inference as room


@pytest.mark.parametrize("name", room.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(room, name) is not None


def test_no_other_name_is() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        room.nonsense  # noqa: B018


def test_a_runner_imports_no_http_client() -> None:
    code = "import sys, node.inference.runner; sys.exit('httpx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
