"""The Jinja environment of chat templates: what they may call, and bounds on what they make.

Jinja's immutable sandbox keeps a template from the interpreter. It does not keep it from making a
list of lists that has no end, a number of a million digits, or text of a terabyte: so operators,
filters and string methods that make much of little are replaced or asked first.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import TemplateError as JinjaError
from jinja2 import Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_OUTPUT_CHARS = 8 * 1024 * 1024
_MAX_BITS = 4096
_MAX_TIME_FORM = 64
_FILTERS = frozenset({
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first",
    "float", "format", "indent", "int", "items", "join", "last", "length", "list", "lower", "map",
    "max", "min", "reject", "rejectattr", "replace", "reverse", "safe", "select",
    "selectattr", "sort", "string", "sum", "title", "tojson", "trim", "unique", "upper",
})  # fmt: skip
_STRING_METHODS = frozenset({
    "capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdigit",
    "islower", "isnumeric", "isspace", "isupper", "join", "lower", "lstrip", "partition",
    "removeprefix", "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip", "split",
    "splitlines", "startswith", "strip", "swapcase", "title", "upper",
})  # fmt: skip


class Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with bounds."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in _STRING_METHODS
        if isinstance(obj, int | float):  # as `to_bytes`, of any length and with methods of its own
            return False
        return bool(super().is_safe_attribute(obj, attr, value))

    def wrap_str_format(self, value: Any) -> Any:
        """Jinja would let `str.format` by before it asks for safe attributes."""
        if getattr(value, "__name__", "") in ("format", "format_map"):
            raise SecurityError("str.format is not allowed")
        return None

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        """What `~` joins is joined by the `join` filter, and so is bounded."""
        for joined in source.find_all(nodes.Concat):
            parts = nodes.List(joined.nodes, lineno=joined.lineno)
            joined.nodes = [nodes.Filter(parts, "join", [], [], None, None, lineno=joined.lineno)]
        return super()._generate(source, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise SecurityError(f"operator {operator} is not allowed")
        if operator == "*" and not (_is_number(left) and _is_number(right)):
            _bound(_length(left) * _length(right))
        if operator == "*" and isinstance(left, int) and isinstance(right, int):
            _bound_bits(left.bit_length() + right.bit_length())
        if operator == "+" and not _is_number(left):
            _bound(_length(left) + _length(right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Bounds the two string methods whose result can be far larger than what they are given."""
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and name == "replace":
            return _replace(owner, *args, **kwargs)
        if isinstance(owner, str) and name == "join":
            return _join(list(args[0]), owner)
        return super().call(context, obj, *args, **kwargs)


def environment_of(wall: Callable[[], float]) -> Environment:
    """The environment; `wall` gives the time that `strftime_now` shows, in seconds."""
    environment = Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_measured,
        extensions=["jinja2.ext.loopcontrols", _Generation],
    )
    ours = {
        "tojson": _tojson,
        "replace": _replace,
        "join": _join,
        "indent": _indent,
        "format": _format,
    }
    environment.filters = {
        name: _bounded(function)
        for name, function in {**environment.filters, **ours}.items()
        if name in _FILTERS
    }
    environment.globals = {
        "range": environment.globals["range"],
        "namespace": environment.globals["namespace"],
        "dict": dict,
        "raise_exception": _raise,
        "joiner": environment.globals["joiner"],
        "strftime_now": lambda form: time.strftime(
            str(form)[:_MAX_TIME_FORM], time.localtime(wall())
        ),
    }
    return environment


class _Generation(Extension):
    """`{% generation %}` marks, for training, what the model itself wrote; here it is nothing."""

    tags = {"generation"}  # noqa: RUF012  as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that looks at the size of what it is given before it runs C code over it."""

    @functools.wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            _measured(value)
        return function(*args, **kwargs)

    return filtered


def _measured(value: Any) -> Any:
    """The value itself, if it is not larger than text may be.

    Lists that hold one list many times grow twofold a level: a page of template makes more than
    fits in memory. Counting is Python's own code, so that the deadline is seen.
    """
    if not isinstance(value, list | tuple | dict):
        return value
    size, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            waiting += one
        size += len(one) if isinstance(one, str) else 1
        _bound(size + len(waiting))
    return value


def _raise(message: object = "") -> None:
    raise JinjaError(str(message))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if isinstance(value, Undefined):
        raise JinjaError("tojson of a value that is not defined")
    if indent is not None and not 0 <= indent <= 16:
        raise SecurityError("indent is out of bounds")
    encoder = json.JSONEncoder(
        ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys
    )
    text = encoder.encode(value) if indent is None else _gathered(encoder.iterencode(value))
    # private-use characters stand for guarded ones of the content and must stay as they are
    return re.sub(r"[\x7f-\ud7ff]", _escape, text) if ensure_ascii else text


def _gathered(parts: Iterable[str]) -> str:
    """The parts as one text, bounded while it grows."""
    kept, size = [], 0
    for part in parts:
        size += len(part)
        _bound(size)
        kept.append(part)
    return "".join(kept)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def _replace(text: Any, old: Any, new: Any, count: int = -1) -> str:
    source, old, new = str(text), str(old), str(new)
    found = source.count(old) if count is None or count < 0 else min(count, source.count(old))
    _bound(len(source) + found * max(0, len(new) - len(old)))
    return source.replace(old, new, -1 if count is None else count)


def _join(values: Any, separator: Any = "", attribute: str | None = None) -> str:
    if attribute is not None:
        raise SecurityError("join by attribute is not allowed")
    parts, glue = [str(value) for value in values], str(separator)
    _bound(sum(map(len, parts)) + len(glue) * len(parts))
    return glue.join(parts)


def _format(text: Any, *values: Any) -> str:
    """`%s` and `%d` only: a width would make text of any length."""
    if re.search(r"%(?![sd%])", str(text)):
        raise SecurityError("format takes %s and %d only")
    _bound(len(str(text)) + sum(len(str(value)) for value in values))
    return str(text) % values


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    pad = width if isinstance(width, str) else " " * min(int(width), 64)
    lines = str(text).splitlines() or [""]
    _bound(len(str(text)) + len(pad) * len(lines))
    padded = [pad + line if line or blank else line for line in lines]
    return "\n".join(padded if first else [lines[0], *padded[1:]])


def _bound(size: int) -> None:
    if size > MAX_OUTPUT_CHARS:
        raise SecurityError(f"a value of over {MAX_OUTPUT_CHARS} characters")


def _bound_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise SecurityError(f"a number of over {_MAX_BITS} bits")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _length(value: Any) -> int:
    return int(abs(value)) if _is_number(value) else len(value)
