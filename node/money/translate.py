"""The wallet's errors as the node's: what separates them is what became of the money."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from node.errors import PaymentError, PaymentPendingError, RequestError, WalletStateError
from wallet.errors import (
    OutcomeUnknownError,
    ParseError,
    StoreError,
    UnsupportedError,
    WalletError,
)

# What a hint of the wallet calls by the name it has in its own API, as the node's owner has it.
OURS = {
    "cap_sat": "wallet.mint_cap_sats",
    "consolidate": "freehold wallet send` and `freehold wallet receive",
    "force": "--force",
    "history": "freehold wallet history",
    "max_fee": "wallet.max_fee_sats",
    "reclaim": "freehold wallet reclaim",
    "recover": "freehold wallet settle",
    "restore": "freehold wallet restore",
    "swap_foreign": "wallet.swap_foreign",
    "words": "freehold wallet restore --words",
}


def hint_of(error: WalletError) -> str:
    """What to do about it, in the words of the node's commands and configuration."""
    return re.sub(r"(?<=`)\w+(?=`)", lambda name: OURS.get(name[0], name[0]), error.hint)


@contextmanager
def translated() -> Iterator[None]:
    """Raises the node's error for the wallet's: OutcomeUnknownError where the money may have
    moved, RequestError where it could not be read, MoneyError where nothing happened."""
    try:
        yield
    except OutcomeUnknownError as error:
        raise PaymentPendingError(error.message, hint=hint_of(error)) from error
    except (ParseError, UnsupportedError) as error:
        raise RequestError(error.message, hint=hint_of(error)) from error
    except StoreError as error:
        raise WalletStateError(error.message, hint=hint_of(error)) from error
    except WalletError as error:
        raise PaymentError(error.message, hint=hint_of(error)) from error
