"""Secrets and blinding factors from a seed, so that words on paper restore the money (NUT-13).

Keysets of version 2 use one HMAC-SHA256 a value; those of version 1 a BIP-32 path, whose part
above the counter is kept, since it is the same for each output of a keyset. Keys for ecash that is
locked to this wallet have a path of their own, as cashu-ts and cdk have it. The seed is never
shown by `repr`.
"""

from __future__ import annotations

import hmac
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from wallet.errors import ParseError, UnsupportedError
from wallet.protocol import curve
from wallet.protocol.curve import ORDER
from wallet.protocol.keysets import version_of

_HARD = 2**31
_CASHU = (129372 + _HARD, 0 + _HARD)  # m/129372'/0'
_P2PK = (129373 + _HARD, 10 + _HARD, 0 + _HARD, 0 + _HARD)  # m/129373'/10'/0'/0'
_MOST_WORDS_TEXT = 1_000  # characters

Node = tuple[bytes, bytes]  # private key, chain code


@dataclass(frozen=True)
class Seed:
    """A BIP-39 seed: 64 bytes."""

    value: bytes = field(repr=False)
    _nodes: dict[tuple[int, ...], Node] = field(
        default_factory=dict, repr=False, compare=False, hash=False
    )

    @classmethod
    def from_words(cls, words: str) -> Self:
        """The seed of a mnemonic without a passphrase. Takes some milliseconds.

        Raises:
            ParseError: the words are no mnemonic.
        """
        from mnemonic import Mnemonic

        return cls(bytes(Mnemonic.to_seed(check_words(words))))

    def derive(self, keyset_id: str, counter: int) -> tuple[str, bytes]:
        """The secret and the blinding factor `r` of a keyset's output number `counter`.

        Raises:
            UnsupportedError: the id is of no known version, or the counter beyond what it allows.
            VerificationError: this counter gives no scalar (never seen: 2**-127); use the next.
        """
        if version_of(keyset_id) == 2:
            return self._derive_hmac(bytes.fromhex(keyset_id), counter)
        return self._derive_path(int(keyset_id, 16) % (_HARD - 1), counter)

    def p2pk_key(self, counter: int) -> bytes:
        """The private key number `counter` for ecash locked to this wallet (NUT-11)."""
        _within(counter, _HARD)
        parent = self._node(_P2PK)
        return _child(parent, counter, curve.public(parent[0]))[0]

    def _derive_hmac(self, keyset: bytes, counter: int) -> tuple[str, bytes]:
        _within(counter, 2**64)
        message = b"Cashu_KDF_HMAC_SHA256" + keyset + counter.to_bytes(8, "big")
        secret = hmac.digest(self.value, message + b"\x00", "sha256")
        r = int.from_bytes(hmac.digest(self.value, message + b"\x01", "sha256"), "big") % ORDER
        return secret.hex(), curve.scalar(r.to_bytes(32, "big"))

    def _derive_path(self, keyset: int, counter: int) -> tuple[str, bytes]:
        _within(counter, _HARD)
        parent = _child(self._node((*_CASHU, keyset + _HARD)), counter + _HARD)
        point = curve.public(parent[0])
        return _child(parent, 0, point)[0].hex(), _child(parent, 1, point)[0]

    def _node(self, path: tuple[int, ...]) -> Node:
        if path not in self._nodes:
            digest = hmac.digest(b"Bitcoin seed", self.value, "sha512")
            node = curve.scalar(digest[:32]), digest[32:]
            for index in path:
                node = _child(node, index)
            self._nodes[path] = node
        return self._nodes[path]


def new_words(random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Twelve new words of BIP-39's English list: 128 random bits."""
    from mnemonic import Mnemonic

    return str(Mnemonic("english").to_mnemonic(random(16)))


def check_words(words: str) -> str:
    """The words in normal form: lower case, single spaces.

    Raises:
        ParseError: they are no English BIP-39 mnemonic. The message holds none of them.
    """
    from mnemonic import Mnemonic

    if len(words) <= _MOST_WORDS_TEXT:
        normal = " ".join(unicodedata.normalize("NFKD", words).lower().split())
        if Mnemonic("english").check(normal):
            return normal
    raise ParseError(
        "these words are no seed: a word is misspelt or missing, or their order is wrong",
        hint="A seed has 12 to 24 English words of the BIP-39 list.",
    )


def _child(parent: Node, index: int, point: bytes = b"") -> Node:
    """BIP-32's private child; `point` is the parent's public key, where the index is not hard."""
    key, chain = parent
    data = (point or b"\x00" + key) + index.to_bytes(4, "big")
    digest = hmac.digest(chain, data, "sha512")
    left = curve.scalar(digest[:32])
    number = (int.from_bytes(left, "big") + int.from_bytes(key, "big")) % ORDER
    return curve.scalar(number.to_bytes(32, "big")), digest[32:]


def _within(counter: int, limit: int) -> None:
    if not 0 <= counter < limit:
        raise UnsupportedError(f"no secret can be derived for counter {counter}")
