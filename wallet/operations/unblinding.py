"""From a mint's answer to proofs, each signature checked by its DLEQ (NUT-12).

A mint that announces NUT-12 must prove every signature; one that does not is believed, since its
user chose it knowing that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wallet.errors import (
    MintError,
    MintMisbehavedError,
    MintUnreachableError,
    OutcomeUnknownError,
    UnverifiedError,
    VerificationError,
)
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
        OutcomeUnknownError: the DLEQ lacks, and the mint does not say whether it gives any.
    """
    if [made.message.amount for made in outputs] != [each.amount for each in signatures]:
        raise _misbehaved(mint, VerificationError("it signed other amounts than asked for"))
    return await finish_blank(book, mint, outputs, signatures)


async def finish_blank(
    book: Book, mint: str, outputs: Sequence[Output], signatures: Sequence[BlindSignature]
) -> tuple[Proof, ...]:
    """As `finish`, for the amounts the mint says; signatures are for the first outputs.

    Raises:
        MintMisbehavedError, OutcomeUnknownError: as `finish`.
    """
    if not signatures:
        return ()
    keyset = await book.keyset(mint, outputs[0].message.id)
    try:
        return making.finish_blank(outputs, signatures, keyset, require_dleq=True)
    except UnverifiedError as error:
        if await _proves(book, mint):
            raise _misbehaved(mint, error) from error
    except VerificationError as error:
        raise _misbehaved(mint, error) from error
    try:
        return making.finish_blank(outputs, signatures, keyset, require_dleq=False)
    except VerificationError as error:
        raise _misbehaved(mint, error) from error


async def _proves(book: Book, mint: str) -> bool:
    """Whether it announces NUT-12. That it cannot be asked says nothing of what it has signed."""
    try:
        return (await book.info(mint)).supports(12)
    except (MintError, MintUnreachableError) as error:
        hint = "Run `recover` when the mint is back."
        raise OutcomeUnknownError(error.message, hint=hint) from error


def _misbehaved(mint: str, error: VerificationError) -> MintMisbehavedError:
    """What the mint signed is not money; whether it acted stays to be found out."""
    return MintMisbehavedError(
        f"mint {mint} answered with a wrong signature: {error.message}",
        hint="Run `recover` later; if it stays so, do not use this mint.",
    )
