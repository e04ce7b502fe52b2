"""`tool.toml` and the store of tools: strict, and never a tool whose component changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import ToolError
from node.sandbox import (
    Limits,
    ToolManifest,
    ToolStore,
    parse_manifest,
    read_manifest,
)
from node.sandbox.manifest import is_tool_name
from node.sandbox.testing import component_wat, write_tool

GOOD = """
name = "tool"
version = "1.2.3"
about = "A tool"
language = "zig"
capabilities = ["http", "clock"]
sha256 = ""
[[functions]]
name = "do_it"
description = "Does it"
read_only = true
parameters = {type = "object", required = ["x"]}
"""
WAT = component_wat("(call $answer (i32.const 1) (local.get $text) (local.get $size))")
OTHER = component_wat("(call $answer (i32.const 0) (local.get $text) (local.get $size))")


def parse(text: str) -> ToolManifest:
    return parse_manifest(text.encode(), Path("/tools/tool/tool.toml"))


def test_reads_every_key() -> None:
    manifest = parse(GOOD)
    assert manifest.name == "tool"
    assert manifest.capabilities == {"http", "clock"}
    assert manifest.folder == Path("/tools/tool")
    assert manifest.component == "tool.wasm"
    function = manifest.function("do_it")
    assert (function.read_only, function.idempotent) == (True, False)
    assert function.parameters == {"type": "object", "required": ["x"]}
    function = parse(GOOD.replace("read_only = true", "")).function("do_it")
    assert (function.read_only, function.idempotent) == (False, False)


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('version = "1.2.3"', 'version = "1.2"', "version"),
        ('version = "1.2.3"', "", "version"),
        ('name = "tool"', 'name = "../tool"', "name"),
        ('name = "tool"', 'name = "Tool"', "name"),
        ('about = "A tool"', 'about = "A tool"\nextra = 1', "extra"),
        ('["http", "clock"]', '["http", "filesystem"]', "capabilities"),
        ('sha256 = ""', 'sha256 = "abc"', "sha256"),
        ('sha256 = ""', 'sha256 = ""\ncomponent = "../x.wasm"', "component"),
        ("read_only = true", 'read_only = "yes"', "read_only"),
        ("read_only = true", "destructive = true", "destructive"),
        ('{type = "object", required = ["x"]}', '{type = "array"}', "parameters"),
        ('{type = "object", required = ["x"]}', '{type = "object", required = 3}', "parameters"),
        ('name = "do_it"', 'name = "do it"', "functions"),
        ("[[functions]]", "[functions]", "functions"),
        ('name = "tool"', "name = ", "not TOML"),
    ],
)
def test_an_error_names_file_and_key(old: str, new: str, names: str) -> None:
    with pytest.raises(ToolError, match=names) as caught:
        parse(GOOD.replace(old, new))
    assert "tool.toml" in caught.value.message


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(ToolError, match="same name"):
        parse(
            GOOD
            + '[[functions]]\nname = "do_it"\ndescription = "x"\nparameters = {}\n'.replace(
                "{}", '{type = "object"}'
            )
        )


@settings(max_examples=int(os.environ.get("FREEHOLD_FUZZ", "200")), deadline=None)
@given(st.data())
def test_a_damaged_manifest_is_a_tool_error(data: st.DataObject) -> None:
    raw = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    with contextlib.suppress(ToolError):
        tool = parse_manifest(bytes(raw), Path("/tools/tool/tool.toml"))
        assert is_tool_name(tool.name)
        assert tool.component.endswith(".wasm")
        assert tool.functions
        assert all(function.parameters["type"] == "object" for function in tool.functions)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_a_tool_error(raw: bytes) -> None:
    with pytest.raises(ToolError):
        parse_manifest(raw, Path("/tools/tool/tool.toml"))


@pytest.fixture
def store(tmp_path: Path) -> ToolStore:
    (tmp_path / "shipped").mkdir()
    return ToolStore(tmp_path / "shipped", tmp_path / "installed")


def test_lists_and_gets_what_is_sound(tmp_path: Path, store: ToolStore) -> None:
    write_tool(tmp_path / "shipped", WAT, name="one")
    write_tool(tmp_path / "shipped", WAT, name="two")
    (tmp_path / "shipped" / "two" / "tool.wasm").write_bytes(b"other")
    assert [tool.name for tool in store.list()] == ["one"]
    assert store.names() == ["one", "two"]
    assert store.get("one").folder == tmp_path / "shipped" / "one"
    with pytest.raises(ToolError, match="not the file"):
        store.get("two")


def test_notices_a_component_that_changes_under_it(tmp_path: Path, store: ToolStore) -> None:
    tool = write_tool(tmp_path / "shipped", WAT, name="one")
    assert store.get("one") == tool
    path = tool.folder / "tool.wasm"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ToolError, match="not the file"):
        store.get("one")


@pytest.mark.parametrize("name", ["none", "../one", "", "one/", "ONE"])
def test_an_unknown_name_says_which_there_are(tmp_path: Path, store: ToolStore, name: str) -> None:
    write_tool(tmp_path / "shipped", WAT, name="one")
    with pytest.raises(ToolError, match="no tool named") as caught:
        store.get(name)
    assert "one" in caught.value.hint


def test_a_tool_that_is_not_built_says_so(tmp_path: Path, store: ToolStore) -> None:
    tool = write_tool(tmp_path / "shipped", WAT, name="one")
    toml = tool.folder / "tool.toml"
    toml.write_text(toml.read_text().replace(tool.sha256, ""))
    with pytest.raises(ToolError, match="not built"):
        store.get("one")


def pinned_beside(folder: Path, digest: str | None = None) -> ToolManifest:
    """A tool without `sha256` in its manifest, as one that is built where it is used."""
    tool = write_tool(folder, WAT, name="one")
    toml = tool.folder / "tool.toml"
    toml.write_text(toml.read_text().replace(f'sha256 = "{tool.sha256}"\n', ""))
    (tool.folder / "tool.sha256").write_text(tool.sha256 + "\n" if digest is None else digest)
    return tool


def test_a_digest_may_lie_beside_the_manifest(tmp_path: Path, store: ToolStore) -> None:
    tool = pinned_beside(tmp_path / "shipped")
    assert store.get("one").sha256 == tool.sha256
    (tool.folder / "tool.wasm").write_bytes(b"other")
    with pytest.raises(ToolError, match="not the file"):
        store.get("one")
    (tool.folder / "tool.sha256").unlink()
    with pytest.raises(ToolError, match="not built"):
        store.get("one")


def test_a_digest_in_the_manifest_counts_more_than_one_beside_it(
    tmp_path: Path, store: ToolStore
) -> None:
    tool = write_tool(tmp_path / "shipped", WAT, name="one")
    (tool.folder / "tool.wasm").write_bytes(b"other")
    (tool.folder / "tool.sha256").write_text(hashlib.sha256(b"other").hexdigest())
    with pytest.raises(ToolError, match="not the file"):
        store.get("one")


def test_a_tool_with_its_digest_beside_it_can_be_installed(
    tmp_path: Path, store: ToolStore
) -> None:
    tool = pinned_beside(tmp_path / "elsewhere")
    assert store.add(tool.folder).sha256 == tool.sha256
    assert store.get("one").folder == tmp_path / "installed" / "one"


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "a" * 63, "a" * 300_000, "\udcff"])
def test_a_digest_beside_the_manifest_is_one(tmp_path: Path, store: ToolStore, digest: str) -> None:
    tool = pinned_beside(tmp_path / "shipped", "")
    (tool.folder / "tool.sha256").write_bytes(digest.encode(errors="surrogateescape"))
    with pytest.raises(ToolError, match=r"tool\.sha256"):
        store.get("one")


@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize("replacing", [True, False])
def test_what_an_install_that_was_killed_left_is_put_right(
    tmp_path: Path, store: ToolStore, monkeypatch: pytest.MonkeyPatch, replacing: bool, moved: bool
) -> None:
    """Killed between the two moves, where the old tool is away and the new one not there yet, or
    after them, where the old one is still beside it."""

    class Killed(BaseException): ...

    def kill(*_: object, **__: object) -> None:
        raise Killed

    if replacing:
        store.add(write_tool(tmp_path / "old", WAT, name="one").folder)
    move = Path.rename
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", kill)
        patched.setattr(
            Path,
            "rename",
            lambda path, to: kill() if path.name == "new" and not moved else move(path, to),
        )
        with pytest.raises(Killed):
            store.add(write_tool(tmp_path / "new", OTHER, name="one").folder)
    assert store.names() == ["one"] * moved
    store.add(write_tool(tmp_path / "more", WAT, name="two").folder)
    assert store.names() == ["one"] * (replacing or moved) + ["two"]
    if moved:
        assert store.get("one").sha256 == read_manifest(tmp_path / "new" / "one").sha256
    assert not [*(tmp_path / "installed").glob(".*")]


def test_a_tool_of_the_owners_stays_where_a_later_node_ships_one_of_its_name(
    tmp_path: Path, store: ToolStore
) -> None:
    mine = store.add(write_tool(tmp_path / "elsewhere", WAT, name="one").folder)
    write_tool(tmp_path / "shipped", OTHER, name="one")
    found = store.get("one")
    assert (found, found.is_shipped) == (mine, False)


def test_a_folder_that_no_tool_can_be_named_like_is_none(tmp_path: Path, store: ToolStore) -> None:
    write_tool(tmp_path / "shipped", WAT, name="one")
    for name in ("Copy of one", "one.bak"):
        shutil.copytree(tmp_path / "shipped" / "one", tmp_path / "installed" / name)
    assert store.names() == ["one"]


def test_only_what_came_with_the_node_is_shipped(tmp_path: Path, store: ToolStore) -> None:
    write_tool(tmp_path / "shipped", WAT, name="one")
    store.add(write_tool(tmp_path / "elsewhere", WAT, name="two").folder)
    assert {tool.name: tool.is_shipped for tool in store.list()} == {"one": True, "two": False}


def test_a_folder_must_have_its_tools_name(tmp_path: Path, store: ToolStore) -> None:
    write_tool(tmp_path / "shipped", WAT, name="one")
    (tmp_path / "shipped" / "one").rename(tmp_path / "shipped" / "two")
    with pytest.raises(ToolError, match="must be two"):
        store.get("two")


def test_installs_replaces_and_removes(tmp_path: Path, store: ToolStore) -> None:
    source = write_tool(tmp_path / "elsewhere", WAT, name="mine")
    added = store.add(source.folder)
    assert added.folder == tmp_path / "installed" / "mine"
    assert store.get("mine").sha256 == source.sha256
    other = write_tool(tmp_path / "other", WAT.replace("i32.const 1)", "i32.const 0)"), name="mine")
    assert store.add(other.folder / "tool.wasm").sha256 == other.sha256
    assert sorted(path.name for path in (tmp_path / "installed").iterdir()) == ["mine"]
    store.remove("mine")
    assert store.names() == []
    with pytest.raises(ToolError, match="not an installed tool"):
        store.remove("mine")


def test_a_shipped_tools_name_is_taken(tmp_path: Path, store: ToolStore) -> None:
    write_tool(tmp_path / "shipped", WAT, name="calc")
    other = write_tool(tmp_path / "other", WAT, name="calc")
    with pytest.raises(ToolError, match="ships with the node"):
        store.add(other.folder)
    (tmp_path / "installed").mkdir()
    for name in ("calc", "../shipped/calc"):
        with pytest.raises(ToolError, match="not an installed tool"):
            store.remove(name)


def test_installs_nothing_whose_component_is_another(tmp_path: Path, store: ToolStore) -> None:
    source = write_tool(tmp_path / "elsewhere", WAT, name="mine")
    (source.folder / "tool.wasm").write_bytes(b"x")
    with pytest.raises(ToolError, match="not the file"):
        store.add(source.folder)
    assert store.names() == []


def test_a_component_has_a_size(tmp_path: Path) -> None:
    tool = write_tool(tmp_path / "shipped", WAT, name="one")
    store = ToolStore(tmp_path / "shipped", tmp_path, limits=Limits(component_bytes=10))
    with pytest.raises(ToolError, match="component_bytes = 10"):
        store.get("one")
    assert read_manifest(tool.folder) == tool


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("{type = 'string', pattern = 'x{99999999999}'}", "repetition"),
        ("{type = 'string', default = 1979-05-27}", "not JSON"),
        ("{type = 'number', default = nan}", "not JSON"),
        ("{type = 'number', maximum = inf}", "not JSON"),
        ("{type = 'array', default = " + "[" * 70 + "]" * 70 + "}", "over 64 deep"),
    ],
)
def test_a_schema_is_json_that_can_be_applied(rule: str, words: str) -> None:
    schema = f"parameters = {{type = 'object', properties = {{x = {rule}}}}}"
    with pytest.raises(ToolError, match=words):
        parse(GOOD.replace('parameters = {type = "object", required = ["x"]}', schema))


@pytest.mark.parametrize("what", ["arguments = {x = 1979-05-27}\nresult = 1", "result = {a = nan}"])
def test_an_example_is_json(what: str) -> None:
    with pytest.raises(ToolError, match="not JSON"):
        parse(f'{GOOD}\n[[examples]]\nfunction = "do_it"\n{what}\n')


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ('function = "do_it"', "either result or error"),
        ('function = "do_it"\nresult = 1\nerror = "no"', "either result or error"),
        ('function = "do_more"\nresult = 1', "there is no such function"),
    ],
)
def test_an_example_says_what_comes_of_a_function(example: str, words: str) -> None:
    with pytest.raises(ToolError, match=words):
        parse(f"{GOOD}\n[[examples]]\n{example}\n")


def test_what_changes_while_it_is_installed_replaces_nothing(
    tmp_path: Path, store: ToolStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_tool(tmp_path / "elsewhere", WAT, name="mine")
    kept = store.add(source.folder).sha256
    copy = shutil.copyfile

    def copy_and_change(one: Path, other: Path) -> None:
        copy(one, other)
        with other.open("ab") as file:
            file.write(b"#")

    monkeypatch.setattr(shutil, "copyfile", copy_and_change)
    with pytest.raises(ToolError, match="is not the file"):
        store.add(source.folder)
    assert store.get("mine").sha256 == kept
    assert [path.name for path in (tmp_path / "installed").iterdir()] == ["mine"]


def test_a_manifest_that_changes_while_it_is_installed_is_not_what_was_looked_at(
    tmp_path: Path, store: ToolStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, copy = write_tool(tmp_path / "elsewhere", WAT, name="mine"), shutil.copyfile

    def copy_and_change(one: Path, other: Path) -> None:
        copy(one, other)
        if other.name == "tool.toml":
            other.write_text(other.read_text() + "read_only = true\n")

    monkeypatch.setattr(shutil, "copyfile", copy_and_change)
    with pytest.raises(ToolError, match="changed meanwhile"):
        store.add(source.folder)
    assert store.names() == []


def test_a_manifest_has_a_size(tmp_path: Path) -> None:
    tool = write_tool(tmp_path, WAT, name="mine")
    with (tool.folder / "tool.toml").open("a") as file:
        file.write("#" * 300_000)
    with pytest.raises(ToolError, match="larger than"):
        read_manifest(tool.folder)


def test_a_tool_that_cannot_be_replaced_stays(
    tmp_path: Path, store: ToolStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_tool(tmp_path / "elsewhere", WAT, name="mine")
    kept = store.add(source.folder)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise PermissionError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(ToolError, match="cannot be installed"):
        store.add(source.folder)
    assert store.get("mine") == kept


def test_a_component_beside_the_manifest_of_another_is_not_that_one(
    tmp_path: Path, store: ToolStore
) -> None:
    source = write_tool(tmp_path / "elsewhere", WAT, name="mine")
    other = source.folder / "other.wasm"
    other.write_bytes(b"another")
    with pytest.raises(ToolError, match="is not the component"):
        store.add(other)
    assert store.names() == []


def test_a_link_to_a_tool_is_not_followed_when_it_is_removed(
    tmp_path: Path, store: ToolStore
) -> None:
    source = write_tool(tmp_path / "elsewhere", WAT, name="mine")
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "mine").symlink_to(source.folder)
    with pytest.raises(ToolError, match="cannot be removed"):
        store.remove("mine")
    assert read_manifest(source.folder) == source
