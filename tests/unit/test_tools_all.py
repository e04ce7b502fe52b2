"""What every shipped tool must hold to: its manifest, its examples, and any call at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wasm_tools
from node.cli.tool_check import check
from node.sandbox import Grant, WorkspaceGrant, read_manifest
from node.types import JsonObject

SHIPPED = sorted(path.parent for path in Path(wasm_tools.__file__).parent.glob("*/tool.toml"))
BUILT = [folder.name for folder in SHIPPED if read_manifest(folder).sha256]
EXAMPLES = int(os.environ.get("FREEHOLD_FUZZ", "30"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None)


def test_all_but_python_are_built():
    assert {"calc", "files", "js", "text", "web"} <= set(BUILT)


@pytest.mark.parametrize("name", BUILT)
def test_the_component_is_the_one_that_is_pinned(shipped, name):
    manifest = shipped.manifest(name)
    component = (manifest.folder / manifest.component).read_bytes()
    assert hashlib.sha256(component).hexdigest() == manifest.sha256


@pytest.mark.parametrize("name", BUILT)
def test_it_imports_its_capabilities_and_nothing_else(shipped, name):
    manifest = shipped.manifest(name)
    wants = shipped.loop.run_until_complete(shipped.sandbox.prepare(manifest))
    assert wants == manifest.capabilities


@pytest.mark.parametrize("name", BUILT)
def test_its_examples_come_out_as_stated(shipped, name):
    checked = shipped.loop.run_until_complete(check(shipped.manifest(name), shipped.cache))
    assert [(item.title, item.problem) for item in checked if item.problem] == []
    assert len(checked) > 1


@pytest.mark.parametrize("name", BUILT)
def test_its_examples_fit_its_schemas(shipped, name):
    manifest = shipped.manifest(name)
    assert {example.function for example in manifest.examples} == {
        function.name for function in manifest.functions
    }
    for example in manifest.examples:
        jsonschema.validate(example.arguments, manifest.function(example.function).parameters)


@pytest.mark.parametrize(
    ("name", "limit_kb"), [("calc", 150), ("files", 150), ("text", 150), ("web", 150), ("js", 1200)]
)
def test_it_stays_small(shipped, name, limit_kb):
    manifest = shipped.manifest(name)
    assert (manifest.folder / manifest.component).stat().st_size < limit_kb * 1024


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("name", [name for name in BUILT if name not in ("js", "python")])
def test_any_arguments_are_answered(shipped, name, tmp_path):
    manifest = shipped.manifest(name)
    grant = Grant(workspace=WorkspaceGrant(tmp_path, "rw"), http=("https://example.invalid/*",))
    named = sorted({key for f in manifest.functions for key in f.parameters["properties"]})
    keys = st.sampled_from(named) | st.text(max_size=5)

    @FUZZ
    @given(
        st.sampled_from([function.name for function in manifest.functions]),
        st.dictionaries(keys.filter(str.isprintable), values, max_size=4),
    )
    def answered(function, arguments):
        answer = shipped.call(function, arguments, grant)
        assert isinstance(answer, dict)
        assert json.loads(json.dumps(answer)) == answer

    answered()


@pytest.mark.parametrize("name", [name for name in BUILT if name in ("js", "python")])
def test_arguments_that_are_no_program_are_errors(shipped, name):
    for arguments in ({}, {"code": 1}, {"code": None}, {"code": []}):
        assert "error" in shipped.call(f"{name}_run", arguments)


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("depth", [50, 90])
def test_nested_arguments_are_no_trap(shipped, name, depth):
    nested: JsonObject = {}
    for _ in range(depth):
        nested = {"a": [nested]}
    function = shipped.manifest(name).functions[0].name
    grant = Grant(
        workspace=WorkspaceGrant(shipped.manifest(name).folder), http=("https://a.invalid/*",)
    )
    assert set(shipped.call(function, {"nested": nested}, grant)) == {"error"}
