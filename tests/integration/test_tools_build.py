"""The toolchain: a tool of one's own in each language, and the shipped ones again byte for byte.

Skipped where its environments are absent; `scripts/build_tools` makes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from node.sandbox import Grant, Sandbox, WorkspaceGrant, read_manifest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "build_tools"
LOCKS = {
    ROOT / ".venv-tools": "requirements.lock",
    ROOT / "scripts" / "toolchain" / "node_modules": "package-lock.json",
}


def toolchain_is_ready() -> bool:
    return all((folder / ".lock-sha256").exists() for folder in LOCKS)


needs_toolchain = pytest.mark.skipif(
    not toolchain_is_ready(), reason="run scripts/build_tools once to set up the compilers"
)


def freehold(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node.cli", *words],
        env={**os.environ, "FREEHOLD_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def build(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False
    )


@needs_toolchain
@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", ["c", "zig", "js"])
def test_a_tool_of_ones_own(tmp_path: Path, language: str) -> None:
    home, folder = tmp_path / "home", tmp_path / "mine"
    assert freehold(home, "init").returncode == 0
    made = freehold(home, "tool", "new", "mine", "--lang", language, "--into", str(tmp_path))
    assert made.returncode == 0, made.stderr
    built = build(str(folder))
    assert built.returncode == 0, built.stderr
    tested = freehold(home, "tool", "test", str(folder), "--json")
    assert tested.returncode == 0, tested.stdout
    assert [item["passed"] for item in json.loads(tested.stdout)] == [True, True, True]
    added = freehold(home, "tool", "add", str(folder), "--json")
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["functions"][0]["name"] == "mine_greet"


HOSTED = {
    "c": """
#include "freehold.h"
static void greet(fh_call *call) {
  const char *name = fh_text(call, "name");
  if (fh_length(name) == 0) { fh_workspace_read(call, "missing"); return; }
  fh_answer_number(call, "bytes", (double)fh_workspace_write(call, "x", name));
  fh_answer_text(call, "back", fh_workspace_read(call, "x"));
  fh_store_set(call, "k", "v");
  fh_answer_text(call, "kept", fh_store_get(call, "k"));
  fh_answer_bool(call, "none", fh_store_get(call, "z") == 0);
  fh_answer_bool(call, "later", fh_clock_now() > 1600000000000);
}
const fh_function fh_functions[] = {{"mine_greet", greet}, {0}};
""",
    "js": """
import workspace from "freehold:tool/workspace@1.0.0";
import store from "freehold:tool/store@1.0.0";
import clock from "freehold:tool/clock@1.0.0";
export const functions = {
  mine_greet({ name }) {
    if (!name) return workspace.read("missing");
    const bytes = Number(workspace.write("x", name));
    store.set("k", "v");
    const none = store.get("z") === null;
    const later = clock.now() > 1600000000000;
    return { bytes, back: workspace.read("x"), kept: store.get("k"), none, later };
  },
};
""",
}


@needs_toolchain
@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", HOSTED)
def test_capabilities_reach_a_tool_of_ones_own(tmp_path: Path, language: str) -> None:
    folder = tmp_path / "mine"
    freehold(tmp_path, "tool", "new", "mine", "--lang", language, "--into", str(tmp_path))
    (folder / f"tool.{language}").write_text(HOSTED[language], encoding="utf-8")
    toml = (folder / "tool.toml").read_text(encoding="utf-8")
    for old, new in (
        ("capabilities = []", 'capabilities = ["workspace", "store", "clock"]'),
        ("read_only = true", "read_only = false"),
        (
            '{ greeting = "Hello, Ada!" }',
            '{ bytes = 3, back = "Ada", kept = "v", none = true, later = true }',
        ),
        ('error = "nobody"', 'error = "missing"'),
    ):
        assert old in toml
        toml = toml.replace(old, new)
    (folder / "tool.toml").write_text(toml, encoding="utf-8")
    built = build(str(folder))
    assert built.returncode == 0, built.stderr
    tested = freehold(tmp_path / "home", "tool", "test", str(folder))
    assert tested.returncode == 0, tested.stdout


CARELESS = """
#include "freehold.h"
static void greet(fh_call *call) {
  fh_workspace_write(call, "before", fh_text(call, "name"));
  const char *old = fh_workspace_read(call, "notes");
  fh_workspace_write(call, "notes", fh_join(call, old, "more"));
  fh_workspace_remove(call, "before");
  fh_store_set(call, "k", old);
  fh_fail(call, "the second failure");
}
const fh_function fh_functions[] = {{"mine_greet", greet}, {0}};
"""


@needs_toolchain
@pytest.mark.timeout(300)
async def test_a_tool_in_c_changes_nothing_once_it_has_failed(tmp_path: Path) -> None:
    folder, workspace = tmp_path / "mine", tmp_path / "workspace"
    freehold(tmp_path, "tool", "new", "mine", "--lang", "c", "--into", str(tmp_path))
    (folder / "tool.c").write_text(CARELESS, encoding="utf-8")
    toml = (folder / "tool.toml").read_text(encoding="utf-8")
    named = toml.replace("capabilities = []", 'capabilities = ["workspace", "store"]')
    writes = named.replace("read_only = true", "read_only = false")
    (folder / "tool.toml").write_text(writes, encoding="utf-8")
    built = build(str(folder))
    assert built.returncode == 0, built.stderr
    workspace.mkdir()
    (workspace / "notes").write_bytes(b"kept \xff")  # not UTF-8: a read of it fails
    grant = Grant(workspace=WorkspaceGrant(workspace, "rw"), store=tmp_path / "store.db")
    sandbox = Sandbox(tmp_path / "cache")
    try:
        answer = await sandbox.call(read_manifest(folder), "mine_greet", {"name": "Ada"}, grant)
    finally:
        await sandbox.aclose()
    assert answer.value == {"error": "notes: the file is not UTF-8 text"}
    assert (workspace / "notes").read_bytes() == b"kept \xff"
    assert (workspace / "before").read_text() == "Ada"


@needs_toolchain
@pytest.mark.timeout(300)
def test_what_goes_out_of_bounds_traps(tmp_path: Path) -> None:
    freehold(tmp_path, "tool", "new", "wrong", "--lang", "zig", "--into", str(tmp_path))
    source = tmp_path / "wrong" / "tool.zig"
    text = source.read_text()
    assert "if (name.len == 0)" in text
    source.write_text(text.replace("if (name.len == 0)", "if (name[name.len] == 0)"))
    built = build(str(tmp_path / "wrong"))
    assert built.returncode == 0, built.stderr
    tested = freehold(tmp_path / "home", "tool", "test", str(tmp_path / "wrong"))
    assert "trap" in tested.stdout, tested.stdout


DOCUMENTED = ROOT / "docs" / "tools.md"


def blocks(language: str) -> list[str]:
    """The code blocks of docs/tools.md in that language."""
    parts = DOCUMENTED.read_text(encoding="utf-8").split("```")
    return [part.partition("\n")[2] for part in parts[1::2] if part.startswith(language + "\n")]


@needs_toolchain
@pytest.mark.timeout(300)
def test_the_documented_example(tmp_path: Path) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "tool.toml").write_text(blocks("toml")[0], encoding="utf-8")
    (folder / "tool.js").write_text(blocks("js")[0], encoding="utf-8")
    built = build(str(folder))
    assert built.returncode == 0, built.stderr
    tested = freehold(tmp_path / "home", "tool", "test", str(folder))
    assert tested.returncode == 0, tested.stdout
    assert "3 passed, 0 failed" in tested.stdout


@needs_toolchain
@pytest.mark.timeout(300)
def test_a_tool_that_uses_more_than_it_names_does_not_build(tmp_path: Path) -> None:
    freehold(tmp_path, "tool", "new", "greedy", "--lang", "zig", "--into", str(tmp_path))
    source = tmp_path / "greedy" / "tool.zig"
    text = source.read_text().replace(
        "if (name.len == 0)", "_ = guest.host.http.fetch(name);\n    if (name.len == 0)"
    )
    source.write_text(text)
    built = build(str(tmp_path / "greedy"))
    assert built.returncode == 2
    assert "freehold:tool/http" in built.stderr


@needs_toolchain
@pytest.mark.timeout(300)
def test_a_compiler_s_complaint_is_shown(tmp_path: Path) -> None:
    freehold(tmp_path, "tool", "new", "wrong", "--lang", "c", "--into", str(tmp_path))
    (tmp_path / "wrong" / "tool.c").write_text("int x = ;\n")
    built = build(str(tmp_path / "wrong"))
    assert built.returncode == 2
    assert "tool.c:1:9" in built.stderr


@needs_toolchain
@pytest.mark.timeout(300)
def test_the_committed_components_are_reproducible() -> None:
    built = build("--check")
    assert built.returncode == 0, built.stdout + built.stderr
    assert built.stdout.count("reproduced") == 5


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("", "language must be one of"),
        ("name = ", "tool.toml"),
        ('name = "x"\nlanguage = "zig"\n', "tool.zig is missing"),
    ],
)
def test_a_folder_that_is_no_tool_is_refused(tmp_path: Path, toml: str, words: str) -> None:
    (tmp_path / "tool.toml").write_text(toml)
    built = build(str(tmp_path))
    assert built.returncode == 2
    assert words in built.stderr


def test_no_lock_names_a_registry() -> None:
    for name in LOCKS.values():
        text = (ROOT / "scripts" / "toolchain" / name).read_text()
        assert '"resolved"' not in text
        assert "--index-url" not in text
        assert "sha512-" in text or "--hash=sha256:" in text


@needs_toolchain
@pytest.mark.timeout(300)
def test_a_digest_goes_beside_a_manifest_that_has_none(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "mine"
    freehold(home, "tool", "new", "mine", "--lang", "c", "--into", str(tmp_path))
    toml = folder / "tool.toml"
    toml.write_text(toml.read_text().replace('sha256 = ""\n', ""))
    before = toml.read_bytes()
    built = build(str(folder))
    assert built.returncode == 0, built.stderr
    assert toml.read_bytes() == before
    digest = hashlib.sha256((folder / "tool.wasm").read_bytes()).hexdigest()
    assert (folder / "tool.sha256").read_text() == digest + "\n"
    assert freehold(home, "tool", "test", str(folder)).returncode == 0
    (folder / "tool.wasm").write_bytes(b"other")
    assert freehold(home, "tool", "test", str(folder)).returncode != 0
