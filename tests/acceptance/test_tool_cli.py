"""`freehold tool` as a person uses it, on a home of its own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from node.cli.main import root
from node.errors import FreeholdError
from node.sandbox.testing import component_wat, write_tool

SHIPPED = {"calc", "files", "js", "python", "text", "web"}
ECHO = component_wat(
    """(call $answer (i32.const 0) (i32.sub (local.get $text) (i32.const 1))
         (i32.add (local.get $size) (i32.const 2)))"""
)
READS = component_wat(
    """(call $workspace.read (local.get $text) (local.get $size) (i32.const 32))
       (call $quote (i32.const 32))""",
    imports=["workspace.read"],
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path / "h"))
    assert CliRunner().invoke(root, ["init"]).exit_code == 0
    return tmp_path / "h"


def run(*words: str) -> Result:
    return CliRunner().invoke(root, ["tool", *words], prog_name="freehold")


def error_of(result: Result) -> FreeholdError:
    assert isinstance(result.exception, FreeholdError), result.output
    return result.exception


def describing(folder: Path, wat: str, *, name: str = "echo", toml: str = "") -> Path:
    """A tool whose component says the same as its tool.toml."""
    told = {
        "name": name,
        "version": "1.0.0",
        "about": "A tool of a test",
        "functions": [{"name": name, "description": "Does it", "parameters": {"type": "object"}}],
    }
    before, after = json.dumps({"name": "tool"}), json.dumps(told)
    for old, new in (
        (before.replace('"', "\\22"), after.replace('"', "\\22")),
        (f"20) (i32.const {len(before)}))", f"20) (i32.const {len(after)}))"),
    ):
        assert wat.count(old) == 1
        wat = wat.replace(old, new)
    made = write_tool(folder, wat, name=name).folder
    with (made / "tool.toml").open("a") as file:
        file.write(toml)
    return made


def test_list_names_what_ships() -> None:
    result = run("list", "--json")
    assert result.exit_code == 0
    found = {item["name"]: item for item in json.loads(result.stdout)}
    assert set(found) == SHIPPED
    assert {item["from"] for item in found.values()} == {"shipped"}
    ready = {name for name, item in found.items() if item["state"] == "ready"}
    assert ready >= SHIPPED - {"python"}
    assert "Exact arithmetic" in run("list").stdout


def test_show_says_what_a_tool_wants_and_takes() -> None:
    text = run("show", "files").stdout
    assert "wants     workspace" in text
    assert "files_write: Write text to a file, replacing it" in text
    assert "content: string" in text
    shown = json.loads(run("show", "calc", "--json").stdout)
    assert shown["capabilities"] == []
    assert shown["functions"][0]["parameters"]["required"] == ["expression"]


def test_show_of_an_unknown_tool_names_those_there_are() -> None:
    assert "calc" in error_of(run("show", "nope")).hint


def test_test_runs_the_examples() -> None:
    result = run("test", "calc")
    assert result.exit_code == 0
    assert "7 passed, 0 failed" in result.stdout
    checked = json.loads(run("test", "calc", "--json").stdout)
    assert all(item["passed"] for item in checked)


EXAMPLE = """
[[examples]]
function = "echo"
arguments = {{ v = "x" }}
{outcome}
"""


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        ('result = "x"', ""),
        ('result = "y"', 'expected "y", got "x"'),
        ('error = "no"', "expected the error 'no', got \"x\""),
    ],
)
def test_test_says_what_differs(tmp_path: Path, outcome: str, problem: str) -> None:
    folder = describing(tmp_path, ECHO, toml=EXAMPLE.format(outcome=outcome))
    result = run("test", str(folder), "--json")
    described, example = json.loads(result.stdout)
    assert described["passed"], described
    assert example["problem"] == problem
    assert result.exit_code == (1 if problem else 0)


def test_an_example_s_files_are_in_its_workspace(tmp_path: Path) -> None:
    toml = (
        '[[examples]]\nfunction = "reads"\narguments = { v = "a/b.txt" }\n'
        'files = { "a/b.txt" = "hello" }\nresult = "hello"\n'
    )
    folder = describing(tmp_path, READS, name="reads", toml=toml)
    text = (folder / "tool.toml").read_text().replace("= []", '= ["workspace"]')
    (folder / "tool.toml").write_text(text)
    result = run("test", str(folder))
    assert result.exit_code == 0, result.stdout


def test_an_example_s_file_stays_in_its_workspace(tmp_path: Path) -> None:
    toml = (
        '[[examples]]\nfunction = "echo"\narguments = {}\n'
        'files = { "../../x" = "hello" }\nresult = "hello"\n'
    )
    folder = describing(tmp_path, ECHO, toml=toml)
    assert "outside the workspace" in error_of(run("test", str(folder))).message


def test_add_list_remove(tmp_path: Path, home: Path) -> None:
    folder = describing(tmp_path, ECHO)
    added = run("add", str(folder))
    assert added.exit_code == 0, added.exception
    assert "it wants no capability" in added.stderr
    found = {item["name"]: item for item in json.loads(run("list", "--json").stdout)}
    assert (found["echo"]["from"], found["echo"]["state"]) == ("added", "ready")
    component = home / "tools" / "echo" / "tool.wasm"
    component.write_bytes(component.read_bytes() + b"\0")
    found = {item["name"]: item for item in json.loads(run("list", "--json").stdout)}
    assert found["echo"]["state"] == "broken"
    assert run("remove", "echo").exit_code == 0
    assert not (home / "tools" / "echo").exists()
    assert "not an installed tool" in error_of(run("remove", "echo")).message


def test_a_component_that_stands_alone_describes_itself(tmp_path: Path) -> None:
    folder = describing(tmp_path / "made", ECHO)
    alone = tmp_path / "alone" / "some.wasm"
    alone.parent.mkdir()
    alone.write_bytes((folder / "tool.wasm").read_bytes())
    added = run("add", str(alone), "--json")
    assert added.exit_code == 0, added.exception
    assert json.loads(added.stdout)["name"] == "echo"
    assert run("test", "echo").exit_code == 0


def test_the_component_that_is_named_is_added_whatever_lies_beside_it(tmp_path: Path) -> None:
    beside = describing(tmp_path, ECHO, name="other")
    made = describing(tmp_path / "made", ECHO)
    named = beside / "echo.wasm"
    named.write_bytes((made / "tool.wasm").read_bytes())
    added = run("add", str(named), "--json")
    assert added.exit_code == 0, added.exception
    assert json.loads(added.stdout)["name"] == "echo"


def test_an_example_s_file_that_cannot_be_is_told(tmp_path: Path) -> None:
    folder = describing(tmp_path, ECHO)
    manifest = folder / "tool.toml"
    function = tomllib.loads(manifest.read_text())["functions"][0]["name"]
    example = f'\n[[examples]]\nfunction = "{function}"\nresult = 1\nfiles = {{"a\\u0000" = ""}}\n'
    manifest.write_text(manifest.read_text() + example)
    assert "cannot be written" in error_of(run("test", str(folder))).message


def test_a_component_that_says_otherwise_is_refused(tmp_path: Path, home: Path) -> None:
    folder = write_tool(tmp_path, ECHO, name="echo").folder
    assert "says another name" in error_of(run("add", str(folder))).message
    assert not (home / "tools" / "echo").exists()


@pytest.mark.parametrize("name", ["calc", "python"])
def test_a_shipped_tool_s_name_is_taken(tmp_path: Path, name: str) -> None:
    folder = describing(tmp_path, ECHO, name=name)
    assert "ships with the node" in error_of(run("add", str(folder))).message
    assert isinstance(run("remove", name).exception, FreeholdError)


@pytest.mark.parametrize("content", [b"", b"\0asm", b"not wasm"])
def test_what_is_no_component_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.wasm"
    file.write_bytes(content)
    assert error_of(run("add", str(file))).message
    assert "tool.toml" in error_of(run("add", str(tmp_path))).message


@pytest.mark.parametrize("language", ["c", "zig", "js", "python"])
def test_new_writes_a_tool_to_build(tmp_path: Path, language: str) -> None:
    made = run("new", "mine", "--lang", language, "--into", str(tmp_path))
    assert made.exit_code == 0
    assert "scripts/build_tools" in made.stderr
    sources = {path.name for path in (tmp_path / "mine").iterdir()}
    assert len(sources) == 2
    assert "not built" in error_of(run("test", str(tmp_path / "mine"))).message
    assert "not built" in error_of(run("add", str(tmp_path / "mine"))).message
    again = run("new", "mine", "--lang", language, "--into", str(tmp_path))
    assert "cannot write" in error_of(again).message


@pytest.mark.parametrize("name", ["My Tool", "../x", "", "1a", "a" * 40, "calc"])
def test_new_refuses_what_cannot_be_a_name(tmp_path: Path, name: str) -> None:
    assert error_of(run("new", name, "--into", str(tmp_path))).message
    assert [path.name for path in tmp_path.iterdir()] == ["h"]
