"""URLs in one normal form, and the patterns of a grant matched against it.

What is matched is what is sent: the request is made from the parts here and never from the guest's
text, so that no two parsers can disagree about a URL. Whatever has a second reading is refused:
user names, numbers that are IPv4 addresses in disguise, escaped separators that would become
`..` at the server, backslashes and control characters.

Sources: RFC 3986 §6 (normal form), WHATWG URL "ends in a number", RFC 6761 and 6762 (names that no
one can register), the IANA special-purpose address registries.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

import idna

from node.errors import CapabilityError

_URL_BYTES = 2048
_SHAPE = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@%]+)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORTS = {"http": 80, "https": 443}
_PATH_SAFE = "/!$&'()*+,;=:@-._~%"
_QUERY_SAFE = _PATH_SAFE + "?"
_LOCAL_NAMES = ("localhost", "local", "home.arpa", "lan", "internal")
_TUNNELS = tuple(
    ipaddress.ip_network(text)
    for text in ("::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10")
)
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 behind NAT64 (RFC 6052)
# what Python's own list, which depends on its version, takes for global: addresses of protocols and
# of examples, and the one by which a cloud talks to its machines from within
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20")
)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class UrlError(Exception):
    """The URL is not one that a guest may ask for; the text says why."""


@dataclass(frozen=True)
class Url:
    """A URL in normal form; `host` is lower-case ASCII without a dot at the end or brackets."""

    scheme: str
    host: str
    port: int
    path: str
    query: str | None = None

    @property
    def target(self) -> str:
        """Path and query, as in a request line."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def authority(self) -> str:
        """Host, and port where it is not the scheme's own, as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return self.origin + self.target


def parse_url(text: str) -> Url:
    """The normal form of an absolute http or https URL. Raises UrlError."""
    if len(text.encode(errors="replace")) > _URL_BYTES:
        raise UrlError(f"a URL has at most {_URL_BYTES} bytes")
    if any(character <= " " or character in "\\\x7f" for character in text):
        raise UrlError("a URL has no spaces, control characters or backslashes")
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise UrlError("a URL starts with http:// or https://")
    scheme = shape[1].lower()
    host, port = _authority(shape[2], _PORTS[scheme])
    query = None if shape[4] is None else _escape(shape[4], _QUERY_SAFE)
    return Url(scheme, host, port, _path(shape[3]), query)


def _authority(text: str, default_port: int) -> tuple[str, int]:
    if "@" in text:
        raise UrlError("a URL names no user")
    shape = _AUTHORITY.fullmatch(text)
    if shape is None:
        raise UrlError("the host of the URL is not a name or an address")
    port = int(shape[2] or default_port)
    if not 0 < port < 65536:
        raise UrlError("the port of the URL is not one")
    return _host(shape[1]), port


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return ipaddress.IPv6Address(text[1:-1]).compressed
        except ValueError:
            raise UrlError("the host of the URL is not an IPv6 address") from None
    name = _ascii_name(text).removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlError("the host of the URL is not a name")
    if _NUMBER.fullmatch(labels[-1]):
        return _dotted_quad(name)
    return name


def _ascii_name(text: str) -> str:
    if text.isascii():
        return text.lower()
    try:
        return idna.encode(text, uts46=True, std3_rules=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        raise UrlError("the host of the URL is not a name") from None


def _dotted_quad(name: str) -> str:
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        raise UrlError("the host of the URL is a number, but not an IPv4 address") from None


def _escape(text: str, safe: str) -> str:
    escaped = quote(text, safe=safe, errors="replace")
    return re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", escaped)


def _unreserved(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    is_plain = character.isascii() and (character.isalnum() or character in "-._~")
    return character if is_plain else match[0].upper()


def _path(text: str) -> str:
    path = re.sub(r"%([0-9A-Fa-f]{2})", _unreserved, _escape(text or "/", _PATH_SAFE))
    kept: list[str] = []
    for part in path.split("/")[1:]:
        if part == "..":
            kept = kept[:-1]
        elif part != ".":
            kept.append(part)
    if path.endswith(("/..", "/.")):
        kept.append("")
    normal = "/" + "/".join(kept)
    # some servers take what follows `;` for a parameter of the name before it
    names = re.split(r"[/\\]", unquote(unquote(normal)))
    if {"..", "."} & {name.partition(";")[0] for name in names}:
        raise UrlError("the path of the URL hides a step up")
    return normal


@dataclass(frozen=True)
class Pattern:
    """One entry of an allow-list. `suffix` is set where the host is any name below it."""

    scheme: str
    host: str
    port: int
    path: str
    is_prefix: bool
    suffix: bool

    def matches(self, url: Url) -> bool:
        """Whether the URL is one of those the pattern allows, whatever its query."""
        if (url.scheme, url.port) != (self.scheme, self.port):
            return False
        if url.path != self.path and not (self.is_prefix and url.path.startswith(self.path)):
            return False
        return url.host.endswith("." + self.host) if self.suffix else url.host == self.host

    @property
    def may_be_private(self) -> bool:
        """Whether it names, literally, a host that can only be on this machine or network.

        That is an address, or a name that nobody outside can register and point inwards.
        """
        if self.suffix:
            return False
        local = any(self.host == name or self.host.endswith("." + name) for name in _LOCAL_NAMES)
        return (
            local or "." not in self.host or _NUMBER.fullmatch(self.host.split(".")[-1]) is not None
        )


def parse_pattern(text: str) -> Pattern:
    """One pattern of a grant: `https://api.example.org/v1/*`, `https://*.example.org/*`.

    Raises:
        CapabilityError: it is not a pattern.
    """
    scheme, _, rest = text.partition("://")
    suffix = rest.startswith("*.")
    plain = f"{scheme}://{rest[2:] if suffix else rest}"
    is_prefix = plain.endswith("*")
    try:
        if "*" in plain[:-1] or "?" in plain or "#" in plain:
            raise UrlError("* stands for the start of a host or the end of a path only")
        url = parse_url(plain.removesuffix("*"))
        if suffix and ("." not in url.host or _is_address(url.host)):
            raise UrlError("* stands for what comes before a name of two parts or more")
        if is_prefix and "/" not in plain.partition("://")[2]:
            raise UrlError("the host must end before *")
    except UrlError as error:
        raise CapabilityError(
            f"{text!r} is not a pattern of URLs: {error}",
            hint="Write it as https://api.example.org/v1/* or https://*.example.org/*.",
        ) from None
    return Pattern(url.scheme, url.host, url.port, url.path, is_prefix, suffix)


def is_listed(text: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns allows the URL; what is no URL, or no pattern, allows nothing."""
    try:
        url = parse_url(text)
        return any(parse_pattern(each).matches(url) for each in patterns)
    except (UrlError, CapabilityError):
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, whichever way it is written."""
    parsed: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if parsed in _TRANSLATED:
            return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
        if any(parsed in tunnel for tunnel in _TUNNELS):
            return False
    if any(parsed in network for network in _NOT_PUBLIC):
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved
