"""A request that its mint refuses because our picture is old is planned anew, and sent again.

Keysets and fees change at the mint; a counter of an older copy of this file was used before. In
both cases nothing was done, and the same wish makes another request.
"""

from __future__ import annotations

from typing import Final

from wallet import codes
from wallet.errors import MintError
from wallet.operations import restoring
from wallet.operations.book import Book
from wallet.operations.directory import Snapshot
from wallet.store import Record, codec
from wallet.types import CLOCK_S

MOST_TRIES: Final = 3
OUTDATED: Final = codes.KEYSETS_CHANGED | {codes.SIGNED_BEFORE}


async def looked_anew(book: Book, record: Record, refusal: MintError) -> Snapshot:
    """The mint's keysets of now, without those it calls expired; counters it saw are used up.

    Raises:
        WalletError: the mint does not tell, or issues none of the unit any more.
    """
    mint, unit = record.operation.mint, record.operation.unit
    ahead_s = CLOCK_S if refusal.code == codes.KEYSET_EXPIRED else 0
    snapshot = await book.snapshot(mint, unit, fresh=True, ahead_s=ahead_s)
    outputs = codec.outputs_of(record.body)
    if refusal.code == codes.SIGNED_BEFORE and outputs:
        await restoring.catch_up(book, mint, outputs[0].message.id)
    return snapshot
