"""Exercises for what every task needs: copying, finding by name or by form, going down a list,
reciting it, choosing.

In whole conversations these are a few tokens among many, and the heads that do them form late or
never; here they are all there is. Each exercise has a system's message of its own, so that none is
taken for a request.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import marks
from words import Words

_SYLLABLES = ("ba", "koo", "ri", "st", "an", "vou")
_LETTERS = string.ascii_letters + string.digits * 2 + " _-./:,()+*"
NONE = "none"
_GAPS = (" ", " ", ": ", " = ", ",", "=", ", ")
_SHARES = {
    "copying": 36,
    "finding": 28,
    "listing": 14,
    "reciting": 18,
    "locating": 22,
    "placing": 10,
    "pairing": 12,
    "choosing": 3,
}


@dataclass(frozen=True)
class Exercise:
    """Messages and tools in the OpenAI form."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


class Drills:
    """Makes exercises out of `words`. `marked`: with the signs of marks.py."""

    def __init__(self, words: Words, marked: bool = False) -> None:
        self.words, self.marked = words, marked
        self.rng: random.Random = words.rng

    def group(self, size: int) -> list[Exercise]:
        """`size` exercises of one kind; where they have functions, the same ones."""
        kind = self.rng.choices(list(_SHARES), list(_SHARES.values()))[0]
        if kind == "choosing":
            functions = self._functions()
            return [self._choosing(functions) for _ in range(size)]
        if kind in ("locating", "placing", "pairing"):
            function = self._functions()[0]
            return [getattr(self, "_" + kind)(function) for _ in range(size)]
        make: Callable[[], Exercise] = getattr(self, "_" + kind)
        return [make() for _ in range(size)]

    def _copying(self) -> Exercise:
        """Something to say back, or one line of several whose first half is given."""
        messages = [{"role": "system", "content": "Repeat."}]
        for _ in range(self.rng.randint(1, 2)):
            said = wanted = self._stuff()
            if self.rng.random() < 0.2:
                rows = [self._stuff() for _ in range(self.rng.randint(2, 4))]
                wanted = self.rng.choice(rows)
                said = "\n".join(rows) + "\n" + wanted[: len(wanted) // 2]
            messages += _turn(said, wanted)
        return Exercise(messages, [])

    def _stuff(self) -> str:
        words = self.words
        if self.rng.random() < 0.6:  # few letters, often repeated: one letter back is not enough
            letters = self.rng.choice((string.digits, string.ascii_lowercase, _LETTERS, _SYLLABLES))
            size = self.rng.randint(4, 40)
            return "".join(self.rng.choices(letters, k=size)).strip() or words.made()
        if self.rng.random() < 0.3:  # few words: what follows one is not always the same
            few = [words.word() + self.rng.choice(("", "", ".", ",")) for _ in range(4)]
            return " ".join(self.rng.choices(few, k=self.rng.randint(4, 14)))
        makers = (words.path, words.url, words.phrase, words.sentence, words.number, words.content)
        return " ".join(self.rng.choice(makers)() for _ in range(self.rng.randint(1, 3)))

    def _finding(self) -> Exercise:
        """The value of the one row whose key was named before, among other words or alone.

        Now and then no row has it.
        """
        rows, gap = self._rows(), self.rng.choice(_GAPS)
        key, value = self.rng.choice(rows)
        asked = self._around(key, {name for name, _ in rows})
        whole = self.rng.random() < 0.2
        wanted = f"{key}{gap}{value}" if whole else value
        if len(rows) > 2 and self.rng.random() < 0.12:
            rows.remove((key, value))
            wanted = NONE
        table = "\n".join(f"{name}{gap}{what}" for name, what in rows)
        if self.marked:
            table = marks.table_marked(table, key)
        system = {"role": "system", "content": "Find the line." if whole else "Find."}
        return Exercise([system, *_told(asked, table, wanted)], [])

    def _rows(self) -> list[tuple[str, str]]:
        words, rng = self.words, self.rng
        numbers = (words.number, words.number, lambda: words.integer()[:3])
        of = rng.choice((*numbers, *numbers, words.path, words.word, words.phrase))
        count = rng.choice((2, 2, 3, 3, 4, 5, 6, 7))
        pairs = {words.word(): of() for _ in range(count)}
        return list(pairs.items())

    def _around(self, key: str, others: set[str]) -> str:
        before = [self.words.word() for _ in range(self.rng.choice((0, 0, 1, 2, 3, 5)))]
        after = [self.words.word() for _ in range(self.rng.choice((0, 0, 1, 2, 3)))]
        if self.rng.random() < 0.5:
            after.append(self.words.path())
        return " ".join([w for w in before if w not in others] + [key]) + "".join(
            " " + word for word in after if word not in others
        )

    def _listing(self) -> Exercise:
        """The values of all rows, in their order."""
        rows = self._rows()
        table = "\n".join(self.rng.choice(_GAPS).join(row) for row in rows)
        if self.rng.random() < 0.5:
            table = "\n".join(value for _, value in rows)
        joint, named = self.rng.choice(((" + ", "Sum."), (" + ", "Sum."), (", ", "List.")))
        wanted = joint.join(value for _, value in rows)
        system = {"role": "system", "content": named}
        return Exercise([system, *_told(self.words.path(), table, wanted)], [])

    def _reciting(self) -> Exercise:
        """All rows in one line, where rows begin and end alike: one word back is not enough.

        Half of them as an answer has it, with the path before and a full stop behind.
        """
        words, rng = self.words, self.rng
        few = [words.word() for _ in range(4)]
        ends = [words.integer()[: rng.randint(1, 4)] for _ in range(3)]
        gap = rng.choice((*_GAPS, " line "))
        firsts: Callable[[], str] = words.path if gap == " line " else lambda: rng.choice(few)
        makers: tuple[Callable[[], str], ...] = (
            lambda: firsts() + gap + rng.choice(ends),
            lambda: "- " + " ".join(rng.choices(few, k=rng.randint(1, 4))),
            lambda: rng.choice(few) + gap + words.number(),
        )
        make = rng.choice(makers)
        rows = [make() for _ in range(rng.randint(1, 7))]
        path, table, wanted = words.path(), "\n".join(rows), ", ".join(rows)
        if rng.random() < 0.5:
            table, wanted = table + rng.choice(("", "\n")), f"{path} says: {wanted}."
        system = {"role": "system", "content": "Say." if wanted.endswith(".") else "Tell."}
        return Exercise([system, *_told(path, table, wanted)], [])

    def _functions(self) -> list[tuple[str, str]]:
        """Descriptions with a name each; neither the words nor the names mean anything."""
        words = self.words
        names = {words.made(): words.phrase(2, 6) for _ in range(self.rng.choice((2, 3, 4, 6)))}
        return [(description, name) for name, description in names.items()]

    def _choosing(self, functions: list[tuple[str, str]]) -> Exercise:
        """A call of the function whose description has the words that were said."""
        description, name = self.rng.choice(functions)
        said = description.split()
        self.rng.shuffle(said)
        value = self.words.path()
        asked = [*said[: self.rng.randint(1, 3)], value]
        return _called("Choose.", " ".join(asked), name, {"path": value}, functions)

    def _locating(self, function: tuple[str, str]) -> Exercise:
        """A path among words that tell nothing of it, beside which a text may stand."""
        words, rng = self.words, self.rng
        path = words.path()
        parts = [words.word() for _ in range(rng.choice((0, 1, 2, 3, 4, 6, 8)))]
        if rng.random() < 0.4:
            text, sign = words.phrase(1, 6), rng.choice(("", '"', "'"))
            parts.insert(rng.randrange(len(parts) + 1), f"{sign}{text}{sign}")
        parts.insert(rng.randrange(len(parts) + 1), path + rng.choice(("", "", "", ":", ",")))
        asked = " ".join(parts)
        return _called("Take the path.", asked, function[1], {"path": path}, [function])

    def _placing(self, function: tuple[str, str]) -> Exercise:
        """A path and a text in quotes, among words that tell nothing of either."""
        words, rng = self.words, self.rng
        path, text, sign = words.path(), words.phrase(1, 8), rng.choice(("'", '"'))
        both = [path, f"{sign}{text}{sign}"]
        rng.shuffle(both)
        parts = [word for part in both for word in (*self._few(3), part)]
        asked = " ".join([*parts, *self._few(2)])
        wanted = {"path": path, "content": text}
        return _called("Take the path and the text.", asked, function[1], wanted, [function])

    def _few(self, most: int) -> list[str]:
        return [self.words.word() for _ in range(self.rng.randint(0, most))]

    def _pairing(self, function: tuple[str, str]) -> Exercise:
        """Two texts in quotes, which mostly differ in a word, each of them whole."""
        words, rng = self.words, self.rng
        old = [words.word() for _ in range(rng.randint(1, 6))]
        new = [words.word() for _ in range(rng.randint(1, 6))]
        if rng.random() < 0.8:
            new = list(old)
            new[rng.randrange(len(new))] = words.word()
        both, sign = {"old": " ".join(old), "new": " ".join(new)}, rng.choice(("'", '"'))
        parts = [f"{sign}{text}{sign}" for text in both.values()]
        for at in (0, 1, 2):
            parts.insert(2 * at, " ".join(words.word() for _ in range(rng.choice((1, 1, 2, 3)))))
        return _called("Take both.", " ".join(parts), function[1], both, [function])


def _called(
    system: str,
    asked: str,
    name: str,
    arguments: dict[str, str],
    functions: list[tuple[str, str]],
) -> Exercise:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": asked},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    return Exercise(messages, [_spec(*function, list(arguments)) for function in functions])


def _spec(description: str, name: str, arguments: list[str]) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {argument: {"type": "string"} for argument in arguments},
        "required": arguments,
    }
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _turn(said: str, wanted: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": said}, {"role": "assistant", "content": wanted}]


def _told(asked: str, table: str, wanted: str) -> list[dict[str, Any]]:
    """What was asked, what a tool then told, and what to say."""
    told = {
        "role": "tool",
        "name": "read",
        "content": json.dumps({"content": table}, ensure_ascii=False),
    }
    return [
        {"role": "user", "content": asked},
        told,
        {"role": "assistant", "content": wanted},
    ]
