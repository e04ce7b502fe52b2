"""Real mints for tests: Nutshell with play money on loopback, one a fee, for the whole session.

A test takes `nutshells` and calls it with a fee, `nutshells(100)`, or takes `nutshell`, which is
the one with Nutshell's own default of 100 ppk. Both skip, and say why, where it is not set up.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HELPER = Path(__file__).resolve().parents[2] / "scripts" / "_mint.py"


def helper() -> ModuleType:
    """scripts/_mint.py, whose `Nutshell` is a mint as a process."""
    if "_mint" not in sys.modules:
        spec = importlib.util.spec_from_file_location("_mint", HELPER)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["_mint"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["_mint"])
    return sys.modules["_mint"]


@pytest.fixture(scope="session")
def nutshells() -> Iterator[Callable[..., Any]]:
    """`nutshells(fee_ppk, payments="settled")`: the mint with that fee, started when first asked
    for."""
    module = helper()
    if module.missing():
        pytest.skip(module.missing())
    started: dict[tuple[int, str], Any] = {}
    with contextlib.ExitStack() as stack:

        def at(fee_ppk: int = 100, payments: str = "settled") -> Any:
            if (fee_ppk, payments) not in started:
                mint = module.Nutshell(fee_ppk=fee_ppk, payments=payments)
                started[fee_ppk, payments] = stack.enter_context(mint)
            return started[fee_ppk, payments]

        yield at


@pytest.fixture(scope="session")
def nutshell(nutshells: Callable[..., Any]) -> Any:
    """The mint with Nutshell's default fee."""
    return nutshells(100)
