"""The locked packages, against the Pythons that this one says it runs on."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]


def test_a_python_that_the_project_takes_is_refused_by_no_locked_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    taken = SpecifierSet(project["requires-python"])
    pythons = [python for minor in range(30) if (python := f"3.{minor}.0") in taken]
    assert "3.13.0" in pythons
    locked = re.findall(r"(?m)^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text())
    refused = [
        (name, python)
        for name in locked
        for python in pythons
        if python not in SpecifierSet(metadata(name).get("Requires-Python", ""))
    ]
    assert not refused
