"""What docs/security.md says of the whole, and no single room's tests hold up."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted([*ROOT.glob("*.lock"), *ROOT.glob("scripts/*.lock"), *ROOT.glob("scripts/*/*.lock")])


def test_nothing_performs_an_effect_but_the_door() -> None:
    """`Run.step` leads to `performing.perform`, and no other code calls an effect's `perform`."""
    found = {
        path.relative_to(ROOT / "node").as_posix()
        for path in (ROOT / "node").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "perform"
    }
    assert found - {"runs/testing.py"} == {"runs/performing.py"}


def test_there_are_locks() -> None:
    assert {path.name for path in LOCKS} >= {"requirements.lock", "requirements-build.lock"}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_package_of_a_lock_has_its_hash(path: Path) -> None:
    whole = re.sub(r"\\\n\s*", " ", path.read_text())
    pinned = [line for line in whole.splitlines() if line and not line.lstrip().startswith("#")]
    assert pinned
    for line in pinned:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", line)


@pytest.mark.parametrize("folder", ["peers", "toolchain"])
def test_each_package_from_npm_has_its_hash(folder: str) -> None:
    lock = json.loads((ROOT / "scripts" / folder / "package-lock.json").read_text())
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert packages
    for name, one in packages.items():
        assert one.get("integrity", "").startswith("sha512-"), name


def test_packages_are_installed_by_these_hashes_alone() -> None:
    """pip with `--require-hashes` takes nothing else."""
    said = (ROOT / "scripts" / "setup").read_text().splitlines()
    installs = [line for line in said if re.search(r"\$pip install|pip install", line)]
    assert len(installs) == 3
    assert [line for line in installs if "--require-hashes" not in line] == [
        "run $pip install --no-deps --no-build-isolation -e ."
    ]
