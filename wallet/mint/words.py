"""A mint's own words, made fit to be shown to a person.

They end on terminals and in logs, so control characters go (an escape sequence could repaint a
screen), and in errors so does anything long in hex: a mint may repeat the secrets it was sent.
"""

from __future__ import annotations

import re

_MOST_SAID = 200
_HEX = re.compile(r"[0-9a-fA-F]{16,}")
_SPACES = re.compile(r"\s+")


def printable(text: str, most: int = _MOST_SAID) -> str:
    """One line of printable characters, at most so many."""
    shown = "".join(each if each.isprintable() else " " for each in text[: 4 * most])
    shown = _SPACES.sub(" ", shown).strip()
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def quoted(text: str, most: int = _MOST_SAID) -> str:
    """As `printable`, without keys, secrets and signatures."""
    return printable(_HEX.sub("…", text[: 16 * most]), most)
