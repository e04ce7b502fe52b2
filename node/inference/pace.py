"""How much of a prompt to evaluate beside generations that are under way.

A chunk of a long prompt takes as long as many tokens of everybody else, who would see a pause. So a
step may take `SLOWDOWN` times what it takes without any prompt. Both are measured, and the chunk
follows: no figure of the machine or of the model is assumed, and a load from elsewhere is followed
too. Short prompts go through at once: there is credit of one chunk, which comes back slowly. Where
nobody is waiting for tokens, chunks are as long as is efficient.
"""

from __future__ import annotations

from typing import Final

CHUNK_TOKENS: Final = 128
LEAST_TOKENS: Final = 8
SLOWDOWN: Final = 1.5
_PLAIN_EVERY: Final = 24  # a step without prompt tokens, to know what it takes now
_WEIGHT: Final = 0.3
_CREDIT_BACK: Final = CHUNK_TOKENS / 16  # for a step without prompt tokens


class Pace:
    """Prompt tokens for the next step. Told what each step took."""

    def __init__(self) -> None:
        self._plain_s = 0.0
        self._running = 0
        self._since_plain = 0
        self._size = float(LEAST_TOKENS * 2)
        self._credit = float(CHUNK_TOKENS)

    def chunk(self, running: int, wanted: int) -> int:
        """Of `wanted` prompt tokens, how many to evaluate beside `running` generations.

        0 asks for a step without any.
        """
        if not running:
            return CHUNK_TOKENS
        if wanted <= min(self._size + self._credit, CHUNK_TOKENS):
            return wanted
        if running != self._running or self._since_plain >= _PLAIN_EVERY:
            return 0
        return int(self._size)

    def observe(self, *, running: int, prompt_tokens: int, seconds: float) -> None:
        """Takes in what a step took."""
        if not running:
            return
        if not prompt_tokens:
            known = self._plain_s if running == self._running else seconds
            self._plain_s = known + _WEIGHT * (seconds - known)
            self._running, self._since_plain = running, 0
            self._credit = min(self._credit + _CREDIT_BACK, CHUNK_TOKENS)
            return
        self._since_plain += 1
        over = max(prompt_tokens - self._size, 0.0)
        self._credit = max(self._credit - over, 0.0)
        if running == self._running:
            token_s = max(seconds - self._plain_s, 1e-9) / prompt_tokens
            wanted = self._plain_s * (SLOWDOWN - 1) / token_s
            self._size += _WEIGHT * (min(wanted, CHUNK_TOKENS) - self._size)
            self._size = max(self._size, LEAST_TOKENS)
