"""How much a mint may say, and how long it may take: a hostile one is bounded, not believed.

Counts are far above what an honest mint sends, so that none is refused for being large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST_REPLY_BYTES: Final = 4 * 2**20
MOST_KEYSETS: Final = 2_000
MOST_KEYS: Final = 512
MOST_SIGNATURES: Final = 10_000
MOST_INVOICE: Final = 8_192  # characters; BOLT11 invoices are 200-1,000
LARGEST_FEE_PPK: Final = 1_000_000_000
LATEST: Final = 2**53  # Unix seconds
ASK_AT_ONCE: Final = 200  # Ys or outputs in one state check or restore; mints take 100-1,000


@dataclass(frozen=True)
class Patience:
    """Seconds. `ask_s` is for a whole exchange, however the reply drips in; `melt_s` for one that
    waits for a Lightning payment (NUT-05); `silent_s` is how long updates may say nothing before
    the state is asked for. What is asked for in vain is asked for less often, down to `slowest_*`.
    """

    connect_s: float = 10.0
    ask_s: float = 30.0
    melt_s: float = 180.0
    silent_s: float = 2.0
    slowest_silent_s: float = 30.0
    poll_s: float = 1.0
    slowest_poll_s: float = 15.0


PATIENCE: Final = Patience()
