"""The python tool, which is built by `scripts/build_tools python` and not committed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import wasm_tools
from node.cli.tool_check import check
from node.sandbox import Grant, Sandbox, ToolManifest, read_manifest
from node.types import Json

MANIFEST = read_manifest(Path(wasm_tools.__file__).parent / "python")

pytestmark = [
    pytest.mark.skipif(not MANIFEST.sha256, reason="run scripts/build_tools python first"),
    pytest.mark.timeout(300),  # compiling 20 MB takes 15 seconds where nothing else runs
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("python") / "cache"


@pytest.fixture
async def sandbox(cache: Path) -> AsyncIterator[Sandbox]:
    made = Sandbox(cache)
    yield made
    await made.aclose()


async def run(sandbox: Sandbox, code: str, manifest: ToolManifest = MANIFEST) -> Json:
    result = await sandbox.call(manifest, "python_run", {"code": code}, Grant())
    return result.value


@pytest.mark.parametrize(
    ("code", "output", "result"),
    [
        ("1 + 1", "", 2),
        ("print('hi', 3)\n6 * 7", "hi 3\n", 42),
        ("x = 1", "", None),
        ("import math; math.sqrt(2)", "", 2**0.5),
        ("2 ** 200", "", 2**200),
        ("{'a': [1, 2.5, None]}", "", {"a": [1, 2.5, None]}),
        ("{1: 2}", "", "{1: 2}"),
        ("float('nan')", "", "nan"),
        ("l = []; l.append(l); l", "", "[[...]]"),
        ("'\\ud800'", "", "\ufffd"),
        ("'字' * 20_000", "", "字" * 20_000),
        ("import sys; print('x'); sys.exit(0)", "x\n", None),
        ("import datetime as d; str(d.date(2024, 5, 6) + d.timedelta(30))", "", "2024-06-05"),
        ("import re; re.findall('a.', 'abac')", "", ["ab", "ac"]),
        ("import hashlib; hashlib.sha256(b'x').hexdigest()[:8]", "", "2d711642"),
        ("from collections import Counter; Counter('aab')", "", "Counter({'a': 2, 'b': 1})"),
        ("import csv, io; list(csv.reader(io.StringIO('a,b')))", "", [["a", "b"]]),
        ("from xml.etree import ElementTree as E; E.fromstring('<a>b</a>').text", "", "b"),
    ],
)
async def test_runs(sandbox: Sandbox, code: str, output: str, result: Json) -> None:
    assert await run(sandbox, code) == {"output": output, "result": result}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero (line 1)"),
        ("\n\nfoo", "NameError: name 'foo' is not defined (line 3)"),
        ("a b", "SyntaxError: invalid syntax (line 1)"),
        ("print(1)\nraise ValueError", "printed before: 1"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("import sys\nsys.setrecursionlimit(9**9)\ndef f(): return f()\nf()", "RecursionError"),
        ("import os", "os is not among the modules here"),
        ("import socket", "socket is not among the modules here"),
        ("import xml.sax", "No module named 'xml.sax'"),
        ("open('x')", "there is no file here"),
        ("import io; io.FileIO('x')", "there is no file here"),
        ("input()", "there is no input here"),
        ("import time; time.time()", "there is no clock here"),
        ("import datetime; datetime.datetime.now()", "there is no clock here"),
        ("import uuid; uuid.uuid4()", "there is no source of chance here"),
        ("2 ** 20000", "too many digits"),
        ("[2 ** 20000]", "Exceeds the limit (4300 digits)"),
        ("\n\neval('a b')", "SyntaxError: invalid syntax (<string>, line 1) (line 3)"),
        ("'x' * 100_000", "the result is too long"),
    ],
)
async def test_fails_in_words(sandbox: Sandbox, code: str, words: str) -> None:
    answer = await run(sandbox, code)
    assert isinstance(answer, dict)
    assert words in str(answer["error"])


async def test_a_call_is_a_function_of_its_source(sandbox: Sandbox) -> None:
    code = "import random; [random.random(), random.Random().random(), hash('a')]"
    assert await run(sandbox, code) == await run(sandbox, code)


async def test_much_output_is_cut(sandbox: Sandbox) -> None:
    answer = await run(sandbox, "print('x' * 100_000)")
    assert isinstance(answer, dict)
    assert 65_536 < len(str(answer["output"])) < 65_600


async def test_output_that_was_full_says_that_more_was_printed(sandbox: Sandbox) -> None:
    exactly = await run(sandbox, "print('x' * 65_535)")  # and a line end
    assert exactly == {"output": "x" * 65_535 + "\n", "result": None}
    more = await run(sandbox, "print('x' * 65_535)\nprint('y')\nprint('z')")
    assert more == {"output": "x" * 65_535 + "\n\n… (more was printed)\n", "result": None}


async def test_its_examples_come_out_as_stated(cache: Path) -> None:
    assert [item.title for item in await check(MANIFEST, cache) if not item.passed] == []
