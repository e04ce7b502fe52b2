"""Requests of which more than one copy may be on its way to a mint.

A request whose answer is missing may still arrive: from a proxy's queue, over a connection that
broke. So it is repeated as it was rather than given up; and what the mint says of the repetition
settles it only where it says the same of every copy, whenever that comes. A rate limit, a proxy's
page, a Lightning payment that failed, or a mint that is busy with these very proofs say nothing of
a copy that comes in a minute: they count once none can come any more.

So an operation's body has the times at which those of its copies went out that nobody answered,
as `copies`; each is written down before it goes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from wallet import codes
from wallet.errors import MintError
from wallet.operations.book import Book
from wallet.store import Record

LIVES_S: Final = 600  # how long a copy may be under way
_SAME_FOR_EACH: Final = codes.KEYSETS_CHANGED | {
    codes.ALREADY_ISSUED,
    codes.ALREADY_PAID,
    codes.QUOTE_EXPIRED,
}


def first(book: Book, record: Record) -> Record:
    """A new request, about to be written and to go out."""
    return _with(record, [book.stamp()])


async def again(book: Book, record: Record) -> Record:
    """Writes, before it happens, that another copy goes out."""
    return await book.keep(_with(record, [*_left(book, record), book.stamp()]), "copy")


async def answered(book: Book, record: Record, *, again: bool) -> Record:
    """The copy that went out last is not under way: it was answered, or could not be sent.

    Args:
        again: it was not the first, so the others are written down.
    """
    left = _with(record, _times(record)[:-1])
    return await book.keep(left, "copy") if again else left


def landed(record: Record) -> Record:
    """The mint is at it: one of the copies has arrived."""
    return _with(record, _times(record)[1:])


def may_come(book: Book, record: Record) -> bool:
    """Whether a copy may be under way. A clock that is set makes none of them old."""
    return bool(_left(book, record))


def heard(book: Book, record: Record, refusal: MintError) -> MintError | None:
    """The refusal of a copy, where it settles the request: no other may come, or it would be told
    the same. `record` is as `answered` left it."""
    settles = refusal.code in _SAME_FOR_EACH or not may_come(book, record)
    return refusal if settles else None


def _times(record: Record) -> list[int]:
    """Requests of before this was kept went out when their operation began."""
    return list(record.body.get("copies", [record.operation.when]))


def _left(book: Book, record: Record) -> list[int]:
    return [time for time in _times(record) if book.age_s(time) < LIVES_S]


def _with(record: Record, times: list[int]) -> Record:
    return replace(record, body={**record.body, "copies": times})
