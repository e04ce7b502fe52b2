"""Tasks that take two calls or three: what the second one says comes out of the first's result."""

from __future__ import annotations

import json

import sums
from shipped import Shipped, counts, opening
from tasks import Call, Task


class Chains(Shipped):
    """Two-step intents, beside the single ones."""

    def task_read_calc(self) -> Task:
        path, number = self.words.path(), self.words.number()
        command, noun, expression = sums.change(self.words, self.tables[2], number)
        call = self.calc(expression)
        ask = self.ask("read_calc", path=path, change=command, change_of=noun)
        return Task("read_calc", ask, (self.read(path, number), call), self.sum_answer(call))

    def task_pair_calc(self) -> Task:
        path, pairs, _, content = self._pairs()
        key, value = self.rng.choice(pairs)
        times = str(self.rng.randint(2, 99))
        call = self.calc(f"{value} * {times}")
        ask = self.ask("pair_calc", path=path, key=key, n=times)
        read, answer = self.read(path, content), self.sum_answer(call)
        return Task("pair_calc", ask, (read, call), answer, about=key)

    def task_total(self) -> Task:
        path, pairs, _, content = self._pairs()
        if self.rng.random() < 0.4:
            content = "\n".join(value for _, value in pairs)
        call = self.calc(" + ".join(value for _, value in pairs))
        ask = self.ask("total", path=path)
        return Task("total", ask, (self.read(path, content), call), self.sum_answer(call))

    def task_read_write(self) -> Task:
        path, other, content = self.words.path(), self.words.path(), self.words.content()
        read = self.read(path, content)
        write = self.write(other, read.result["content"])
        ask = self.ask("read_write", path=path, other=other)
        return Task("read_write", ask, (read, write), self.wrote(write))

    def task_read_count(self) -> Task:
        path = self.words.path()
        read = self.read(path, self.words.content())
        said, unit = self._unit()
        text = read.result["content"]
        call = Call("text_count", {"text": text}, dict(counts(text)))
        ask = self.ask("read_count", path=path, unit=said)
        return Task("read_count", ask, (read, call), f"It has {call.result[unit]} {unit}.")

    def task_calc_write(self) -> Task:
        said, expression = self.expression()
        path = self.words.path()
        call = self.calc(expression)
        ask = self.ask("calc_write", said=said, path=path)
        if "error" in call.result:
            return Task(
                "calc_write",
                ask,
                (call,),
                f"I could not calculate {expression}: division by zero.",
                ("files_write",),
            )
        write = self.write(path, call.result["value"])
        return Task("calc_write", ask, (call, write), self.wrote(write))

    def task_search_read(self) -> Task:
        query = self.words.phrase(1, 2)
        found = self._matches(query)
        search = Call("files_search", {"query": query}, {"matches": found})
        ask = self.ask("search_read", query=self.quoted(query))
        if not found:
            return Task(
                "search_read", ask, (search,), f"I found no line with {query}.", ("files_read",)
            )
        path, content = found[0]["path"], found[0]["text"]
        if self.rng.random() < 0.5:
            content = self.words.phrase(1, 4) + "\n" + content
        return Task("search_read", ask, (search, self.read(path, content)), opening(path, content))

    def task_list_read(self) -> Task:
        folder, names = self.words.folder(), self.entries(1)
        listing = Call("files_list", {"path": folder}, {"entries": names})
        ask = self.ask("list_read", folder=folder)
        first = next((name for name in names if not name.endswith("/")), None)
        if first is None:
            return Task("list_read", ask, (listing,), self.listed(folder, names), ("files_read",))
        path, content = f"{folder}/{first}", self.words.content()
        return Task("list_read", ask, (listing, self.read(path, content)), opening(path, content))

    def task_fetch_write(self) -> Task:
        url, path, text = self.words.url(), self.words.path(), self.words.content()
        fetch = Call("web_fetch", {"url": url}, {"status": 200, "text": text})
        write = self.write(path, text)
        ask = self.ask("fetch_write", url=url, path=path)
        return Task("fetch_write", ask, (fetch, write), self.wrote(write))

    def task_read_query(self) -> Task:
        field, document, value = self._json()
        path = self.words.path("json")
        read = Call("files_read", {"path": path}, {"content": document})
        query = Call("text_query", {"path": field, "json": document}, {"value": value})
        shown = value if isinstance(value, str) else json.dumps(value)
        ask = self.ask("read_query", field=field, path=path)
        return Task("read_query", ask, (read, query), f"The value is {shown}.")
