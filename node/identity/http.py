"""Secrets that the sandbox's host puts into requests: which header, to where, for whose tools.

A tool never sees one, and an agent gets only those that name it: the grant says where a tool may
go, the secret says who may use it there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from node.errors import IdentityError
from node.identity.keystore import KeyStore

_HEADER = re.compile(r"\A[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")
_VALUE = re.compile(r"\A[\x21-\x7e](?:[\x20-\x7e]{0,8190}[\x21-\x7e])?\Z")  # RFC 9110, 5.5
_Stamp = tuple[str, int, int, int]


@dataclass(frozen=True)
class HttpSecret:
    """A header added to requests that fit `url` (a pattern as in a grant), for `agents` only."""

    url: str
    header: str
    value: str
    agents: tuple[str, ...]

    def __repr__(self) -> str:
        return f"HttpSecret(url={self.url!r}, header={self.header!r}, agents={self.agents!r})"

    def encode(self) -> bytes:
        """As the keystore holds it.

        Raises:
            IdentityError: the header's name or value could not be sent.
        """
        if not _HEADER.match(self.header):
            raise IdentityError(
                f"{self.header!r} is not a header's name", hint="It is Authorization, most often."
            )
        if not _VALUE.match(self.value):
            raise IdentityError(
                "a header's value is one line of 1 to 8192 printable ASCII characters, "
                "without a space at either end",
                hint="Give it on standard input; most services want `Bearer KEY`.",
            )
        return json.dumps(asdict(self)).encode()


def decode(name: str, content: bytes) -> HttpSecret:
    """A secret from the keystore. Raises IdentityError if it is not one."""
    try:
        found = json.loads(content)
        url, header, value = (str(found[key]) for key in ("url", "header", "value"))
        made = HttpSecret(url, header, value, tuple(map(str, found["agents"])))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IdentityError(
            f"secret {name} is not what it must be",
            hint=f"Set it again: `freehold secret set {name}`, or of a model's key `freehold model "
            f"connect`. Or `freehold secret remove {name}`.",
        ) from error
    if more := set(found) - set(asdict(made)):  # it may say who else does not get it, or where
        raise IdentityError(
            f"secret {name} says what this version of Freehold does not know: {sorted(more)[0]}",
            hint="Use the version that wrote it, or set the secret again with this one.",
        )
    return made


class HttpSecrets:
    """The secrets in a keystore, read again when a file came, went, was replaced or changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = KeyStore(folder)
        self._seen: frozenset[_Stamp] = frozenset()
        self._known: dict[str, HttpSecret] = {}
        self._values: tuple[str, ...] = ()

    def headers(self, agent: str) -> Mapping[str, Mapping[str, str]]:
        """What an agent's tools get: headers by URL pattern.

        Raises:
            IdentityError: a secret is broken, or others can read it.
        """
        found: dict[str, dict[str, str]] = {}
        for secret in self._read().values():
            if agent in secret.agents:
                found.setdefault(secret.url, {})[secret.header] = secret.value
        return found

    def header(self, name: str, url: str) -> Mapping[str, str]:
        """The header of one secret, for the very `url` it was kept for: whoever edits an address
        elsewhere does not get the secret sent there.

        Raises:
            IdentityError: there is none of that name, it is for another URL, or as `headers`.
        """
        secret = self._read().get(name)
        if secret is None:
            raise IdentityError(
                f"there is no secret named {name}",
                hint="`freehold model connect NAME URL --key` keeps a model's key.",
            )
        if secret.url != url:
            raise IdentityError(
                f"secret {name} was kept for {secret.url}, not for {url}",
                hint="`freehold model connect NAME URL --key` keeps it for the new address.",
            )
        return {secret.header: secret.value}

    def values(self) -> tuple[str, ...]:
        """All values, and each without its scheme (`Bearer`): what must not get into any text."""
        with contextlib.suppress(IdentityError):  # what cannot be read cannot be used either
            self._read()
        return self._values

    def all(self) -> Mapping[str, HttpSecret]:
        """Every secret by name. Raises IdentityError as `headers`."""
        return dict(self._read())

    def _read(self) -> dict[str, HttpSecret]:
        try:
            with os.scandir(self._folder) as entries:
                files = frozenset(stamp for entry in entries if (stamp := _stamp(entry)))
        except FileNotFoundError:
            return {}
        if files != self._seen:
            store = self._store
            self._known = {name: decode(name, store.get(name)) for name in store.names()}
            whole = [secret.value.strip() for secret in self._known.values()]
            self._values = (*whole, *(v.rpartition(" ")[2] for v in whole if " " in v))
            self._seen = files
        return self._known


def _stamp(entry: os.DirEntry[str]) -> _Stamp | None:
    """What tells a file from one that took its name, and may have been given its inode too."""
    try:
        facts = entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # gone since the folder was listed
        return None
    return entry.name, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns
