"""Where data may go once it is known where it came from.

A run that has read something from outside (`untrusted`) may be under somebody else's instructions;
one that has read private knowledge (`private`) has something to lose. Either alone is ordinary.
Both together, with a way to send data out, is how agents are robbed: then a person is asked,
whatever the manifest says, unless the owner listed that very destination.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from node.runs.effect import Label

BOTH: frozenset[Label] = frozenset({"untrusted", "private"})


def unlisted(
    labels: frozenset[Label], destinations: Iterable[str], listed: Iterable[str]
) -> tuple[str, ...]:
    """The destinations a person must be asked about; empty if the run does not carry both."""
    if not labels >= BOTH:
        return ()
    known = tuple(listed)
    return tuple(place for place in destinations if not any(covers(item, place) for item in known))


def covers(listed: str, destination: str) -> bool:
    """Whether a `send_to` entry names this destination.

    Equal text always does. An entry that ends in `/*` behind a full host also covers what lies
    below it, if the destination has no way to climb out (dots, escapes, backslashes).
    """
    if listed == destination:
        return True
    if not listed.endswith("/*") or "://" not in listed:
        return False
    prefix = listed[:-1]
    host_fixed = "*" not in prefix and prefix.count("/") >= 3
    return host_fixed and destination.startswith(prefix) and not _climbs(destination[len(prefix) :])


def _climbs(rest: str) -> bool:
    plain = unquote(unquote(rest.split("?", maxsplit=1)[0]))
    return ".." in plain.split("/") or "\\" in plain
