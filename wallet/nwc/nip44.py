"""NIP-44 version 2: encrypted payloads between two keys.

ECDH, HKDF, ChaCha20 and HMAC-SHA256 exactly as the NIP lays them out; the primitives are those of
`cryptography`, the construction is here so that each of its steps can be held against the NIP's
vectors. Two rules beyond it: sizes are checked before anything is decoded, and whatever is wrong
with a payload, the error says only that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from wallet.errors import ParseError, UnsupportedError, VerificationError
from wallet.nwc.keys import SecretKey

VERSION = 2
MAX_PLAINTEXT = 65_535  # bytes; the NIP's longer form is read and made where the caller asks for it
_EXTENDED = 65_536  # from here on a length takes six bytes
_SALT = b"nip44-v2"
_MIN_BASE64, _MIN_RAW = 132, 99
_OVERHEAD = 1 + 32 + 32  # version, nonce, mac


class MessageKeys(NamedTuple):
    """What one message is encrypted and authenticated with."""

    chacha_key: bytes
    chacha_nonce: bytes
    hmac_key: bytes


def conversation_key(secret: SecretKey, public: str) -> bytes:
    """The 32 bytes both sides of a conversation share.

    Raises:
        ParseError: `public` is not a public key.
    """
    return hmac.digest(_SALT, secret.shared_x(public), hashlib.sha256)


def message_keys(conversation: bytes, nonce: bytes) -> MessageKeys:
    """The keys of the message with this nonce (32 bytes)."""
    if len(conversation) != 32 or len(nonce) != 32:
        raise ParseError("a conversation key and a nonce are 32 bytes each")
    keys = HKDFExpand(algorithm=SHA256(), length=76, info=nonce).derive(conversation)
    return MessageKeys(keys[:32], keys[32:44], keys[44:])


def padded_length(length: int) -> int:
    """How long a text of `length` bytes is once padded."""
    if length <= 32:
        return 32
    power = 1 << (length - 1).bit_length()
    chunk = 32 if power <= 256 else power // 8
    return chunk * ((length - 1) // chunk + 1)


def _pad(text: bytes) -> bytes:
    length = len(text)
    extended = length >= _EXTENDED
    prefix = b"\0\0" + length.to_bytes(4, "big") if extended else length.to_bytes(2, "big")
    return prefix + text + bytes(padded_length(length) - length)


def _unpad(padded: bytes) -> bytes:
    length, start = int.from_bytes(padded[:2], "big"), 2
    if length == 0:
        length, start = int.from_bytes(padded[2:6], "big"), 6
        if length < _EXTENDED:
            raise ParseError("an encrypted payload has wrong padding")
    if len(padded) != start + padded_length(length):
        raise ParseError("an encrypted payload has wrong padding")
    return padded[start : start + length]


def _chacha(keys: MessageKeys, data: bytes) -> bytes:
    # `cryptography` wants the block counter (little endian, from 0) before the nonce
    cipher = Cipher(algorithms.ChaCha20(keys.chacha_key, bytes(4) + keys.chacha_nonce), mode=None)
    return bytes(cipher.encryptor().update(data))


def encrypt(
    text: str, conversation: bytes, *, nonce: bytes | None = None, limit: int = MAX_PLAINTEXT
) -> str:
    """A payload with `text` in it, of 1 to `limit` bytes of UTF-8.

    `nonce` is for the vectors: given none, 32 fresh random bytes are used, as they must be.

    Raises:
        ParseError: the text is empty, too long, or not encodable.
    """
    try:
        plain = text.encode()
    except UnicodeEncodeError:
        raise ParseError("a text to encrypt is not valid Unicode") from None
    if not 1 <= len(plain) <= limit:
        raise ParseError(f"a text to encrypt has {len(plain)} bytes, not 1 to {limit}")
    nonce = secrets.token_bytes(32) if nonce is None else nonce
    keys = message_keys(conversation, nonce)
    ciphertext = _chacha(keys, _pad(plain))
    mac = hmac.digest(keys.hmac_key, nonce + ciphertext, hashlib.sha256)
    return base64.b64encode(bytes([VERSION]) + nonce + ciphertext + mac).decode("ascii")


def decrypt(payload: str, conversation: bytes, *, limit: int = MAX_PLAINTEXT) -> str:
    """The text of a payload.

    Raises:
        UnsupportedError: another version of the encryption.
        VerificationError: it was not encrypted by the other side of this conversation.
        ParseError: anything else that is wrong with it.
    """
    nonce, ciphertext, mac = _split(payload, limit)
    keys = message_keys(conversation, nonce)
    expected = hmac.digest(keys.hmac_key, nonce + ciphertext, hashlib.sha256)
    if not hmac.compare_digest(expected, mac):
        raise VerificationError("an encrypted payload is not by the other side of the conversation")
    plain = _unpad(_chacha(keys, ciphertext))
    try:
        return plain.decode()
    except UnicodeDecodeError:
        raise ParseError("an encrypted payload holds no UTF-8 text") from None


def _split(payload: str, limit: int) -> tuple[bytes, bytes, bytes]:
    if payload.startswith("#"):
        raise UnsupportedError("an encrypted payload is in another version than 2 of NIP-44")
    longest = 4 * ((_OVERHEAD + 6 + padded_length(limit) + 2) // 3)
    if not _MIN_BASE64 <= len(payload) <= longest:
        raise ParseError("an encrypted payload is too short or too long")
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise ParseError("an encrypted payload is not base64") from None
    if len(data) < _MIN_RAW:
        raise ParseError("an encrypted payload is too short")
    if data[0] != VERSION:
        raise UnsupportedError(f"an encrypted payload is in version {data[0]} of NIP-44, not 2")
    return data[1:33], data[33:-32], data[-32:]
