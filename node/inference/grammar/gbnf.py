"""Rules of GBNF, libllama's grammar notation: literals, text up to a mark, spellings of values.

Text that must not hold a mark, or that ends at one, is an automaton that looks for all the marks at
once (Aho and Corasick, 1975), a rule a state. So one grammar covers text, then a call: libllama
needs no second grammar that is switched on at a trigger, and a token that holds the end of the text
and the beginning of a call is checked like any other.

Spec: llama.cpp's `grammars/README.md`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from node.errors import GrammarError
from node.types import Json

MAX_CHARS: Final = 512 * 1024  # of a whole grammar; libllama takes some 200 ms for so many

_FLAT: Final = r"""
json-natural ::= "0" | [1-9] [0-9]{0,39}
json-integer ::= "-"? json-natural
json-part ::= "." [0-9]{1,40}
json-unsigned ::= json-natural json-part? ([eE] json-power)? | [0-9] json-part? [eE] json-high
json-power ::= "-" [0-9]{1,3} | "+"? ([0-9]{1,2} | "1" [0-9]{2} | "2" [0-5] [0-9])
json-high ::= "+"? ("2" [6-9] [0-9] | "30" [0-7])
json-number ::= "-"? json-unsigned
json-boolean ::= "true" | "false"
json-null ::= "null"
json-value ::= json-object | json-array | json-string | json-number | json-boolean | json-null
"""
_STRING: Final = r"""
json-char ::= [^"\\\x00-\x1F] | "\\" (["\\bfnrt] | "u00" [01] [0-9a-f])
json-string ::= "\"" json-char* "\""
json-key ::= json-string
"""
_OTHER: Final = "other-"
_NAMES: Final = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|[a-z][a-z0-9-]*')
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_.$-]{1,64}")


def literal(text: str) -> str:
    """GBNF that matches exactly `text`."""
    return '"' + "".join(_spell(char) for char in text) + '"'


def dumps(value: Json) -> str:
    """JSON of one spelling: the one that grammars know."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Spelling:
    """How a family writes a value.

    Attributes:
        colon, comma: GBNF of what stands between a key and its value, and between two of them.
        quote: what stands before and after a string, in which nothing is escaped, and keys have no
            quotes; "" for strings and keys as in JSON.
    """

    colon: str = '": "'
    comma: str = '", "'
    quote: str = ""

    def key(self, name: str) -> str | None:
        """The text of a property's name; None where it cannot be written."""
        if not self.quote:
            return dumps(name)
        return name if _BARE_KEY.fullmatch(name) else None

    def constant(self, value: Json) -> str | None:
        """The text of a constant; None where it cannot be written.

        Raises:
            ValueError: it is not JSON.
        """
        if not self.quote:
            return dumps(value)
        if isinstance(value, str):
            return None if self.quote in value else f"{self.quote}{value}{self.quote}"
        if isinstance(value, list):
            return _joined("[", [self.constant(item) for item in value], "]")
        if isinstance(value, dict):
            return _joined("{", [self._pair(key, item) for key, item in value.items()], "}")
        return dumps(value)

    def _pair(self, key: str, value: Json) -> str | None:
        name, text = self.key(key), self.constant(value)
        return None if name is None or text is None else f"{name}:{text}"


STRICT: Final = Spelling()
LOOSE: Final = Spelling(colon='":" " "?', comma='"," " "?')


class Rules:
    """Rules under construction. Names that begin with `json-` are the primitives."""

    def __init__(self, spelling: Spelling = STRICT) -> None:
        self.spelling = spelling
        self.rules: dict[str, str] = {}
        self._used: dict[str, int] = {}

    def add(self, name: str, body: str) -> str:
        """Adds a rule under `name`, made unique, and returns its name."""
        unique, count = name, self._used.get(name, 1)
        while unique in self.rules:
            count += 1
            unique = f"{name}-{count}"
        self._used[name] = count
        self.rules[unique] = body
        return unique

    def until(
        self,
        name: str,
        ends: Mapping[str, str | None],
        *,
        first: Mapping[str, str | None] | None = None,
        may_end: bool = True,
    ) -> str:
        """Text up to the first of the marks in `ends`, and what follows that one.

        A mark with None never comes. `first` holds marks of one character that count only where
        nothing but white space went before. The text may be all there is where `may_end` holds.
        """
        marks = {mark: follow for mark, follow in ends.items() if mark}
        prefixes = sorted({mark[:size] for mark in marks for size in range(len(mark))} | {""})
        names = {prefix: self.add(name, "") for prefix in prefixes}
        for prefix in prefixes:
            self.rules[names[prefix]] = _state(prefix, marks, names, may_end)
        if not first:
            return names[""]
        begin = self.add(f"{name}-begin", "")
        spaces = dict.fromkeys(" \t\r\n", begin)
        self.rules[begin] = _state("", marks, names, may_end, {**spaces, **first})
        return begin

    def embed(self, other: Rules, root: str) -> str:
        """Takes in the rules of a grammar of another spelling; the new name of its `root`."""
        for line in filter(None, other.text().splitlines()):
            name, body = _NAMES.sub(_renamed, line).split(" ::= ", 1)
            self.rules[name] = body
        return _OTHER + root

    def text(self) -> str:
        """The grammar, primitives included.

        Raises:
            GrammarError: it is too large.
        """
        primitives = self._primitives()
        whole = "".join(f"{name} ::= {body}\n" for name, body in self.rules.items()) + primitives
        if len(whole) > MAX_CHARS:
            raise GrammarError(
                f"the tools make a grammar of {len(whole)} characters; {MAX_CHARS} are the most",
                hint="Offer fewer tools, or shorten the lists of values in their parameters.",
            )
        return whole

    def _primitives(self) -> str:
        spelling = self.spelling
        pair = f"json-key {spelling.colon} json-value"
        nested = (
            f'json-object ::= "{{" ({pair} ({spelling.comma} {pair})*)? "}}"\n'
            f'json-array ::= "[" (json-value ({spelling.comma} json-value)*)? "]"\n'
        )
        if not spelling.quote:
            return _STRING + _FLAT + nested
        inner = Rules()
        text = inner.until("json-raw", {spelling.quote: '""'}, may_end=False)
        raw = "".join(f"{name} ::= {body}\n" for name, body in inner.rules.items())
        keys = "json-key ::= [A-Za-z0-9_.$-]{1,64}\n"
        return f"{raw}json-string ::= {literal(spelling.quote)} {text}\n{keys}{_FLAT}{nested}"


def _renamed(match: re.Match[str]) -> str:
    found = match.group()
    return found if found[0] in '"[' else _OTHER + found


def repeat(rule: str, low: int, high: int | None) -> str:
    """`rule` from `low` to `high` times; None is no bound."""
    if (low, high) == (0, None):
        return f"{rule}*"
    return f"{rule}{{{low},{'' if high is None else high}}}"


def _state(
    prefix: str,
    marks: Mapping[str, str | None],
    names: Mapping[str, str],
    may_end: bool,
    first: Mapping[str, str | None] | None = None,
) -> str:
    """The rule of having just seen `prefix`, which begins a mark."""
    longer: dict[str, str | None] = {}
    ended: dict[str, str | None] = {}
    for suffix in (prefix[at:] for at in range(len(prefix) + 1)):  # the longest is first
        for mark in marks:
            if mark.startswith(suffix) and len(mark) > len(suffix):
                more = suffix + mark[len(suffix)]
                if more in marks:
                    ended.setdefault(more[-1], marks[more])
                else:
                    longer.setdefault(more[-1], names[more])
    # a mark that has come counts, also in the middle of what may become a longer one
    ways = {**longer, **ended, **(first or {})}
    other = _class(sorted(ways), negated=True) if ways else "."
    options = [f"{other} {names['']}"]
    options += [f"{_class([char])} {rule}" for char, rule in sorted(ways.items()) if rule]
    return " | ".join([*options, '""'] if may_end else options)


def _class(chars: list[str], *, negated: bool = False) -> str:
    return f"[{'^' * negated}{''.join(map(_class_char, chars))}]"


def _class_char(char: str) -> str:
    return char if char.isascii() and char.isalnum() else _escape(ord(char))


def _spell(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isascii() and char.isprintable() else _escape(ord(char))


def _escape(point: int) -> str:
    return f"\\x{point:02X}" if point < 0x100 else f"\\U{point:08X}"


def _joined(opening: str, parts: list[str | None], closing: str) -> str | None:
    whole = [part for part in parts if part is not None]
    return opening + ",".join(whole) + closing if len(whole) == len(parts) else None
