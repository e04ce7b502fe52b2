"""The wallet's own keys for ecash that is locked to it (NUT-11), from the seed.

Key 0 is the wallet's address; others are handed out one by one, so that payments cannot be linked.
How many were is kept; after a restore from the seed alone the first ones are tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from wallet.operations.book import Book
from wallet.protocol import curve, p2pk
from wallet.store import Tables
from wallet.types import Proof

AHEAD: Final = 20  # keys beyond the last handed out that are tried too
FAR: Final = 500  # ... where a lock tells whose it is, so that each costs a look and no curve
_NAME = "keys handed out"


class OwnKeys:
    """Public and private keys by number."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._pairs: list[tuple[bytes, bytes]] = []  # public, private

    def address(self) -> bytes:
        """Key 0: 33 bytes."""
        return self._pair(0)[0]

    async def fresh(self) -> bytes:
        """A public key that was never handed out."""

        def work(tables: Tables) -> int:
            number = _handed_out(tables) + 1
            tables.put_sealed(_NAME, str(number).encode())
            return number

        return self._pair(await self._book.store.write("key", work))[0]

    def opening(self, proofs: Iterable[Proof], extra: Sequence[bytes] = ()) -> tuple[bytes, ...]:
        """Private keys that may open these proofs' locks: of `extra`, and of this wallet's."""
        locked = [(proof, p2pk.lock_of(proof.secret)) for proof in proofs]
        named: set[bytes] = set()
        for proof, lock in locked:
            if lock is not None:
                if proof.ephemeral is not None:  # blinded: only trying tells (NUT-28)
                    return (*extra, *(private for _, private in self._known()))
                named.update(key[1:] for key in (*lock.keys, *lock.refund))
        if not named:
            return ()
        known = self._known(FAR)
        return (*extra, *(private for public, private in known if public[1:] in named))

    def _known(self, ahead: int = AHEAD) -> list[tuple[bytes, bytes]]:
        count = self._book.store.read(_handed_out) + 1 + ahead
        if len(self._pairs) < count:
            self._pair(count - 1)
        return self._pairs[:count]

    def _pair(self, number: int) -> tuple[bytes, bytes]:
        while len(self._pairs) <= number:
            private = self._book.seed.p2pk_key(len(self._pairs))
            self._pairs.append((curve.public(private), private))
        return self._pairs[number]


def _handed_out(tables: Tables) -> int:
    value = tables.sealed(_NAME)
    return 0 if value is None else int(value)
