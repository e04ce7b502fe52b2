"""Lightning invoices (BOLT 11), read strictly and offline.

The `bolt11` package takes an invoice apart and checks its signature; around it stands what it
leaves open: how long an invoice may be, that its case is not mixed, and the amount, which is read
here from the human-readable part as whole millisatoshi (the package divides decimals, and cuts
off what is below one). Nothing here asks a network, and an invoice that was read may still be
expired: that is a question of when.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from wallet.errors import ParseError, UnsupportedError

Network = Literal["mainnet", "testnet", "signet", "regtest"]

MAX_LENGTH = 4_096  # characters; usual ones have 200-1,000
MAX_MSAT = 21_000_000 * 10**11  # all there will ever be
LATEST = 2**53 - 1  # Unix seconds
_NETWORKS: dict[str, Network] = {
    "bc": "mainnet",
    "tb": "testnet",
    "tbs": "signet",
    "bcrt": "regtest",
}
_HUMAN = re.compile(r"ln(bcrt|bc|tbs|tb)(?:([1-9][0-9]{0,18})([munp]?))?")
_TENTHS_OF_MSAT = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
_HINT = "Was it copied whole?"
# bits of BOLT 9 a payer may be required to know: variable onions, payment secrets, several
# parts, blinded routes, payment metadata
_FEATURES = frozenset({8, 14, 16, 24, 48})


@dataclass(frozen=True)
class Bolt11:
    """An invoice. Amounts in msat, None where the payer chooses; times in Unix seconds.

    `description_hash` is SHA-256 of a text that came another way, such as LNURL's metadata.
    """

    text: str = field(repr=False)
    network: Network
    amount_msat: int | None
    payment_hash: bytes
    payee: bytes
    created: int
    expires: int
    description: str | None = None
    description_hash: bytes | None = None

    def expired(self, now: float) -> bool:
        """Whether it is too late to begin paying it."""
        return now >= self.expires

    def proven_by(self, preimage: bytes) -> bool:
        """Whether this preimage proves that it was paid."""
        return sha256(preimage).digest() == self.payment_hash


def read(text: str) -> Bolt11:
    """The invoice in `text`, with or without `lightning:` before it.

    Raises:
        ParseError: it is none, or breaks the rules of BOLT 11.
        UnsupportedError: it asks for something of its payer that nobody here knows.
    """
    plain = text.strip()
    if plain[:10].lower() == "lightning:":
        plain = plain[10:]
    human, _, _ = plain.lower().rpartition("1")
    network, amount_msat = _human(human)
    if (
        len(plain) > MAX_LENGTH
        or not plain.isascii()
        or plain not in (plain.lower(), plain.upper())
    ):
        raise ParseError("an invoice is too long, or its case is mixed", hint=_HINT)
    return Bolt11(plain.lower(), network, amount_msat, **_facts(_decode(plain.lower())))


def _human(human: str) -> tuple[Network, int | None]:
    found = _HUMAN.fullmatch(human[:64])
    if found is None:
        raise ParseError("this is no Lightning invoice", hint=f"They begin with lnbc. {_HINT}")
    currency, digits, unit = found.groups()
    if digits is None:
        return _NETWORKS[currency], None
    amount_msat, rest = divmod(int(digits) * _TENTHS_OF_MSAT[unit], 10)
    if rest or amount_msat > MAX_MSAT:
        raise ParseError("an invoice's amount is not one that can be paid")
    return _NETWORKS[currency], amount_msat


def _decode(text: str) -> Any:
    import bolt11  # takes a moment to load, and only whoever meets an invoice needs it

    try:
        return bolt11.decode(text)
    except Exception as error:  # it raises whatever its parts raise
        kind = type(error).__name__
        raise ParseError(f"an invoice cannot be read ({kind})", hint=_HINT) from None


def _facts(decoded: Any) -> dict[str, Any]:
    expires = decoded.date + decoded.expiry
    if not 0 <= expires <= LATEST:
        raise ParseError("an invoice's expiry is out of bounds")
    described = decoded.description_hash
    _check_features(decoded.features)
    return {
        "payment_hash": bytes.fromhex(decoded.payment_hash),
        "payee": bytes.fromhex(decoded.payee),
        "created": decoded.date,
        "expires": expires,
        "description": decoded.description,
        "description_hash": None if described is None else bytes.fromhex(described),
    }


def _check_features(features: Any) -> None:
    """An even bit is one the payer must know; an odd one is an offer."""
    listed = features.feature_list.items() if features else ()
    required = {2 * feature.value for feature, state in listed if state.name == "required"}
    if unknown := required - _FEATURES:
        raise UnsupportedError(
            f"an invoice asks its payer for the unknown feature {min(unknown)}",
            hint="Ask the payee for a plain invoice.",
        )
