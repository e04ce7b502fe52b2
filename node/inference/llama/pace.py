"""How much of a prompt to evaluate beside generations that are under way.

A chunk of a long prompt takes as long as many tokens of everybody else. Smaller chunks are no way
out: below some thirty tokens each of them costs twice as much. So a chunk makes a debt of time,
and the next one waits until steps without any prompt have paid it: over a while a step takes
`SLOWDOWN` times what it takes without prompts, and no pause is longer than one chunk. All is
measured: no figure of the machine or of the model is assumed, and a load from elsewhere is followed
too. Short prompts go first: they may be in debt for `AHEAD_TOKENS`, for then there is one more to
decode together, which costs little; those that begin at once then go on side by side. Where nobody
is speaking, chunks are as long as is efficient.
"""

from __future__ import annotations

from typing import Final

CHUNK_TOKENS: Final = 128
PACED_TOKENS: Final = 32
SLOWDOWN: Final = 1.6
AHEAD_TOKENS: Final = 8 * CHUNK_TOKENS
_WEIGHT: Final = 0.3


class Pace:
    """Prompt tokens for the next step. Told what each step took."""

    def __init__(self) -> None:
        self._plain_s = 0.0  # a step without prompts
        self._token_s = 0.0  # a prompt's token
        self._owed_s = 0.0

    def chunk(self, running: int, left: int) -> int:
        """Prompt tokens beside `running` generations; the first in line has `left` to go."""
        if not running:
            return CHUNK_TOKENS
        if left <= CHUNK_TOKENS:
            return CHUNK_TOKENS if self._owed_s <= AHEAD_TOKENS * self._token_s else 0
        return PACED_TOKENS if self._owed_s <= 0 else 0

    def observe(self, *, running: int, prompt_tokens: int, seconds: float) -> None:
        """Takes in what a step took."""
        if not running:
            self._learn(prompt_tokens, seconds)
            return
        if not prompt_tokens:
            self._plain_s = _nearer(self._plain_s, seconds)
        plain_s = self._plain_s or seconds / 2
        extra_s = seconds - plain_s if prompt_tokens else 0.0
        self._learn(prompt_tokens, extra_s)
        self._owed_s = max(self._owed_s + extra_s - plain_s * (SLOWDOWN - 1), 0.0)

    def _learn(self, prompt_tokens: int, seconds: float) -> None:
        if prompt_tokens:
            self._token_s = _nearer(self._token_s, max(seconds, 0.0) / prompt_tokens)


def _nearer(known: float, seen: float) -> float:
    return known + _WEIGHT * (seen - known) if known else seen
