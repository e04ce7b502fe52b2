"""A model's own chat template, run without trusting it.

The Jinja source comes out of a GGUF that anyone may have made, so it runs in Jinja's immutable
sandbox with an allow-list of filters and string methods, bounds on what grows, and a deadline; and
it runs in the runner process, never in the daemon. The environment follows what Hugging Face's
`apply_chat_template` gives (trim_blocks, lstrip_blocks, loop controls, `raise_exception`,
`strftime_now`, a `tojson` that does not escape HTML), since that is what templates are written for.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jinja2 import TemplateError as JinjaError
from jinja2 import Undefined
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from node.errors import TemplateError

MAX_SOURCE_CHARS = 256 * 1024
MAX_OUTPUT_CHARS = 8 * 1024 * 1024
DEADLINE_S = 2.0
_FILTERS = frozenset({
    "abs", "batch", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first",
    "float", "indent", "int", "items", "join", "last", "length", "list", "lower", "map", "max",
    "min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr",
    "slice", "sort", "string", "sum", "title", "tojson", "trim", "unique", "upper",
})  # fmt: skip
_STRING_METHODS = frozenset({
    "capitalize", "count", "endswith", "find", "index", "isalpha", "isdigit", "isalnum",
    "isnumeric", "isspace", "join", "lower", "lstrip", "partition", "removeprefix",
    "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "swapcase", "title", "upper",
})  # fmt: skip


class ChatTemplate:
    """A compiled template.

    Raises:
        TemplateError: the source is too long, or is not a template.
    """

    def __init__(
        self,
        source: str,
        *,
        bos: str = "",
        eos: str = "",
        wall: Callable[[], float] = time.time,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateError(f"the chat template is over {MAX_SOURCE_CHARS} characters")
        self.source = source
        self._deadline_s = deadline_s
        self._globals = {"bos_token": bos, "eos_token": eos}
        self._environment = _environment(wall)
        try:
            with _deadline(deadline_s):
                self._template = self._environment.from_string(source)
        except (JinjaError, RecursionError, ValueError) as error:
            raise TemplateError(f"the chat template does not compile: {error}") from error

    def render(self, variables: Mapping[str, object]) -> str:
        """The prompt's text. At most `MAX_OUTPUT_CHARS`; stops at the deadline (main thread).

        Raises:
            TemplateError: the template refuses the messages, or goes over a limit.
        """
        try:
            with _deadline(self._deadline_s):
                return self._collect(variables)
        except TemplateError:
            raise
        except (JinjaError, SecurityError) as error:
            raise TemplateError(
                f"the chat template refuses this conversation: {error}",
                hint="Some models take no system message, or want user and assistant in turns.",
            ) from error
        except Exception as error:  # a template can raise whatever Python's operators raise
            raise TemplateError(
                f"the chat template failed: {type(error).__name__}: {error}"
            ) from error

    def _collect(self, variables: Mapping[str, object]) -> str:
        parts, size = [], 0
        for part in self._template.generate(**self._globals, **variables):
            size += len(part)
            if size > MAX_OUTPUT_CHARS:
                raise TemplateError(f"the chat template made over {MAX_OUTPUT_CHARS} characters")
            parts.append(part)
        return "".join(parts)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in _STRING_METHODS
        return bool(super().is_safe_attribute(obj, attr, value))

    def wrap_str_format(self, value: Any) -> Any:
        """Jinja would let `str.format` by before it asks for safe attributes."""
        if getattr(value, "__name__", "") in ("format", "format_map"):
            raise SecurityError("str.format is not allowed")
        return None

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise SecurityError(f"operator {operator} is not allowed")
        if operator == "*" and not (_is_number(left) and _is_number(right)):
            _bound(_length(left) * _length(right))
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


def _environment(wall: Callable[[], float]) -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters = {
        name: function for name, function in environment.filters.items() if name in _FILTERS
    }
    environment.filters.update(tojson=_tojson, replace=_replace, join=_join, indent=_indent)
    environment.globals = {
        "range": environment.globals["range"],
        "namespace": environment.globals["namespace"],
        "dict": dict,
        "raise_exception": _raise,
        "strftime_now": lambda form: time.strftime(str(form), time.localtime(wall())),
    }
    return environment


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
    text = json.dumps(
        value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys
    )
    # private-use characters stand for guarded ones of the content and must stay as they are
    return re.sub(r"[\x7f-\ud7ff]", _escape, text) if ensure_ascii else text


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


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    pad = width if isinstance(width, str) else " " * min(int(width), 64)
    lines = str(text).splitlines() or [""]
    _bound(len(str(text)) + len(pad) * len(lines))
    padded = [pad + line if line or blank else line for line in lines]
    return "\n".join(padded if first else [lines[0], *padded[1:]])


def _bound(size: int) -> None:
    if size > MAX_OUTPUT_CHARS:
        raise SecurityError(f"a value of over {MAX_OUTPUT_CHARS} characters")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _length(value: Any) -> int:
    return int(abs(value)) if _is_number(value) else len(value)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raises TemplateError in the block after `seconds`. Uses SIGALRM: main thread only."""

    def expire(_signal: int, _frame: object) -> None:
        raise TemplateError(f"the chat template ran for over {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
