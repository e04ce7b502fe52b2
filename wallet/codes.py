"""Codes of mints' refusals that have names here (NUT-00, `error_codes.md`)."""

from __future__ import annotations

from typing import Final

ALREADY_SPENT: Final = 11001
PROOFS_PENDING: Final = 11002
SIGNED_BEFORE: Final = 11003
NOT_BALANCED: Final = 11005
KEYSET_UNKNOWN: Final = 12001
KEYSET_INACTIVE: Final = 12002
KEYSET_EXPIRED: Final = 12003
QUOTE_NOT_PAID: Final = 20001
ALREADY_ISSUED: Final = 20002
PAYMENT_FAILED: Final = 20004
QUOTE_PENDING: Final = 20005
ALREADY_PAID: Final = 20006
QUOTE_EXPIRED: Final = 20007
SIGNATURE_INVALID: Final = 20008

# the mint's keysets or fees are not what we think
KEYSETS_CHANGED: Final = frozenset({NOT_BALANCED, KEYSET_UNKNOWN, KEYSET_INACTIVE, KEYSET_EXPIRED})
