"""The key that seals the wallet's file: 32 bytes in `keys/wallet`, plain or under a passphrase.

Under a passphrase the file holds the key sealed with AES-256-GCM by a key that scrypt (RFC 7914)
makes of it, so that whoever has the disk has nothing to spend with. The cost is fixed when it is
sealed and read from the file, within bounds, so that a file from elsewhere cannot ask for all
memory. A key is made once and never replaced: the wallet's file would be lost with it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from node.errors import WalletLockedError, WalletStateError
from node.identity import KeyStore
from node.money.passphrase import MOST_BYTES

FOLDER, NAME = "wallet", "key"
FORMAT = 1
KEY_BYTES = 32
COST = (2**16, 8, 1)  # n, r, p: 64 MiB, and a third of a second or so
KEY_LOST = (
    "Put keys/wallet back from a backup. Or move it and wallet.db* out of the home: then "
    "`freehold wallet restore --words` brings the money back from its seed."
)
PASSPHRASE_MIN = 8
_MOST_MEMORY = 512 * 1024 * 1024
_ABOUT = b"freehold wallet key 1"


class WalletKey:
    """The key's file below `keys`, the home's folder of secrets."""

    def __init__(self, keys: Path, *, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._store = KeyStore(keys / FOLDER)
        self._parent = keys
        self._random = random

    def exists(self) -> bool:
        """Whether there is one."""
        return NAME in self._store.names()

    def is_wrapped(self) -> bool:
        """Whether it takes a passphrase to open. Raises as `open`."""
        return "sealed" in self._read()

    def make(self) -> bytes:
        """A new key, kept plain. Raises WalletStateError if there is one."""
        if self.exists():
            raise WalletStateError("there is a wallet key already", hint="It is never replaced.")
        key = self._random(KEY_BYTES)
        self._write({"key": key.hex()})
        return key

    def open(self, passphrase: str | None = None) -> bytes:
        """The key; blocks for a moment where a passphrase guards it.

        Raises:
            WalletLockedError: it takes a passphrase, and this is not it.
            WalletStateError: the file is not what it must be.
            IdentityError: there is none, or others can read it.
        """
        found = self._read()
        if "sealed" in found:
            return self._unsealed(found, passphrase)
        return _bytes(found, "key", KEY_BYTES)

    def set_passphrase(self, old: str | None, new: str | None) -> None:
        """Puts the key under another passphrase, or with `new` None under none.

        Raises:
            WalletLockedError: `old` does not open it.
            WalletStateError: `new` is too short, or too long to be given at a start.
        """
        key = self.open(old)
        if new is None:
            self._write({"key": key.hex()})
            return
        if len(new) < PASSPHRASE_MIN:
            raise WalletStateError(
                f"a passphrase has at least {PASSPHRASE_MIN} characters",
                hint="A few words in a row are easy to remember and hard to guess.",
            )
        if len(new.encode()) > MOST_BYTES:
            raise WalletStateError(
                f"a passphrase has at most {MOST_BYTES} bytes",
                hint="A start of the node could not be given all of it.",
            )
        salt, nonce = self._random(16), self._random(12)
        sealed = AESGCM(_derive(new, salt, COST)).encrypt(nonce, key, _ABOUT)
        cost: dict[str, Any] = dict(zip("nrp", COST, strict=True))
        self._write(
            {"scrypt": cost, "salt": salt.hex(), "nonce": nonce.hex(), "sealed": sealed.hex()}
        )

    def _unsealed(self, found: dict[str, Any], passphrase: str | None) -> bytes:
        if not passphrase:
            raise WalletLockedError(
                "the wallet is locked: its key is under a passphrase",
                hint="`freehold wallet unlock` opens it; so does FREEHOLD_PASSPHRASE at start.",
            )
        wrapping = _derive(passphrase, _bytes(found, "salt", 16), _cost(found))
        try:
            key = AESGCM(wrapping).decrypt(
                _bytes(found, "nonce", 12), _bytes(found, "sealed", KEY_BYTES + 16), _ABOUT
            )
        except InvalidTag:
            raise WalletLockedError(
                "that is not the wallet's passphrase",
                hint="The wallet stays locked; `freehold wallet unlock` asks again.",
            ) from None
        return key

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._store.get(NAME))
        except (ValueError, RecursionError):
            raise _broken() from None
        if not isinstance(found, dict):
            raise _broken()
        if found.get("format") != FORMAT:
            raise WalletStateError(
                f"the wallet's key file is of format {str(found.get('format'))[:20]}, and this "
                f"version of Freehold reads format {FORMAT}",
                hint="Use the version that wrote it, or put keys/wallet back from a backup.",
            )
        return found

    def _write(self, content: dict[str, Any]) -> None:
        self._parent.mkdir(mode=0o700, exist_ok=True)
        self._store.set(NAME, json.dumps({"format": FORMAT, **content}).encode())


def _derive(passphrase: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    said, (n, r, p) = passphrase.encode(), cost
    try:
        return hashlib.scrypt(said, salt=salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=KEY_BYTES)
    except ValueError:  # of a cost within these bounds and not within OpenSSL's
        raise _broken() from None


def _cost(found: dict[str, Any]) -> tuple[int, int, int]:
    cost = found.get("scrypt")
    n, r, p = (cost.get(name, 0) for name in "nrp") if isinstance(cost, dict) else (0, 0, 0)
    whole = all(type(part) is int and part > 0 for part in (n, r, p))
    if not whole or n < 2 or n & (n - 1) or 128 * n * r > _MOST_MEMORY // 2 or p > 16:
        raise _broken()
    return n, r, p


def _bytes(found: dict[str, Any], name: str, size: int) -> bytes:
    try:
        value = bytes.fromhex(str(found.get(name)))
    except ValueError:
        raise _broken() from None
    if len(value) != size:
        raise _broken()
    return value


def _broken() -> WalletStateError:
    return WalletStateError("the wallet's key file is not what it must be", hint=KEY_LOST)
