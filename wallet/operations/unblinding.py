"""From a mint's answer to proofs, each signature checked by its DLEQ (NUT-12).

A mint that announces NUT-12 must prove every signature; one that does not is believed, since its
user chose it knowing that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wallet.errors import MintMisbehavedError, UnverifiedError, VerificationError
from wallet.protocol import outputs as making
from wallet.types import BlindSignature, Output, Proof

if TYPE_CHECKING:
    from wallet.operations.book import Book


async def finish(
    book: Book, mint: str, outputs: Sequence[Output], signatures: Sequence[BlindSignature]
) -> tuple[Proof, ...]:
    """One proof an output, for its amount.

    Raises:
        MintMisbehavedError: count, keyset, amount or DLEQ is not what was asked for.
    """
    if [made.message.amount for made in outputs] != [each.amount for each in signatures]:
        raise misbehaved(mint, VerificationError("it signed other amounts than asked for"))
    return await finish_blank(book, mint, outputs, signatures)


async def finish_blank(
    book: Book, mint: str, outputs: Sequence[Output], signatures: Sequence[BlindSignature]
) -> tuple[Proof, ...]:
    """As `finish`, for the amounts the mint says; signatures are for the first outputs.

    Raises:
        MintMisbehavedError: as `finish`.
    """
    if not signatures:
        return ()
    keyset = await book.keyset(mint, outputs[0].message.id)
    try:
        return making.finish_blank(outputs, signatures, keyset, require_dleq=True)
    except UnverifiedError as error:
        if (await book.info(mint)).supports(12):
            raise misbehaved(mint, error) from error
    except VerificationError as error:
        raise misbehaved(mint, error) from error
    try:
        return making.finish_blank(outputs, signatures, keyset, require_dleq=False)
    except VerificationError as error:
        raise misbehaved(mint, error) from error


def misbehaved(mint: str, error: VerificationError) -> MintMisbehavedError:
    """What the mint signed is not money; whether it acted stays to be found out."""
    return MintMisbehavedError(
        f"mint {mint} answered with a wrong signature: {error.message}",
        hint="Run `recover` later; if it stays so, do not use this mint.",
    )
