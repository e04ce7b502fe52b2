"""Whether a run still gets anywhere: repeated calls, and steps that bring nothing new."""

from __future__ import annotations

from collections import Counter

from node.runs.offer import Offer
from node.types import Json, JsonObject, digest

_VARYING_REPEATS = 3


class Progress:
    """Watches the calls of one run.

    A call is repeated if the same function was called with the same arguments and nothing was
    changed by another call since. One whose result may vary by itself (the clock, the network) may
    be made three times. A step makes progress if it changes something, or succeeds with a result
    not seen before; the calls of one reply are one step, since the model saw no result in between.
    """

    def __init__(self, idle_steps: int) -> None:
        self._most_idle = idle_steps
        self._idle = 0
        self._new = False
        self._writes = 0
        self._seen_at: dict[str, int] = {}
        self._times: Counter[str] = Counter()
        self._results: set[str] = set()

    def repeated(self, offer: Offer, arguments: JsonObject) -> bool:
        """Whether this call, made now, repeats an earlier one."""
        key = _key(offer, arguments)
        if self._seen_at.get(key) != self._writes:
            return False
        return not offer.varies or self._times[key] >= _VARYING_REPEATS

    def note(self, offer: Offer, arguments: JsonObject, *, ok: bool, value: Json) -> None:
        """Takes a call that was made into account."""
        key = _key(offer, arguments)
        result = digest([offer.name, value]) if offer.read_only else key
        self._new = self._new or (ok and result not in self._results)
        self._results.add(result)
        if ok and not offer.read_only and self._seen_at.get(key) != self._writes:
            self._writes += 1
            self._times.clear()
        self._seen_at[key] = self._writes
        self._times[key] += 1

    def end_step(self) -> bool:
        """To be said after the calls of each reply: whether the last steps brought nothing."""
        self._idle = 0 if self._new else self._idle + 1
        self._new = False
        return self._idle >= self._most_idle


def _key(offer: Offer, arguments: JsonObject) -> str:
    return digest([offer.name, arguments])
