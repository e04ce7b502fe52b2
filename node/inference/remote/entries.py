"""Models that other machines run: `models/remote.toml`, a name and an address each.

A file of its own beside `models.lock`, because an address pins nothing: what a server runs is its
own affair, so a remote model is never mistaken for a pinned one. Plain HTTP is for this machine
only, unless the entry says otherwise; a key is named here and kept in the keystore.
"""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import httpx

from node.disk import write_private
from node.errors import ModelError
from node.inference.models.files import changing, identity
from node.inference.models.pins import is_name

REMOTE_FILE: Final = "remote.toml"
MAX_CONTEXT_TOKENS: Final = 16_777_216
_HEADER = "# Models on other machines, by name. `freehold model connect` adds one.\n"


@dataclass(frozen=True)
class RemoteModel:
    """One model behind an OpenAI-compatible server.

    Attributes:
        url: the API's base, as `https://host/v1`, without a slash at its end.
        model: its name there; "" where the server has one model only.
        key: name of the secret with the server's API key; "" for a server that wants none.
        context_tokens: the context's length; 0 asks the server.
        plain_http: lets `http://` leave this machine.
        ca_file: certificates to trust (PEM) in place of the system's.

    Raises:
        ModelError: the address cannot be used, or would send prompts unencrypted.
    """

    name: str
    url: str
    model: str = ""
    key: str = ""
    context_tokens: int = 0
    plain_http: bool = False
    ca_file: str = ""

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ModelError(
                f"{self.name!r} cannot be the name of a model",
                hint="1 to 64 of a-z 0-9 . _ -, a letter or digit first.",
            )
        if not 0 <= self.context_tokens <= MAX_CONTEXT_TOKENS:
            raise ModelError(
                f"the remote model {self.name!r} has a context of {self.context_tokens} tokens",
                hint=f"0 asks the server; else 1 to {MAX_CONTEXT_TOKENS}.",
            )
        object.__setattr__(self, "url", _base(self.name, self.url, self.plain_http))

    @property
    def root(self) -> str:
        """The server's own root, where what is not OpenAI's is found."""
        return self.url.removesuffix("/v1")

    @property
    def scope(self) -> str:
        """What the server's key is kept for: this address and what lies below it."""
        return f"{self.url}/*"

    @property
    def host(self) -> str:
        """Host and port, as in the address."""
        return httpx.URL(self.url).netloc.decode("ascii", "replace")


class RemoteModels:
    """The entries of one `remote.toml`, read again whenever the file was replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, ...] = ()
        self._known: dict[str, RemoteModel] = {}

    def get(self, name: str) -> RemoteModel | None:
        """The entry of that name. Raises ModelError if the file cannot be used."""
        return self._read().get(name)

    def list(self) -> list[RemoteModel]:
        """All entries, by name. Raises ModelError if the file cannot be used."""
        return [entry for _, entry in sorted(self._read().items())]

    def add(self, entry: RemoteModel) -> None:
        """Keeps an entry, in place of any of that name. Raises ModelError as `get`."""
        with changing(self._path):
            self._write({**self._read(), entry.name: entry})

    def remove(self, name: str) -> None:
        """Forgets an entry. Raises ModelError if there is none."""
        with changing(self._path):
            entries = dict(self._read())
            if entries.pop(name, None) is None:
                raise ModelError(
                    f"there is no remote model {name!r}", hint="`freehold model list` shows them."
                )
            self._write(entries)

    @property
    def _path(self) -> Path:
        return self._folder / REMOTE_FILE

    def _read(self) -> dict[str, RemoteModel]:
        try:
            now = identity(self._path.stat())
            if now != self._seen:
                self._known = _parse(self._path, self._path.read_bytes())
                self._seen = now
        except FileNotFoundError:
            self._seen, self._known = (), {}
        except OSError as error:
            raise ModelError(
                f"{self._path} cannot be read: {error.strerror}", hint="Check its rights."
            ) from error
        return self._known

    def _write(self, entries: dict[str, RemoteModel]) -> None:
        import tomlkit  # slow to import, and only needed to write

        document = {
            name: {key: value for key, value in asdict(entry).items() if value and key != "name"}
            for name, entry in sorted(entries.items())
        }
        write_private(self._path, (_HEADER + tomlkit.dumps(document)).encode())


def _parse(path: Path, raw: bytes) -> dict[str, RemoteModel]:
    try:
        tables = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # TOML's own, UTF-8's, and int()'s
        raise ModelError(f"{path} is not TOML: {error}", hint="Correct that line.") from error
    return {name: _entry(path, name, table) for name, table in tables.items()}


def _entry(path: Path, name: str, table: Any) -> RemoteModel:
    kinds = {each.name: type(each.default) for each in fields(RemoteModel) if each.name != "name"}
    kinds["url"] = str
    if not isinstance(table, dict) or "url" not in table:
        raise ModelError(f"{path}: {name} has no url", hint='[NAME] and url = "https://host/v1".')
    known = ", ".join(f"{key} ({kind.__name__})" for key, kind in kinds.items())
    for key, value in table.items():
        if key not in kinds or type(value) is not kinds[key]:
            raise ModelError(
                f"{path}: {name}.{key} is not a known key, or not of its kind",
                hint=f"Known: {known}.",
            )
    return RemoteModel(name=name, **table)


def _base(name: str, address: str, plain_http: bool) -> str:
    """The API's base of an address a person wrote, `/v1` added where it has no path."""

    def wrong(what: str, hint: str = "As in https://gpu.example:8000/v1.") -> ModelError:
        return ModelError(f"the address of the remote model {name!r} {what}", hint=hint)

    try:
        url = httpx.URL(address.strip())
        host = url.host
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise wrong(f"is not one: {error}") from error
    if url.scheme not in ("http", "https") or not host:
        raise wrong("is not an http or https address")
    if url.userinfo or url.query or url.fragment:
        raise wrong("has more than scheme, host, port and path", "A key goes to the keystore.")
    if url.scheme == "http" and not plain_http and not is_loopback(host):
        raise wrong(
            f"would send prompts to {host} unencrypted",
            "Use https, or a tunnel; plain_http = true says that this network may read them.",
        )
    path = url.path.rstrip("/") or "/v1"
    return str(url.copy_with(path=path))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name: an address, or `localhost`."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
