"""Requests put together from parts, so that none is learned as a whole.

A request is a part that says what is wanted (ways_single.py, ways_chain.py, ways_talk.py) in one of
its forms, inside something people say around any such part (wrappers.py), and now and then a
reason or a slip (noise.py). The values stand in it untouched. Entries are held back by their CRC-32
for a look at phrasings that were not trained on while training goes on; what the bench asks is left
out altogether.
"""

from __future__ import annotations

import random
import re
import zlib
from functools import cache

import heldout
import wrappers
from noise import FREE, Noise
from phrasing import choose, fill
from ways_single import Ways
from words import Words

FORMS = {"commands": 46, "things": 15, "clauses": 13, "questions": 17, "fragments": 9}
_DOUBLES = """
get put let run cut dig scan stop plan grab jot set sum tap log map spot skim dip pop hit tot
tag plug grep pen drop hop
"""
_CHOICE = re.compile(r"\{([^{}]*)\}")


def gerund(command: str) -> str:
    """The command with its first verb in the -ing form: "write it down" as "writing it down"."""
    verb = command.split(" ", 1)[0].split("-", 1)[0]
    if not verb.isalpha():
        return command
    if verb.endswith("ie"):
        stem = verb[:-2] + "y"
    elif verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        stem = verb[:-1]
    else:
        stem = verb + verb[-1] if verb in _DOUBLES.split() else verb
    return stem + "ing" + command[len(verb) :]


def is_spare(entry: str) -> bool:
    """Whether an entry is held back from training, one in twelve."""
    return zlib.crc32(entry.encode()) % 12 == 0


@cache
def entries(ways: Ways, spare: bool) -> dict[str, tuple[str, ...]]:
    """The entries of each form on one side; all of them where that side has none."""
    found = {
        form: tuple(entry for entry in getattr(ways, form) if is_spare(entry) == spare)
        for form in FORMS
    }
    found = {form: entries for form, entries in found.items() if entries}
    return found or {form: getattr(ways, form) for form in FORMS if getattr(ways, form)}


def plain(text: str) -> str:
    """A pattern without what varies around it anyway: case, marks at the end."""
    return text.lower().removesuffix(">>").strip(" .?!")


@cache
def asked_by_bench() -> frozenset[str]:
    """Every request of the bench with its slots open."""
    patterns = [text for texts in heldout.PATTERNS.values() for text in texts]
    found: set[str] = set()
    for pattern in (*patterns, *heldout.SMALL_TALK, *heldout.HOPELESS):
        found |= {plain(one) for one in _expansions(pattern)}
    return frozenset(found)


def _expansions(pattern: str) -> set[str]:
    match = _CHOICE.search(pattern)
    if match is None:
        return {pattern}
    before, after = pattern[: match.start()], pattern[match.end() :]
    made = (_expansions(before + one + after) for one in match.group(1).split("|"))
    return set().union(*made)


class Composer:
    """Puts requests together. `spare`: out of the entries held back from training."""

    def __init__(self, words: Words, spare: bool = False) -> None:
        self.words = words
        self.rng: random.Random = words.rng
        self.spare = spare

    def request(self, ways: Ways, slots: dict[str, str], noise: float = 0.25) -> str:
        """A whole request with its slots filled."""
        rng = self.rng
        form = self.form(ways, noise)
        whole = not form.endswith(">>")
        form = form.removesuffix(">>")
        if whole and rng.random() < 0.12:
            form = self._with_reason(form)
        if not form.startswith("<") and rng.random() < 0.75:
            form = form[0].upper() + form[1:]
        names = {"name": self.words.name()}
        return fill(self._ended(form) if whole else form, names | slots)

    def form(self, ways: Ways, noise: float = 0.0) -> str:
        """What is said with its slots open; never what the bench asks."""
        while True:
            part, form = self._part(ways)
            if not self.spare and self.rng.random() < noise:
                form = Noise(self.words).over(form)
            if not self.spare and self.rng.random() < noise * 0.8:
                form = Noise(self.words).strayed(form)
            if not {plain(part), plain(form)} & asked_by_bench():
                return form

    def _part(self, ways: Ways) -> tuple[str, str]:
        rng = self.rng
        found = entries(ways, self.spare)
        kind = rng.choices(list(found), [FORMS[form] for form in found])[0]
        part = choose(rng.choice(found[kind]), rng)
        return part, getattr(self, "_" + kind)(part)

    def _commands(self, part: str) -> str:
        ending, part = (">>", part[:-2]) if part.endswith(">>") else ("", part)
        roll = self.rng.random()
        if roll < 0.35:
            form = part
        elif roll < 0.45:
            form = self._around(wrappers.DOING, gerund(part))
        else:
            form = self._around(wrappers.COMMANDS, part)
        if ending:
            return form.rstrip("?") + ending
        if self.rng.random() < 0.18 and not form.endswith((">>", "?", *FREE)):
            form += choose(self.rng.choice(wrappers.ENDINGS), self.rng)
        return form

    def _things(self, part: str) -> str:
        return self._around(wrappers.THINGS, part.removesuffix(">>"))

    def _clauses(self, part: str) -> str:
        return self._around(wrappers.CLAUSES, part)

    def _questions(self, part: str) -> str:
        return part if self.rng.random() < 0.7 else self._around(wrappers.QUESTIONS, part)

    def _fragments(self, part: str) -> str:
        return part

    def _around(self, table: tuple[str, ...], part: str) -> str:
        around = choose(self.rng.choice(table), self.rng)
        while part.endswith(FREE) and not around.endswith(("<x>", "<x>?", "<x>>>")):
            around = choose(self.rng.choice(table), self.rng)
        return around.replace("<x>", part)

    def _with_reason(self, form: str) -> str:
        reason = choose(self.rng.choice(wrappers.REASONS), self.rng)
        if self.rng.random() < 0.3 and not form.endswith("?"):
            return f"{form}. {reason[0].upper()}{reason[1:]}"
        if self.rng.random() < 0.2 and not form.endswith("?"):
            return f"{form} because {reason}"
        reason = reason[0].upper() + reason[1:]
        return f"{reason}{self.rng.choice(('. ', '. ', '! ', ', so ', ': '))}{form}"

    def _ended(self, form: str) -> str:
        if form.endswith("?"):
            return form if self.rng.random() < 0.85 else form[:-1]
        return form + self.rng.choice((".", ".", ".", "", "", "", "!"))
