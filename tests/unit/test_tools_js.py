"""js: what was printed, what it came to, and errors in words."""

from __future__ import annotations

import pytest


def run(shipped, code):
    return shipped.call("js_run", {"code": code})


@pytest.mark.parametrize(
    ("code", "output", "result"),
    [
        ("1+1", "", 2),
        (
            "let a = 3; console.log('hi', a, [1, 'x', {b: 2}]); a * 2",
            'hi 3 [1, "x", { b: 2 }]\n',
            6,
        ),
        ("undefined", "", None),
        ("NaN", "", "NaN"),
        ("10n ** 20n", "", "100000000000000000000n"),
        ("new Map([[1, {a: 1}]])", "", "Map { 1 => { a: 1 } }"),
        ("let o = {}; o.o = o; o", "", "{ o: [Circular] }"),
        ("(x) => x", "", "[Function anonymous]"),
        ("class A { constructor() { this.x = 1 } }; new A()", "", {"x": 1}),
        ("new Date(0)", "", "1970-01-01T00:00:00.000Z"),
        ("'\\ud800'", "", "\ufffd"),
        ("'\\\\ud800'", "", "\\ud800"),
        ("[1, 2, 3].map((x) => x ** 2)", "", [1, 4, 9]),
        ("JSON.stringify = null; 4", "", 4),  # its own copy was taken before the program ran
        ("[0/0, -1/0, 1]", "", ["NaN", "-Infinity", 1]),
        (
            "({ m: new Map([['a', 1]]), s: [new Set([1])], e: new Error('e'), r: /x/ })",
            "",
            {"m": 'Map { "a" => 1 }', "s": ["Set { 1 }"], "e": "Error: e", "r": "/x/"},
        ),
        ("console.error(new Error('e')); console.log()", "Error: e\n\n", None),
    ],
)
def test_runs(shipped, code, output, result):
    assert run(shipped, code) == {"output": output, "result": result}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x.y", "ReferenceError: x is not defined (line 1)"),
        ("\n\nsyntax error here", "SyntaxError: expecting ';' (line 3)"),
        ("console.log(1); null.x", "printed before: 1"),
        ("throw 3", "thrown: 3"),
        ("Date.now()", "there is no clock here"),
        ("new Date()", "there is no clock here"),
        ("Promise.resolve(1)", "a promise is never settled here"),
        ("'x'.repeat(1e5)", "the result is too long: 100000 characters"),
        ("require('fs')", "ReferenceError"),
        ("fetch('https://example.invalid')", "ReferenceError"),
    ],
)
def test_fails_in_words(shipped, code, words):
    assert words in run(shipped, code)["error"]


def test_much_output_is_cut(shipped):
    output = run(shipped, "for (let i = 0; i < 1e5; i++) console.log(i)")["output"]
    assert 65_536 < len(output) < 65_600
    assert output.endswith("(more was printed)\n")


def test_a_call_leaves_nothing_behind(shipped):
    run(shipped, "globalThis.left = 1; Array.prototype.map = null")
    assert run(shipped, "typeof left + typeof [].map")["result"] == "undefinedfunction"


def test_a_call_is_a_function_of_its_source(shipped):
    code = "[Math.random(), Math.random()]"
    assert run(shipped, code) == run(shipped, code)
