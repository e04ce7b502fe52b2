"""The seed alone brings the money back (NUT-09, NUT-13).

Every keyset of a mint, active or not, is asked about in batches of 100 counters until three in a
row were never signed. What the mint signed and was not spent is ours again; the counter goes past
the last that was ever used, and never down. A wallet in use may restore too: outputs of operations
that are not settled are theirs to finish, and proofs that are here already stay as they are.

A mint that signs whatever it is asked about, in as many keysets as it likes, would be asked for
ever. So it is asked about so many counters past those that the file knows; restoring again goes on
from there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from wallet import codes
from wallet.errors import MintError, MintMisbehavedError, UnsupportedError
from wallet.operations import unblinding
from wallet.operations.book import Book
from wallet.operations.results import Restored
from wallet.protocol import curve
from wallet.protocol import outputs as making
from wallet.store import Hold, Record, Tables, codec
from wallet.types import BlindSignature, KeysetInfo, Output, Proof, ProofState

BATCH: Final = 100
EMPTY_BATCHES: Final = 3
MOST_NEW: Final = 50_000


@dataclass
class _Found:
    """What one keyset gave back; `used` is one more than its highest counter, `new` how many up to
    there the file did not know. `more`: there may be more of it."""

    by_state: dict[ProofState, list[Proof]] = field(
        default_factory=lambda: {state: [] for state in ProofState}
    )
    used: int = 0
    new: int = 0
    more: bool = False


async def restore(book: Book, mint: str) -> Restored:
    """See `Wallet.restore`."""
    url = book.mint(mint).url
    if not (await book.info(url)).supports(9):
        raise UnsupportedError(
            f"mint {url} does not say what it signed before (NUT-09)",
            hint="What the seed has there comes back from a backup of the wallet's file alone. Add "
            "a mint that restores: only a wallet's first may do without.",
        )
    async with book.alone(url):
        await book.refresh(url)
        back: Counter[str] = Counter()
        proofs = spent = 0
        more, left = False, MOST_NEW
        for info in sorted(book.infos(url).values(), key=lambda info: not info.active):
            found = await _scan(book, url, info, first=0, most=left)
            left = max(left - found.new, 0)
            added = await _add(book, url, info, found)
            back[info.unit] += sum(proof.amount for proof in added)
            proofs += len(added)
            spent += len(found.by_state[ProofState.SPENT])
            more = more or found.more
    return Restored(url, dict(back), proofs, spent, more)


async def catch_up(book: Book, mint: str, keyset: str) -> bool:
    """Raises a counter past what the mint signed before; whether it had to be raised, because the
    file is older than its last use. What those outputs are worth comes back with `restore`."""
    first = book.store.read(lambda tables: tables.keysets.counter(keyset))
    found = await _scan(book, mint, book.infos(mint)[keyset], first=first, most=MOST_NEW)

    def work(tables: Tables) -> bool:
        behind = tables.keysets.counter(keyset) < found.used
        tables.keysets.raise_to(keyset, found.used)
        return behind

    return await book.store.write("counter", work)


async def signed(book: Book, mint: str, outputs: Sequence[Output]) -> tuple[BlindSignature, ...]:
    """What the mint signed of a request: all of it, or nothing.

    Raises:
        MintMisbehavedError: some of it.
    """
    found = dict(await book.api(mint).restore([made.message for made in outputs]))
    if found and len(found) < len(outputs):
        raise MintMisbehavedError(
            f"mint {mint} restores {len(found)} of {len(outputs)} outputs",
            hint="Run `recover` later; if it stays so, do not use this mint.",
        )
    return tuple(found[made.message] for made in outputs) if found else ()


async def signed_before(
    book: Book, record: Record, refusal: MintError, *, sent: bool
) -> tuple[BlindSignature, ...]:
    """What the mint signed of a request that it refuses because it signed its outputs before; ()
    where it refuses it for something else.

    Args:
        sent: the request may have been at the mint before this refusal.

    Returns:
        The signatures, where they can only be the lost answer to this very request: the mint says
        that it is still to be answered, and is wrong. () where an older copy of this file used the
        counters for something else; then they are past that now.
    """
    if refusal.code != codes.SIGNED_BEFORE:
        return ()
    mint, outputs = record.operation.mint, codec.outputs_of(record.body)
    behind = await catch_up(book, mint, outputs[0].message.id)
    if behind or not sent:
        return ()
    found = dict(await book.api(mint).restore([made.message for made in outputs]))
    signatures = tuple(found[made.message] for made in outputs if made.message in found)
    if [each.amount for each in signatures] != [made.message.amount for made in outputs]:
        return ()
    states = await book.api(mint).check([curve.y_of(made.secret) for made in outputs])
    return signatures if set(states) == {ProofState.UNSPENT} else ()


async def _scan(book: Book, mint: str, info: KeysetInfo, *, first: int, most: int) -> _Found:
    """Asks about counters from `first`, at least to where this wallet knows it has been, and about
    `most` more where the mint goes on knowing them."""
    known = book.store.read(lambda tables: tables.keysets.counter(info.id))
    found, empty, counter = _Found(used=first), 0, first
    start = max(first, known)
    while empty < EMPTY_BATCHES or counter < known:
        if counter >= start + most and not empty:
            found.more = True
            break
        outputs = await asyncio.to_thread(_outputs, book, info.id, counter)
        signed = dict(await book.api(mint).restore([made.message for made in outputs]))
        here = [made for made in outputs if made.message in signed]
        for made in here:
            found.used = max(found.used, counter + outputs.index(made) + 1)
        signatures = [signed[made.message] for made in here]
        proofs = await unblinding.finish_blank(book, mint, here, signatures)
        states = await book.api(mint).check([curve.y_of(proof.secret) for proof in proofs])
        for proof, state in zip(proofs, states, strict=True):
            found.by_state[state].append(proof)
        empty = 0 if here else empty + 1
        counter += BATCH
    found.new = max(found.used - start, 0)
    return found


def _outputs(book: Book, keyset: str, first: int) -> list[Output]:
    """Amount 1 stands for any: the mint finds an output by its point."""
    return [
        making.output(1, keyset, *book.seed.derive(keyset, first + number))
        for number in range(BATCH)
    ]


async def _add(book: Book, mint: str, info: KeysetInfo, found: _Found) -> list[Proof]:
    """Keeps what is ours; what is in a payment under way is set aside until `check`."""

    def work(tables: Tables) -> list[Proof]:
        tables.keysets.raise_to(info.id, found.used)
        taken = _unsettled(tables)
        free = [p for p in found.by_state[ProofState.UNSPENT] if p.secret not in taken]
        pending = [p for p in found.by_state[ProofState.PENDING] if p.secret not in taken]
        tables.proofs.add(mint, info.unit, pending, hold=Hold.ASIDE, operation="restore")
        return [proof for proof in free if tables.proofs.add(mint, info.unit, [proof])]

    return await book.store.write("restore", work)


def _unsettled(tables: Tables) -> set[str]:
    """Secrets of outputs that belong to operations which are not final."""
    secrets: set[str] = set()
    for operation in tables.operations.pending():
        record = tables.operations.get(operation.key)
        if record is not None:
            rows = [record.body.get("outputs", ()), *record.body.get("before", ())]
            secrets.update(codec.to_output(row).secret for each in rows for row in each)
    return secrets
