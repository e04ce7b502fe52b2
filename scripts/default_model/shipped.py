"""Tasks for the functions that ship: one method an intent, with the answer's one fixed form."""

from __future__ import annotations

import json
import random
from typing import Any

import sums
from phrasing import expand, request
from tasks import Call, Task, spoken
from words import Words

Lines = list[str]
_UNITS = {"words": "words", "characters": "characters", "lines": "lines", "letters": "characters"}
_REGEXES = (
    r"\d+",
    r"[0-9]+",
    r"[a-z]+",
    r"\w+",
    r"[A-Z]\w*",
    r"\d+\.\d+",
    r"b\w+",
    r"[aeiou]",
    r"\w+@\w+",
    r"^\w+",
    r"\w+$",
    r"o+",
)
_JS = (
    "console.log(<a> + <b>)",
    "<a> * <b>",
    "[<a>, <b>].length",
    "console.log('<w>')",
    "Math.max(<a>, <b>)",
    "'<w>'.toUpperCase()",
    "let x = <a>; x + <b>",
    'console.log("<w> <v>")',
    "[<a>, <b>].map(n => n * 2)",
    "'<w>'.length",
    "const <w> = <a>; console.log(<w>)",
    "for (let i = 0; i < <j>; i++) console.log(i)",
)
_PY = (
    "print(<a> + <b>)",
    "print('<w>')",
    "sum([<a>, <b>])",
    "print(len('<w> <v>'))",
    "sorted([<a>, <b>])",
    "'<w>'.upper()",
    "print(max(<a>, <b>))",
    "x = <a>; print(x * <j>)",
    "import math; print(math.sqrt(<a>))",
    "print([n for n in range(<j>)])",
    'print("<w>")',
    "<a> ** 2",
)


def opening(path: str, content: str) -> str:
    """What is said of a file that was read."""
    rows = [row for row in content.split("\n") if row]
    if not rows:
        return f"{path} is empty."
    return f"{path} {'says' if len(rows) <= 6 else 'starts with'}: {spoken(content)}"


def counts(text: str) -> dict[str, int]:
    """What text_count answers."""
    return {"characters": len(text), "words": len(text.split()), "lines": len(text.splitlines())}


class Shipped:
    """Makes tasks out of `words`, with `patterns` for the requests and `tables` for the sums."""

    def __init__(
        self,
        words: Words,
        patterns: dict[str, Lines],
        tables: tuple[Any, Any, Any] = (sums.SPOKEN, sums.STORIES, sums.CHANGES),
    ) -> None:
        self.words = words
        self.rng: random.Random = words.rng
        self.patterns = patterns
        self.tables = tables

    def make(self, intent: str) -> Task:
        """One task of an intent."""
        task: Task = getattr(self, "task_" + intent)()
        return task

    def ask(self, intent: str, **slots: str) -> str:
        """A request of an intent, its slots filled."""
        return request(self.rng.choice(self.patterns[intent]), self.rng, slots)

    def quoted(self, text: str) -> str:
        """The text as a person marks it: in single or double quotes, a third of the time bare."""
        mark = self.rng.choice(("'", "'", '"', '"', "", ""))
        return text if mark and mark in text else mark + text + mark

    def expression(self) -> tuple[str, str]:
        """A sum as said, and as an expression."""
        if self.rng.random() < 0.5:
            said = sums.signs(self.words)
            return said, said
        return sums.spoken(self.words, self.tables[0])

    def calc(self, expression: str) -> Call:
        """A call of calc with its exact result."""
        try:
            result = {"value": sums.decimal(sums.value_of(expression))}
        except ZeroDivisionError:
            result = {"error": "division by zero"}
        return Call("calc", {"expression": expression}, result)

    def read(self, path: str, content: str) -> Call:
        """A call of files_read, its result the content, sometimes with a last newline."""
        ending = "\n" if self.rng.random() < 0.4 else ""
        return Call("files_read", {"path": path}, {"content": content + ending})

    def write(self, path: str, content: str) -> Call:
        """A call of files_write."""
        return Call(
            "files_write", {"path": path, "content": content}, {"written": len(content.encode())}
        )

    def sum_answer(self, call: Call) -> str:
        """The sentence after a sum."""
        return f"{call.arguments['expression']} is {call.result.get('value')}."

    def wrote(self, call: Call) -> str:
        """The sentence after a file was written."""
        return f"I wrote {call.result['written']} bytes to {call.arguments['path']}."

    def entries(self, low: int = 0) -> Lines:
        """Names in a folder."""
        words = self.words
        names = {
            words.folder().split("/")[0] + "/"
            if self.rng.random() < 0.15
            else words.path().split("/")[-1]
            for _ in range(self.rng.choice((low, 1, 2, 3, 4, 5, 7)))
        }
        return sorted(names)

    def listed(self, where: str, names: Lines) -> str:
        """The sentence after a listing."""
        place = "" if where == "." else f" in {where}"
        if not names:
            return f"There are no files{place}."
        return f"The files{place} are: {', '.join(names)}."

    def task_calc(self) -> Task:
        if self.rng.random() < 0.3:
            said, expression = sums.spoken(self.words, self.tables[1])
            call = self.calc(expression)
            return Task("calc", request(said, self.rng, {}), (call,), self.sum_answer(call))
        said, expression = self.expression()
        call = self.calc(expression)
        return Task("calc", self.ask("calc", said=said), (call,), self.sum_answer(call))

    def task_list(self) -> Task:
        names = self.entries()
        call = Call("files_list", {"path": "."}, {"entries": names})
        return Task("list", self.ask("list"), (call,), self.listed(".", names))

    def task_list_in(self) -> Task:
        folder, names = self.words.folder(), self.entries()
        call = Call("files_list", {"path": folder}, {"entries": names})
        return Task(
            "list_in", self.ask("list_in", folder=folder), (call,), self.listed(folder, names)
        )

    def task_read(self) -> Task:
        path, content = self.words.path(), self.words.content()
        if self.rng.random() < 0.03:
            content = ""
        return Task(
            "read", self.ask("read", path=path), (self.read(path, content),), opening(path, content)
        )

    def _pairs(self) -> tuple[str, list[tuple[str, str]], str, str]:
        pairs = self.words.pairs()
        gap = self.rng.choice((" ", " ", ": ", " = ", ",", "="))
        content = "\n".join(f"{key}{gap}{value}" for key, value in pairs)
        return self.words.path(), pairs, gap, content

    def task_lookup(self) -> Task:
        path, pairs, gap, content = self._pairs()
        key, value = self.rng.choice(pairs)
        answer = f"{path} says: {key}{gap}{value}."
        if self.rng.random() < 0.15:
            key = self.words.word()
            if key not in dict(pairs):
                answer = f"{path} does not say."
            else:
                answer = f"{path} says: {key}{gap}{dict(pairs)[key]}."
        ask = self.ask("lookup", path=path, key=key)
        return Task("lookup", ask, (self.read(path, content),), answer, about=key)

    def task_write(self) -> Task:
        path = self.words.path()
        text = self.words.phrase(1, 7) if self.rng.random() < 0.8 else self.words.sentence()
        if self.rng.random() < 0.08:
            text = self.words.number()
        call = self.write(path, text)
        return Task(
            "write", self.ask("write", path=path, text=self.quoted(text)), (call,), self.wrote(call)
        )

    def _matches(self, query: str) -> list[dict[str, Any]]:
        words = self.words
        found = []
        for _ in range(self.rng.choice((0, 1, 1, 2, 2, 3, 4))):
            before = words.phrase(1, 3) if self.rng.random() < 0.6 else ""
            after = words.phrase(1, 3) if self.rng.random() < 0.6 else ""
            line = " ".join(filter(None, (before, query, after)))
            found.append({"path": words.path(), "line": self.rng.randint(1, 60), "text": line})
        return found

    def task_search(self) -> Task:
        query = self.words.phrase(1, 3) if self.rng.random() < 0.85 else self.words.integer()
        found = self._matches(query)
        call = Call("files_search", {"query": query}, {"matches": found})
        places = ", ".join(f"{match['path']} line {match['line']}" for match in found)
        answer = f"I found it in {places}." if found else f"I found no line with {query}."
        return Task("search", self.ask("search", query=self.quoted(query)), (call,), answer)

    def task_fetch(self) -> Task:
        url = self.words.url()
        if self.rng.random() < 0.15:
            status = self.rng.choice((404, 403, 500, 503, 410, 429))
            call = Call(
                "web_fetch",
                {"url": url},
                {
                    "status": status,
                    "text": self.rng.choice(("", "Not found", self.words.phrase(1, 3))),
                },
            )
            return Task(
                "fetch",
                self.ask("fetch", url=url),
                (call,),
                f"I could not fetch {url}: status {status}.",
            )
        text = self.words.content()
        call = Call("web_fetch", {"url": url}, {"status": 200, "text": text})
        return Task("fetch", self.ask("fetch", url=url), (call,), f"The page says: {spoken(text)}")

    def task_match(self) -> Task:
        pattern = self.rng.choice(_REGEXES) if self.rng.random() < 0.7 else self.words.word()
        text = self.words.phrase(2, 7)
        found = [
            self.words.phrase(1, 1) if self.rng.random() < 0.6 else self.words.integer()
            for _ in range(self.rng.choice((0, 1, 1, 2, 3, 4)))
        ]
        matches: list[Any] = list(found)
        style = self.rng.random()
        if style < 0.35:
            matches = [
                {"start": self.rng.randint(0, 20), "end": self.rng.randint(21, 40), "text": text_}
                for text_ in found
            ]
        elif style < 0.5:
            matches = [{"text": text_, "groups": []} for text_ in found]
        call = Call("text_match", {"pattern": pattern, "text": text}, {"matches": matches})
        answer = f"The matches are: {', '.join(found)}." if found else "Nothing matches."
        return Task(
            "match",
            self.ask("match", pattern=self.quoted(pattern), text=self.quoted_always(text)),
            (call,),
            answer,
        )

    def quoted_always(self, text: str) -> str:
        """The text in quotes, single or double."""
        mark = self.rng.choice("'\"")
        return mark + text + mark

    def _json(self) -> tuple[str, str, Any]:
        words, rng = self.words, self.rng
        value: Any = rng.choice(
            (
                words.word(),
                int(words.integer()[:6]),
                True,
                False,
                words.phrase(1, 3),
                int(words.integer()[:3]),
            )
        )
        key, other = words.word(), words.word()
        style = rng.random()
        if style < 0.45:
            document, path = {other: words.word(), key: value}, key
        elif style < 0.75:
            document, path = {other: {key: value}}, f"{other}.{key}"
        else:
            at = rng.randint(0, 1)
            items = [words.word(), words.word()]
            items[at] = value
            document, path = {key: items}, f"{key}[{at}]"
        return path, json.dumps(document), value

    def task_query(self) -> Task:
        path, document, value = self._json()
        call = Call("text_query", {"path": path, "json": document}, {"value": value})
        shown = value if isinstance(value, str) else json.dumps(value)
        return Task(
            "query", self.ask("query", path=path, json=document), (call,), f"The value is {shown}."
        )

    def task_diff(self) -> Task:
        old = self.words.phrase(1, 5)
        words = old.split()
        words[self.rng.randrange(len(words))] = self.words.word()
        new = " ".join(words) if self.rng.random() < 0.8 else old
        diff = "" if new == old else f"-{old}\n+{new}"
        call = Call("text_diff", {"old": old, "new": new}, {"diff": diff})
        answer = f"The difference is: {spoken(diff)}" if diff else "The texts are the same."
        return Task(
            "diff",
            self.ask("diff", old=self.quoted_always(old), new=self.quoted_always(new)),
            (call,),
            answer,
        )

    def _unit(self) -> tuple[str, str]:
        said = self.rng.choice(("words", "words", "characters", "lines", "letters"))
        return said, _UNITS[said]

    def task_count(self) -> Task:
        text = self.words.phrase(1, 9)
        said, unit = self._unit()
        call = Call("text_count", {"text": text}, dict(counts(text)))
        return Task(
            "count",
            self.ask("count", unit=said, text=self.quoted_always(text)),
            (call,),
            f"It has {call.result[unit]} {unit}.",
        )

    def task_count_all(self) -> Task:
        text = self.words.phrase(1, 9)
        found = counts(text)
        answer = "It has {characters} characters, {words} words and {lines} lines.".format(**found)
        return Task(
            "count_all",
            self.ask("count_all", text=self.quoted_always(text)),
            (Call("text_count", {"text": text}, dict(found)),),
            answer,
        )

    def _run(self, intent: str, kind: str, programs: tuple[str, ...]) -> Task:
        slots = sums.slots(self.words) | {"w": self.words.word(), "v": self.words.word()}
        code = expand(self.rng.choice(programs), self.rng, slots)
        shown = self.words.content() if self.rng.random() < 0.3 else self.words.number()
        if self.rng.random() < 0.5:
            call = Call(kind, {"code": code}, {"output": shown + "\n", "result": None})
            answer = f"It printed: {spoken(shown)}"
        else:
            result: Any = int(shown) if shown.isdigit() else shown
            call = Call(kind, {"code": code}, {"output": "", "result": result})
            answer = f"The result is: {spoken(shown)}"
        return Task(intent, self.ask(intent, code=code), (call,), answer)

    def task_js(self) -> Task:
        return self._run("js", "js_run", _JS)

    def task_python(self) -> Task:
        return self._run("python", "python_run", _PY)
