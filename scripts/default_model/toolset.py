"""The functions offered in training: the shipped ones, renamed ones, and others for variety.

A model that only ever saw `files_read` would learn the name and not read the description. So a
share of the functions is offered under other names, a share under names that mean nothing, with
other descriptions and argument names, and with arguments in another order.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from words import Words

_TOOLS = Path(__file__).resolve().parent.parent.parent / "wasm_tools"


@dataclass(frozen=True)
class Offered:
    """A function as one conversation sees it. `renamed`: shipped argument -> its name here."""

    kind: str
    name: str
    description: str
    parameters: dict[str, Any]
    renamed: dict[str, str]

    def spec(self) -> dict[str, Any]:
        """The OpenAI form."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        return {"type": "function", "function": function}

    def arguments(self, values: dict[str, Any]) -> dict[str, Any]:
        """`values` under the names and in the order of this function's schema."""
        own = {self.renamed[key]: value for key, value in values.items()}
        return {key: own[key] for key in self.parameters["properties"] if key in own}


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """The functions of wasm_tools/*/tool.toml by name."""
    found = {}
    for manifest in sorted(_TOOLS.glob("*/tool.toml")):
        for function in tomllib.loads(manifest.read_text())["functions"]:
            found[function["name"]] = function
    return found


@dataclass(frozen=True)
class Names:
    """How often functions are offered under their own names.

    Attributes:
        shipped: the share of conversations that have whole groups of shipped functions.
        plain: of the others, the share where the shipped functions keep names and descriptions.
        own, other: of the rest, the share that keep the name, and that have a name with a
            meaning or their own; the remaining names mean nothing.
    """

    shipped: float
    plain: float
    own: float
    other: float


USUAL = Names(shipped=0.55, plain=0.6, own=0.2, other=0.6)
HARD = Names(shipped=0.35, plain=0.2, own=0.1, other=0.3)


# kind: other names, other descriptions, other argument names
VARIED: dict[str, tuple[str, str, dict[str, str]]] = {
    "calc": (
        "calculate|math|compute|calculator|arithmetic|evaluate|do_math|sum",
        "Work out an arithmetic expression|Evaluate a formula and give the number|Do arithmetic"
        "|Exact sums, products and quotients|A calculator for numbers",
        {"expression": "expression|formula|input|expr|sum"},
    ),
    "files_list": (
        "list_files|ls|dir|folder_list|list_directory|list_folder|entries",
        "Show what is in a folder|Names of the files in a directory|List a directory"
        "|Give the entries of a folder|See which files there are",
        {"path": "path|folder|directory|dir"},
    ),
    "files_read": (
        "read_file|open_file|cat|load_file|get_file|file_read|read",
        "Return the text of a file|Get what a file contains|Open a file and give its text"
        "|Show the contents of a file|Load a text file",
        {"path": "path|file|filename|name"},
    ),
    "files_write": (
        "write_file|save_file|put_file|save|store_text|file_write|write",
        "Save text in a file|Put text into a file|Create or overwrite a file with text"
        "|Store text under a file name|Write a file",
        {"path": "path|file|filename|name", "content": "content|text|data|body"},
    ),
    "files_search": (
        "search_files|grep|find_text|search|find_in_files|lookup",
        "Search all files for a text|Find which files mention something"
        "|Look for a text in the files"
        "|Lines of any file that contain a text",
        {"query": "query|text|needle|what|term"},
    ),
    "web_fetch": (
        "fetch|http_get|get_url|download_page|open_url|browse|get_page",
        "Get the text of a web page|Download a page from an address|Open a URL and return its text"
        "|Load a web address",
        {"url": "url|address|link|uri"},
    ),
    "text_match": (
        "regex|match|regex_find|find_pattern|match_regex",
        "Apply a regular expression to a text|Find all matches of a pattern in a text"
        "|Run a regex over a string",
        {"pattern": "pattern|regex|expression", "text": "text|string|input"},
    ),
    "text_query": (
        "json_get|json_query|get_value|jq|json_path",
        "Get the value at a path in JSON|Look up a path in a JSON text|Extract a field from JSON",
        {"path": "path|query|field", "json": "json|data|document"},
    ),
    "text_diff": (
        "diff|compare|compare_texts|differences",
        "Show how two texts differ|Differences between an old and a new text"
        "|Compare an old text with a new one",
        {"old": "old|before|first|a", "new": "new|after|second|b"},
    ),
    "text_count": (
        "count|word_count|wc|count_text|measure_text",
        "Count words, lines and characters|How many words, lines and characters a text has"
        "|Length of a text in words, lines and characters",
        {"text": "text|string|input|content"},
    ),
    "js_run": (
        "run_js|javascript|node|eval_js|js",
        "Execute JavaScript code|Run some JavaScript and return what it prints",
        {"code": "code|source|script|program"},
    ),
    "python_run": (
        "run_python|python|exec_python|py",
        "Execute Python code|Run some Python and return what it prints",
        {"code": "code|source|script|program"},
    ),
}


def _pick(rng: random.Random, options: str) -> str:
    return rng.choice(options.split("|"))


def _nonsense(rng: random.Random, words: Words) -> str:
    name = words.made()
    return name if rng.random() < 0.6 else name + "_" + words.made()


def _reordered(rng: random.Random, properties: dict[str, Any]) -> dict[str, Any]:
    keys = list(properties)
    if rng.random() < 0.3:
        rng.shuffle(keys)
    return {key: properties[key] for key in keys}


def real(kind: str) -> Offered:
    """A shipped function, as it ships."""
    function = shipped()[kind]
    same = {key: key for key in function["parameters"]["properties"]}
    return Offered(kind, kind, function["description"], function["parameters"], same)


def varied(kind: str, rng: random.Random, words: Words, shares: Names = USUAL) -> Offered:
    """A shipped function under another name, description or arguments."""
    names, descriptions, arguments = VARIED[kind]
    roll = rng.random()
    if roll < shares.own:
        name = kind
    else:
        name = _pick(rng, names) if roll < shares.other else _nonsense(rng, words)
    description = shipped()[kind]["description"]
    if rng.random() < 0.7:
        description = _pick(rng, descriptions)
    if rng.random() < 0.15:
        description = description + "."
    renamed = {key: _pick(rng, options) for key, options in arguments.items()}
    if rng.random() < 0.4:
        renamed = {key: key for key in renamed}
    properties = {renamed[key]: {"type": "string"} for key in arguments}
    parameters = {
        "type": "object",
        "required": list(properties),
        "properties": _reordered(rng, properties),
    }
    return Offered(kind, name, description, parameters, renamed)
