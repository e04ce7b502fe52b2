"""From a tool's JSON Schema to GBNF, libllama's grammar notation.

The language made is of one spelling (`gbnf.Spelling`; for most families that of
`json.dumps(value, ensure_ascii=False)`), properties in the schema's order. It holds every value
that the schema allows, with two exceptions. Undeclared properties are not offered beside declared
ones, nor as arguments of a function unless it has `additionalProperties`; numbers have at most 40
digits and are under 1e308. It may hold more (a pattern, a format, `multipleOf`, `uniqueItems`, long
lengths are not expressed), so arguments are validated again by whoever performs the call. What
cannot be expressed at all is refused by name and path.

Spec: JSON Schema 2020-12 (the subset named in `_Compiler`), llama.cpp's `grammars/README.md`.
"""

from __future__ import annotations

import math
from typing import Final

from node.errors import GrammarError
from node.inference.grammar.gbnf import Rules, literal, repeat
from node.inference.grammar.ranges import integer_rule
from node.types import Json, JsonObject

MAX_DEPTH: Final = 32
MAX_RULES: Final = 2000
# libllama follows all that a text may mean. Choices in choices multiply that, so that a tool of ill
# will could hold up a model for hours; where it could be more than this, any value is allowed.
MAX_WAYS: Final = 64
MAX_REPEAT: Final = 256  # libllama unrolls repetitions and refuses over 2000 rules
_REFUSED: Final = ("allOf", "not", "if", "patternProperties", "dependentSchemas", "prefixItems")
_CHOICES: Final = {"$ref", "const", "enum", "anyOf", "oneOf"}
_SHAPES: Final = {*_CHOICES, *_REFUSED, "type", "properties", "items"}
_DECLARING: Final = {"properties", "anyOf", "oneOf"}
Pair = tuple[str, bool]


class Grammar(Rules):
    """Rules that can be made from schemas."""

    def arguments(self, function: str, schema: JsonObject) -> str:
        """Adds the rules of a function's arguments and returns the name of their root.

        Raises:
            GrammarError: the schema cannot be expressed; names function and path.
        """
        compiler = _Compiler(self, function, schema)
        return compiler.compile(compiler.as_object(schema), "#", "args", 0)

    def value(self, what: str, schema: JsonObject) -> str:
        """Adds the rules of any value of a schema and returns the name of their root.

        Raises:
            GrammarError: as `arguments`; the message begins with `what`.
        """
        return _Compiler(self, what, schema).compile(schema, "#", "value", 0)

    def property(self, function: str, root: JsonObject, key: str) -> str:
        """Adds the rules of one property of a function's arguments, for a format of its own.

        Raises:
            GrammarError: as `arguments`.
        """
        properties = root["properties"]
        schema = properties[key] if isinstance(properties, dict) else None
        return _Compiler(self, function, root).compile(schema, f"#/properties/{key}", "args-p", 1)

    def sequence(self, pairs: list[Pair], name: str, comma: str) -> str:
        """Any subset of the pairs that holds the needed ones, in order: two rules a pair.

        `first` matches what may follow when nothing has been written yet, `more` after something.
        """
        first = more = '""'
        for pair, needed in reversed(pairs):
            after = self.add(f"{name}-m", more)
            tail = f"{pair} {after}"
            if needed:
                first, more = tail, f"{comma} {tail}"
            else:
                skip = self.add(f"{name}-f", first)
                first, more = f"{tail} | {skip}", f"{comma} {tail} | {after}"
        return f"({first})"


class _Compiler:
    def __init__(self, grammar: Grammar, function: str, root: JsonObject) -> None:
        self._grammar = grammar
        self._spelling = grammar.spelling
        self._function = function
        self._root = root
        self._references: dict[str, tuple[str, int]] = {}
        self._open: dict[str, int] = {}
        self._ways = self._most_ways = 1

    def as_object(self, schema: JsonObject) -> JsonObject:
        """The schema, which must be of objects: arguments have names, and those it declares."""
        if "type" in schema and schema["type"] != "object":
            raise self._error("#", "is not of an object")
        if "type" not in schema and _CHOICES & schema.keys():
            return schema
        declared = bool(schema.get("properties") or _CHOICES & schema.keys())
        return {"additionalProperties": declared, **schema, "type": "object"}

    def compile(self, schema: Json, path: str, name: str, depth: int) -> str:
        """The name of a rule for `schema`."""
        if schema is True:
            return "json-value"
        if not isinstance(schema, dict):
            raise self._error(path, "is not a schema")
        if depth > MAX_DEPTH:
            raise self._error(path, f"is nested over {MAX_DEPTH} deep")
        if len(self._grammar.rules) > MAX_RULES:
            raise self._error(path, f"makes over {MAX_RULES} rules")
        refused = next((key for key in _REFUSED if key in schema), None)
        if refused:
            raise self._error(path, f"uses {refused}, which cannot be made into a grammar")
        return self._schema(schema, path, name, depth)

    def _schema(self, schema: JsonObject, path: str, name: str, depth: int) -> str:
        if "$ref" in schema:
            return self._reference(schema, path, name, depth)
        if "const" in schema:
            return self._grammar.add(name, self._literals([schema["const"]], path))
        if "enum" in schema:
            return self._grammar.add(name, self._literals(schema["enum"], path))
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._any(_options(schema, key), f"{path}/{key}", name, depth)
        kind = schema.get("type")
        if isinstance(kind, list):
            each: list[Json] = [{**schema, "type": one} for one in kind]
            return self._any(each, f"{path}/type", name, depth)
        return self._typed(kind, schema, path, name, depth)

    def _typed(self, kind: Json, schema: JsonObject, path: str, name: str, depth: int) -> str:
        if kind is None:
            return self._untyped(schema, path, name, depth)
        if kind in ("boolean", "null"):
            return f"json-{kind}"
        if kind in ("object", "array"):
            compile_nested = self._object if kind == "object" else self._array
            return compile_nested(schema, path, name, depth)
        flat = {"string": self._string, "integer": self._integer, "number": self._number}
        if not isinstance(kind, str) or kind not in flat:
            raise self._error(path, f"has the unknown type {_show(kind)}")
        return flat[kind](schema, path, name)

    def _untyped(self, schema: JsonObject, path: str, name: str, depth: int) -> str:
        if "properties" in schema:
            return self._object(schema, path, name, depth)
        if "items" in schema:
            return self._array(schema, path, name, depth)
        return "json-value"

    def _object(self, schema: JsonObject, path: str, name: str, depth: int) -> str:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise self._error(path, "has properties or required of the wrong kind")
        missing = [key for key in required if not isinstance(key, str) or key not in properties]
        if missing:
            raise self._error(path, f"requires {_show(missing[0])}, which it does not declare")
        if not properties:
            return self._map(schema.get("additionalProperties", True), path, name, depth)
        pairs = []
        for key, value in properties.items():
            rule = self.compile(value, f"{path}/properties/{key}", f"{name}-p", depth + 1)
            pairs.append((f"{self._key(key, path)} {rule}", key in required))
        inner = self._grammar.sequence(pairs, name, self._spelling.comma)
        return self._grammar.add(name, f'"{{" {inner} "}}"')

    def _key(self, key: str, path: str) -> str:
        text = self._spelling.key(key)
        if text is None:
            raise self._error(path, f"has a property {_show(key)}, which this model cannot write")
        return f"{literal(text)} {self._spelling.colon}"

    def _map(self, extra: Json, path: str, name: str, depth: int) -> str:
        if extra is False:
            return self._grammar.add(name, '"{}"')
        value = self.compile(extra, f"{path}/additionalProperties", f"{name}-v", depth + 1)
        pair = f"json-key {self._spelling.colon} {value}"
        return self._grammar.add(name, f'"{{" ({pair} ({self._spelling.comma} {pair})*)? "}}"')

    def _array(self, schema: JsonObject, path: str, name: str, depth: int) -> str:
        low = self._count(schema, "minItems", path) or 0
        high = self._count(schema, "maxItems", path)
        item = self.compile(schema.get("items", True), f"{path}/items", f"{name}-i", depth + 1)
        if high is not None and high < low:
            raise self._error(path, "has minItems over maxItems")
        if high == 0:
            return self._grammar.add(name, '"[]"')
        more = self._grammar.add(f"{name}-n", f"{self._spelling.comma} {item}")
        bounded = high if high is not None and high <= MAX_REPEAT else None
        some = item + " " + repeat(more, max(low - 1, 0), None if bounded is None else bounded - 1)
        return self._grammar.add(name, f'"[" ({some}) "]"' if low else f'"[" ({some})? "]"')

    def _string(self, schema: JsonObject, path: str, name: str) -> str:
        low = self._count(schema, "minLength", path) or 0
        high = self._count(schema, "maxLength", path)
        if high is not None and high < low:
            raise self._error(path, "has minLength over maxLength")
        bounded = high if high is not None and high <= MAX_REPEAT else None
        if self._spelling.quote or (not low and bounded is None):
            return "json-string"
        return self._grammar.add(name, rf'"\"" {repeat("json-char", low, bounded)} "\""')

    def _integer(self, schema: JsonObject, path: str, name: str) -> str:
        low = self._bound(schema, "minimum", "exclusiveMinimum", 1, path)
        high = self._bound(schema, "maximum", "exclusiveMaximum", -1, path)
        if low is None and high is None:
            return "json-integer"
        if low is not None and high is not None and low > high:
            raise self._error(path, "has minimum over maximum")
        return self._grammar.add(name, integer_rule(low, high))

    def _number(self, schema: JsonObject, path: str, _name: str) -> str:
        """Only the sign is bounded; the rest of a bound is for whoever validates the call."""
        self._bound(schema, "minimum", "exclusiveMinimum", 1, path)
        lowest = schema.get("minimum", schema.get("exclusiveMinimum"))
        positive = isinstance(lowest, int | float) and lowest >= 0
        return "json-unsigned" if positive else "json-number"

    def _any(self, options: Json, path: str, name: str, depth: int) -> str:
        """One of the options. Where too many could be meant at once, any value: see `MAX_WAYS`."""
        if not isinstance(options, list) or not options:
            raise self._error(path, "must be a list of schemas")
        outer, ways = self._ways, self._ways * _alike(options)
        if ways > MAX_WAYS:
            return "json-value"
        self._ways, self._most_ways = ways, max(ways, self._most_ways)
        rules = [
            self.compile(option, f"{path}/{index}", f"{name}-o", depth + 1)
            for index, option in enumerate(options)
        ]
        self._ways = outer
        return self._grammar.add(name, " | ".join(dict.fromkeys(rules)))

    def _reference(self, schema: JsonObject, path: str, name: str, depth: int) -> str:
        pointer = schema["$ref"]
        target, known = self._target(pointer, path), self._references.get(str(pointer))
        if _DECLARING & schema.keys():
            both = _both(target, _without(schema, "$ref"))
            return self.compile(both, path, name, depth + 1)
        if known is None:
            return self._define(str(pointer), target, depth)
        rule, ways = known[0], known[1] * self._ways
        again = self._open.get(str(pointer), self._ways) < self._ways
        if again or ways > MAX_WAYS:
            return "json-value"
        self._most_ways = max(ways, self._most_ways)
        return rule

    def _target(self, pointer: Json, path: str) -> Json:
        parts = str(pointer).split("/")
        if parts[0] != "#" or len(parts) != 3 or parts[1] not in ("$defs", "definitions"):
            raise self._error(path, f"refers to {_show(pointer)}; only #/$defs/NAME is known")
        definitions = self._root.get(parts[1])
        target = definitions.get(parts[2]) if isinstance(definitions, dict) else None
        if target is None:
            raise self._error(path, f"refers to {_show(pointer)}, which is not there")
        return target

    def _define(self, pointer: str, target: Json, depth: int) -> str:
        """The rule of a definition, known before it is made: it may refer to itself."""
        rule = self._grammar.add("ref", "")
        self._references[pointer], self._open[pointer] = (rule, 1), self._ways
        before, self._most_ways = self._most_ways, self._ways
        self._grammar.rules[rule] = self.compile(target, pointer, "def", depth + 1)
        self._references[pointer] = (rule, self._most_ways // self._open.pop(pointer))
        self._most_ways = max(before, self._most_ways)
        return rule

    def _literals(self, values: Json, path: str) -> str:
        if not isinstance(values, list) or not values:
            raise self._error(path, "must list at least one value")
        try:
            texts = [self._spelling.constant(value) for value in values]
        except ValueError as error:
            raise self._error(path, "lists a value that is not JSON") from error
        if None in texts:
            raise self._error(path, "lists a value that this model cannot write")
        return " | ".join(literal(text) for text in dict.fromkeys(texts) if text is not None)

    def _count(self, schema: JsonObject, key: str, path: str) -> int | None:
        value = schema.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._error(path, f"has a {key} that is not a count")
        return min(value, MAX_REPEAT) if key.startswith("min") else value

    def _bound(
        self, schema: JsonObject, key: str, exclusive: str, step: int, path: str
    ) -> int | None:
        """The tighter of an inclusive and an exclusive bound; `step` is 1 for lower ones."""
        found = []
        for name, shift in ((key, 0), (exclusive, step)):
            value = schema.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self._error(path, f"has a {name} that is not a number")
            if isinstance(value, float) and not math.isfinite(value):
                raise self._error(path, f"has a {name} that is not a number")
            whole = int(value)
            found.append(whole + shift if whole == value else _inward(value, step))
        return (max(found) if step > 0 else min(found)) if found else None

    def _error(self, path: str, problem: str) -> GrammarError:
        return _error(self._function, path, problem)


def cannot_write(function: str, path: str, what: str) -> GrammarError:
    """The error of a schema that another model could be offered, but not this one."""
    return _error(function, path[:100], f"holds {what}, which this model cannot write")


def _error(function: str, path: str, problem: str) -> GrammarError:
    return GrammarError(
        f"{function}: the schema at {path[:200]} {problem}",
        hint="Simplify the tool's parameters; the tool cannot be offered to a model as it is.",
    )


def _show(value: Json) -> str:
    """A value for a message: short, and whatever it is."""
    return ascii(value)[:60]


def _options(schema: JsonObject, key: str) -> Json:
    """The options of a choice, each with what stands beside the choice: both hold for a value."""
    beside, options = _without(schema, "anyOf", "oneOf"), schema[key]
    if not isinstance(options, list) or not _SHAPES & beside.keys():
        return options
    telling = [one for one in options if not isinstance(one, dict) or _SHAPES & one.keys()]
    copied = (beside, beside.get("properties"), beside.get("required"))
    if len(telling) * sum(len(one) for one in copied if isinstance(one, dict | list)) > MAX_RULES:
        return [True]
    whole: list[Json] = [_both(beside, option) for option in telling]
    return whole if len(whole) == len(options) else [*whole, beside]  # which but require something


def _both(some: Json, other: Json) -> Json:
    """A schema of what fits two of them, at the least. Where both say something, `other` counts."""
    if not isinstance(some, dict) or not isinstance(other, dict):
        return other
    both = {**some, **other}
    ours, theirs = some.get("properties"), other.get("properties")
    if isinstance(ours, dict) and isinstance(theirs, dict):
        both["properties"] = {**ours, **theirs}
    first, second = some.get("required"), other.get("required")
    if isinstance(first, list) and isinstance(second, list):
        both["required"] = [*first, *second]
    return both


def _without(schema: JsonObject, *keys: str) -> JsonObject:
    return {name: value for name, value in schema.items() if name not in keys}


def _alike(options: list[Json]) -> int:
    """How many of the options may be meant until more of their text is seen."""
    objects = arrays = others = 0
    for option in options:
        kind = option.get("type") if isinstance(option, dict) else None
        if kind == "object":
            objects += 1
        elif kind == "array":
            arrays += 1
        elif not isinstance(kind, str) and not _is_constant(option):
            others += 1
    return max(1, max(objects, arrays) + others)


def _is_constant(schema: Json) -> bool:
    return isinstance(schema, dict) and ("const" in schema or "enum" in schema)


def _inward(value: float, step: int) -> int:
    floor = int(value // 1)
    return floor + 1 if step > 0 else floor
