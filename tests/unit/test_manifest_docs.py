"""The page about agents says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from node.runs.guards import ALWAYS, SELECTABLE
from node.runs.manifest import parse_manifest
from node.runs.manifest_schema import (
    UNSUPPORTED,
    BudgetModel,
    GrantModel,
    GuardsModel,
    ManifestModel,
    PaymentsModel,
    ToolModel,
)

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()


MODELS = (ManifestModel, BudgetModel, ToolModel, GuardsModel, PaymentsModel)


@pytest.mark.parametrize("model", MODELS)
def test_every_key_is_on_the_page(model: type[BaseModel]) -> None:
    sections = {"budget", "tools", "guards", "grant", "payments"}
    for key in model.model_fields.keys() - sections:
        assert f"`{key}`" in PAGE


def test_every_grant_guard_and_missing_section_is_on_the_page() -> None:
    for key in GrantModel.model_fields:
        assert f"`grant.{key}`" in PAGE
    for name in (*ALWAYS, *SELECTABLE):
        assert f"- `{name}`" in PAGE
    for name in UNSUPPORTED:
        assert re.search(rf"`\[+{name}\]+`", PAGE)


def test_the_example_is_an_agent() -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert example
    agent = parse_manifest(example.group(1).encode(), Path("clerk.toml"))
    assert [grant.name for grant in agent.tools] == ["calc", "files", "web"]


@pytest.mark.parametrize(("key", "value"), re.findall(r"`(\w+)` \((\d+)\)", PAGE))
def test_the_defaults_of_a_budget_are_those_of_the_page(key: str, value: str) -> None:
    assert BudgetModel.model_fields[key].default == float(value)
