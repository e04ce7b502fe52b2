"""The wallet's errors as the node's: what separates them is what became of the money."""

from __future__ import annotations

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


@contextmanager
def translated() -> Iterator[None]:
    """Raises the node's error for the wallet's: OutcomeUnknownError where the money may have
    moved, RequestError where it could not be read, MoneyError where nothing happened."""
    try:
        yield
    except OutcomeUnknownError as error:
        raise PaymentPendingError(error.message, hint=error.hint) from error
    except (ParseError, UnsupportedError) as error:
        raise RequestError(error.message, hint=error.hint) from error
    except StoreError as error:
        raise WalletStateError(error.message, hint=error.hint) from error
    except WalletError as error:
        raise PaymentError(error.message, hint=error.hint) from error
