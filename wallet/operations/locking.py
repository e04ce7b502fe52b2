"""The signature that opens a locked mint quote, in whichever form its mint takes (NUT-20, NUT-29).

There are two messages to sign (`wallet.protocol.quotes`), and a mint does not announce which it
takes. The one that all released mints take is tried first; a mint that answers 20008 minted
nothing, and is asked again with the other. So is one that said of a quote that it is not locked
and wants a signature all the same. What a mint took is remembered while the process lives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import TypeVar

from wallet import codes
from wallet.errors import MintError
from wallet.operations.book import Book
from wallet.protocol import quotes
from wallet.types import BlindedMessage

T = TypeVar("T")


class Form(Enum):
    """What is signed."""

    NOTHING = "no signature"
    PLAIN = "the message as it was"
    FRAMED = "the message as it was amended"

    def sign(self, quote: str, outputs: Sequence[BlindedMessage], private: bytes) -> str | None:
        """The `signature` of a mint request."""
        if self is Form.NOTHING:
            return None
        return quotes.sign(quote, outputs, private, framed=self is Form.FRAMED)


async def posted(book: Book, mint: str, post: Callable[[Form], Awaitable[T]], *, locked: bool) -> T:
    """The answer to a mint request, sent with the signature that the mint takes.

    Args:
        post: sends it with a signature of this form.
        locked: whether the mint said that its quote is locked.

    Raises:
        MintError: the mint takes none of them, or refuses for another reason.
        WalletError: as `post`.
    """
    forms = _forms(book, mint, locked)
    for form in forms:
        try:
            answer = await post(form)
        except MintError as refusal:
            if refusal.code != codes.SIGNATURE_INVALID or form is forms[-1]:
                raise
        else:
            break
    if form is Form.FRAMED:
        book.framed.add(mint)
    elif form is Form.PLAIN:
        book.framed.discard(mint)
    return answer


def _forms(book: Book, mint: str, locked: bool) -> list[Form]:
    signed = [Form.PLAIN, Form.FRAMED]
    if mint in book.framed:
        signed.reverse()
    return signed if locked else [Form.NOTHING, *signed]
