"""Where a model comes from, as a person writes it: `hf:OWNER/REPO/FILE`, or an address.

A hub's files are found at `ENDPOINT/OWNER/REPO/resolve/REVISION/FILE`. The endpoint and the token
for gated models are taken from `HF_ENDPOINT` and `HF_TOKEN`, as the hub's own tools take them; the
token goes to that endpoint and nowhere else, above all not to where it redirects.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

import httpx

from node.errors import DownloadError

HUB: Final = "https://huggingface.co"
_HUB_FILE = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@]+?)(?:@(?P<revision>[\w./-]+))?", re.ASCII
)
_TOKEN = re.compile(r"[\x21-\x7e]*")


@dataclass(frozen=True)
class Source:
    """An address to fetch a model from. `shown` is it without what may be secret."""

    url: httpx.URL
    shown: str
    token: str = field(default="", repr=False)

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.url.path.rstrip("/").rpartition("/")[2] or "model.gguf"

    def headers(self, url: httpx.URL) -> dict[str, str]:
        """What a request to `url` carries: the token, if that is where the token belongs."""
        if not self.token or origin(url) != origin(self.url):
            return {}
        return {"Authorization": f"Bearer {self.token}"}


def is_remote(text: str) -> bool:
    """Whether this names something to fetch, rather than a file that is here."""
    return text.startswith("hf:") or "://" in text


def parse_source(text: str, env: Mapping[str, str]) -> Source:
    """The address that `text` names.

    Raises:
        DownloadError: it is not one, or not one that can be trusted.
    """
    if text.startswith("hf:"):
        return _hub(text, env)
    return Source(_url(text), _shown(text))


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: what must be the same for a secret to go there too."""
    return url.scheme, url.host, url.port


def is_loopback(url: httpx.URL) -> bool:
    """Whether the address is this machine, where nobody is on the way."""
    return url.host in ("localhost", "127.0.0.1", "::1")


def is_here(url: httpx.URL) -> bool:
    """Whether the host is this machine by its name or address, however that is written."""
    host = url.host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001
        except (OSError, UnicodeError):
            return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or int(address) >> 24 == 0


def _hub(text: str, env: Mapping[str, str]) -> Source:
    found = _HUB_FILE.fullmatch(text)
    if found is None or ".." in text:
        raise DownloadError(
            f"{text!r} does not name a file of a hub",
            hint="Write hf:OWNER/REPO/FILE.gguf, and @REVISION after it for another than main.",
        )
    base = (env.get("HF_ENDPOINT") or HUB).rstrip("/")
    file, revision = quote(found["file"]), quote(found["revision"] or "main", safe="")
    address = f"{base}/{found['repo']}/resolve/{revision}/{file}"
    url, token = _url(address), _token(env)
    if token and url.scheme == "http" and not is_loopback(url):
        raise DownloadError(
            f"{base} is plain HTTP: anyone on the way could read HF_TOKEN",
            hint="Name the hub by https, or unset HF_TOKEN for it.",
        )
    return Source(url, text, token)


def _token(env: Mapping[str, str]) -> str:
    token = env.get("HF_TOKEN", "").strip()
    if not _TOKEN.fullmatch(token):
        raise DownloadError(
            "HF_TOKEN is not a token", hint="It is one word of letters, digits and marks."
        )
    return token


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise DownloadError(
            f"{text!r} is not an address: {error}", hint="Write https://HOST/PATH."
        ) from error
    if url.scheme not in ("https", "http") or not url.host:
        raise DownloadError(
            f"{_shown(text)!r} cannot be fetched from",
            hint="Models are fetched by https (or http with --sha256), or read from a file.",
        )
    return url


def _shown(text: str) -> str:
    """The address without user, password, query and fragment."""
    try:
        url = httpx.URL(text)
        return str(url.copy_with(userinfo=b"", query=None, fragment=None))
    except (httpx.InvalidURL, ValueError, TypeError):
        return text.partition("?")[0]
