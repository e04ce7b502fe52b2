"""Which of an agent's files carry a run's labels on to the runs that read them.

Without this a label is washed off by a file: an untrusted run writes `notes.txt`, the next run
reads it as its own. What a labelled run writes is therefore marked, before the bytes are in place,
in `workspaces/.labels-AGENT.json` beside the workspace; a run without labels that replaces the file
takes the mark off, once it has. `ever` keeps what a path once carried, for when an old version is
put back. Some file systems take `Notes` for `notes`: what is read has the marks of all such names.

A file of marks that cannot be read labels everything: it must not be possible to lose them. Before
it is written over it is kept as `.labels-AGENT.unread`; one that the disk does not give just now is
not written over.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from node.disk import sync, sync_folder
from node.runs.effect import Label
from node.runs.taint import BOTH

_ANY = ""  # no file has this name
_ONCE_ANY = "*"  # some file may have this one
_LOCK = threading.Lock()  # several objects may keep one file
Marks = dict[str, frozenset[Label]]
_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Book:
    now: Marks
    ever: Marks

    @cached_property
    def folded(self) -> Marks:
        """The marks of now by any spelling. A folder has those of all in it, since whoever wrote
        them may have named it."""
        found: Marks = {}
        for path, labels in self.now.items():
            name = folded(path)
            while name:
                found[name] = found.get(name, frozenset()) | labels
                name = name.rpartition("/")[0]
        return found


_UNREAD = _Book({_ANY: BOTH}, {})
_READ: dict[Path, tuple[_Stamp, _Book]] = {}  # as they were last read


class FileLabels:
    """The marks of all agents' files. Safe to use from several threads."""

    def __init__(self, workspaces: Path) -> None:
        self._folder = workspaces

    def of(self, agent: str, path: str) -> frozenset[Label]:
        """What reading this file, or the name of this file or folder, brings into a run."""
        return self.reader(agent)(path)

    def reader(self, agent: str) -> Callable[[str], frozenset[Label]]:
        """As `of`, for many paths: the marks are read once."""
        with _LOCK:
            try:
                book = self._read(agent)
            except OSError:  # now; what is written down stays
                book = _UNREAD
            every, found = book.now.get(_ANY, frozenset()), book.folded
        return lambda path: found.get(folded(path), frozenset()) | every

    def writes(self, agent: str, path: str, labels: frozenset[Label]) -> None:
        """Marks a file that a run with these labels is about to replace; what it carries stays,
        since it may not come to that.

        Raises:
            OSError: the mark cannot be kept; the file must not be written.
        """

        def change(book: _Book) -> None:
            if labels:
                book.now[path] = book.now.get(path, frozenset()) | labels
                book.ever[path] = book.ever.get(path, frozenset()) | labels

        self._change(agent, change)

    def wrote(self, agent: str, path: str, labels: frozenset[Label]) -> None:
        """Marks a file that a run with these labels has replaced: with them and no others.

        Raises:
            OSError: the mark cannot be kept.
        """

        def change(book: _Book) -> None:
            book.now.pop(path, None)
            if labels:
                book.now[path] = labels
                book.ever[path] = book.ever.get(path, frozenset()) | labels

        self._change(agent, change)

    def put_back(self, agent: str, paths: Iterable[str]) -> None:
        """Marks files of which an old version is about to be put back with all they ever carried.

        Raises:
            OSError: the marks cannot be kept; no file must be put back.
        """

        def change(book: _Book) -> None:
            ever: Marks = {}  # by any spelling
            for path, labels in book.ever.items():
                name = folded(path)
                ever[name] = ever.get(name, frozenset()) | labels
            for path in paths:
                if labels := ever.get(folded(path), frozenset()):
                    book.now[path] = book.now.get(path, frozenset()) | labels

        self._change(agent, change)

    def _change(self, agent: str, change: Callable[[_Book], None]) -> None:
        with _LOCK:
            before = self._read(agent)
            after = _Book(dict(before.now), dict(before.ever))
            change(after)
            if after != before:
                if before is _UNREAD:  # another version may read it, or a person
                    shutil.copyfile(self._path(agent), self._path(agent).with_suffix(".unread"))
                self._write(agent, after)

    def _path(self, agent: str) -> Path:
        return self._folder / f".labels-{agent}.json"

    def _read(self, agent: str) -> _Book:
        path = self._path(agent)
        try:
            facts = path.stat()
        except FileNotFoundError:  # of most agents there is none
            return _Book({}, {})
        except OSError:
            return self._parse(path)
        stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        known = _READ.get(path)
        if known is None or known[0] != stamp:
            known = _READ[path] = stamp, self._parse(path)
        return known[1]

    def _parse(self, path: Path) -> _Book:
        try:
            data = json.loads(path.read_bytes())
            now, ever = _marks(data["now"]), _marks(data["ever"])
        except FileNotFoundError:
            return _Book({}, {})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return _UNREAD
        if _ONCE_ANY in now and _ONCE_ANY not in ever:
            now[_ANY] = now.pop(_ONCE_ANY)
        return _Book(now, ever)

    def _write(self, agent: str, book: _Book) -> None:
        path = self._path(agent)
        temporary = path.with_suffix(".new")
        data = {name: _listed(marks) for name, marks in (("now", book.now), ("ever", book.ever))}
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
            json.dump(data, file)
            file.flush()
            sync(file.fileno())
        _READ.pop(path, None)  # two that are written within a tick of the clock look alike
        temporary.replace(path)
        sync_folder(path.parent)  # before the files that they are about are written


def folded(path: str) -> str:
    """One spelling for all that some file system takes for the same path."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def _marks(data: Any) -> Marks:
    marks = {}
    for path, labels in data.items():
        if not set(labels) <= BOTH:
            raise ValueError(f"{path} has labels that do not exist")
        marks[str(path)] = frozenset(cast("list[Label]", labels))
    return marks


def _listed(marks: Marks) -> dict[str, list[Label]]:
    return {path: sorted(labels) for path, labels in sorted(marks.items())}
