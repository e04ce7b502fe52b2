"""What the documents tell a user to type is accepted by the real command line.

Every `$ freehold …` line in a console block must parse. Blocks after `<!-- runs -->` are typed in
order into a shell with a home of their own, and what they show must come back; `…` stands for
anything.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from node.cli.main import root

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- runs -->\n+)?```console\n(.*?)```", re.DOTALL)


def blocks(document: Path) -> list[tuple[bool, str]]:
    """The console blocks of a document, each with whether it is to be run."""
    found = BLOCK.findall(document.read_text(encoding="utf-8"))
    return [(bool(marker), body) for marker, body in found]


def commands(body: str) -> list[tuple[str, list[str]]]:
    """The typed lines of a block, each with the lines it is said to print."""
    typed: list[tuple[str, list[str]]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            typed.append((line[2:], []))
        elif typed and line:
            typed[-1][1].append(line)
    return typed


def typed_lines() -> list[tuple[str, str]]:
    """Every typed line in the documents, with the document's name."""
    return [
        (document.name, line)
        for document in DOCUMENTS
        for _, body in blocks(document)
        for line, _ in commands(body)
    ]


def resolve(words: list[str]) -> click.Command:
    """The command the words name; raises click's UsageError where they are not accepted."""
    context = root.make_context("freehold", list(words))
    while isinstance(context.command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context.command


def test_the_documents_have_commands() -> None:
    assert len(typed_lines()) > 10


@pytest.mark.parametrize(("document", "line"), typed_lines())
def test_a_typed_line_is_accepted(
    document: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FILE.gguf", "before.tar.gz"):  # what the documents call files of the reader's own
        (tmp_path / name).touch()
    for part in re.split(r"\s(?:\||&&|;|>|<)\s", line):
        words = shlex.split(part, comments=True)
        if words and words[0] == "freehold":
            resolve(words[1:])
        elif words and words[0].startswith("scripts/"):
            assert os.access(ROOT / words[0], os.X_OK), f"{document}: {words[0]} is not a script"


def test_an_unknown_option_would_be_noticed() -> None:
    with pytest.raises(click.UsageError):
        resolve(["status", "--no-such-option"])


def matches(shown: list[str], printed: str) -> bool:
    """Whether the shown lines occur in the output, in order, `…` standing for anything."""
    pattern = r"[\s\S]*?".join(
        ".*?".join(re.escape(piece) for piece in line.strip().split("…")) for line in shown
    )
    return re.search(pattern, printed) is not None


def test_the_quick_start_does_what_it_shows(tmp_path: Path) -> None:
    home = tmp_path / "home"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "FREEHOLD_HOME": str(home), "PATH": path, "COLUMNS": "100"}

    def shell(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    try:
        for marked, body in blocks(ROOT / "README.md"):
            for line, shown in commands(body) if marked else []:
                done = shell(line)
                printed = done.stdout + done.stderr
                assert done.returncode == 0, f"$ {line}\n{printed}"
                assert matches(shown, printed), f"$ {line}\n{printed}"
    finally:
        if home.exists():
            shell("freehold down")
