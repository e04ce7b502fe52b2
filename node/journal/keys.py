"""Epoch keys: the secret that signs now, and no other.

Each epoch's secret is one file, `<key id>.key`, of 32 bytes. A seal names the next epoch's key;
once the seal is durable the old secret is overwritten and deleted, so a thief of the folder gets
the running epoch's key only. (On media that do not overwrite in place, that is as good as the
medium's own erasure; use an encrypted disk.)
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Protocol

from node.disk import listed, sync, sync_folder
from node.errors import JournalError
from node.journal.note import Signer, VerifierKey
from node.journal.storage import make_folder, write_durably

RELINK = "begin a new log that links this one: `freehold audit relink --origin NEW-NAME`"


class EpochKeys(Protocol):
    """Where signing secrets are kept."""

    def make(self, origin: str) -> Signer:
        """A new key, kept durably before this returns."""
        ...

    def load(self, key: VerifierKey) -> Signer:
        """The signer of a key. Raises JournalError where its secret is not here."""
        ...

    def keep_only(self, key: VerifierKey) -> None:
        """Destroys the secrets of all other keys."""
        ...


class FolderKeys:
    """Secrets as files of mode 0600 in a folder of mode 0700."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, origin: str) -> Signer:
        make_folder(self._folder)
        signer = Signer(origin, seed := secrets.token_bytes(32))
        write_durably(self._path(signer.key), seed)
        return signer

    def load(self, key: VerifierKey) -> Signer:
        try:
            seed = self._path(key).read_bytes()
        except OSError as error:
            raise _missing(key) from error
        if len(seed) != 32 or (signer := Signer(key.name, seed)).key != key:
            raise _missing(key)
        return signer

    def keep_only(self, key: VerifierKey) -> None:
        for path in listed(self._folder, "*.key*"):  # one that was being written, too
            if path != self._path(key):
                _destroy(path)

    def _path(self, key: VerifierKey) -> Path:
        return self._folder / f"{key.id.hex()}.key"


class MemoryKeys:
    """Secrets in memory, for tests and for logs that live as long as their process."""

    def __init__(self) -> None:
        self.signers: dict[VerifierKey, Signer] = {}

    def make(self, origin: str) -> Signer:
        signer = Signer(origin, secrets.token_bytes(32))
        self.signers[signer.key] = signer
        return signer

    def load(self, key: VerifierKey) -> Signer:
        if key not in self.signers:
            raise _missing(key)
        return self.signers[key]

    def keep_only(self, key: VerifierKey) -> None:
        self.signers = {k: s for k, s in self.signers.items() if k == key}


def _destroy(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(32))
        file.flush()
        sync(file.fileno())
    path.unlink()
    sync_folder(path.parent)


def _missing(key: VerifierKey) -> JournalError:
    return JournalError(
        f"the secret of the log's current key {key.name}+{key.id.hex()} is not here",
        hint=f"Restore the journal's keys folder from a backup, or {RELINK}.",
    )
