"""One request to one server, where the grant allows it.

Its URL must match the allow-list, its name is resolved once, every address it has must be allowed,
and the connection goes to one of those. Headers that carry a secret are added here for the URLs
they belong to. One connection a request; nothing is shared between calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import httpcore

from node.sandbox.capabilities.allowlist import Pattern, Url, is_public, parse_pattern
from node.sandbox.hostcall import HostCall, RefusedError
from node.sandbox.limits import Limits
from node.sandbox.network import Pinned

PRICE = "x-cashu"


@dataclass(frozen=True)
class Request:
    """What is asked; headers in lower case, without those that are added on the way."""

    method: str
    url: Url
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """What came back; headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def allowing(call: HostCall, url: Url) -> list[Pattern]:
    """The patterns of the grant that allow a URL."""
    return [each for each in map(parse_pattern, call.grant.http) if each.matches(url)]


def is_local(patterns: Iterable[Pattern]) -> bool:
    """Whether one of them names, literally, a host of this machine or network."""
    return any(each.may_be_private for each in patterns)


def _addresses(call: HostCall, url: Url, remaining_s: float) -> list[str]:
    """Where to connect for a URL; every address that its name has must be allowed."""
    allowed = allowing(call, url)
    if not allowed:
        raise RefusedError(f"{url.origin}{url.path} is not on the allow-list of the grant")
    try:
        found = call.network.resolve(url.host, url.port, remaining_s)
    except OSError:
        raise RefusedError(f"{url.host} cannot be resolved") from None
    if not found or not (is_local(allowed) or all(is_public(each) for each in found)):
        raise RefusedError(f"{url.host} is not on the open internet, and the grant does not say so")
    return found


def _secret_headers(call: HostCall, url: Url) -> dict[str, str]:
    headers: dict[str, str] = {}
    for pattern, added in call.grant.secrets.items():
        if parse_pattern(pattern).matches(url):
            headers |= {name.lower(): value for name, value in added.items()}
    return headers


def send(
    call: HostCall, request: Request, remaining_s: Callable[[], float], *, token: str = ""
) -> Response:
    """The answer to a request, with a `token` that pays for it.

    Raises:
        RefusedError: the grant does not allow it, or the answer cannot be taken.
        OSError, or an error of httpcore's: there is no answer.
        ToolLimitError: the call's time, requests or bytes are over.
    """
    call.check()
    call.count_request()
    url = request.url
    addresses = _addresses(call, url, remaining_s())
    headers = {"host": url.authority, "user-agent": "freehold", "accept-encoding": "identity"}
    headers |= request.headers
    headers |= _secret_headers(call, url)
    if token:
        headers[PRICE] = token
    if request.body or request.method in {"POST", "PUT", "PATCH"}:
        headers["content-length"] = str(len(request.body))
    backend = Pinned(call.network, addresses, remaining_s, call.count_bytes)
    tls = call.network.tls() if url.scheme == "https" else None
    with httpcore.ConnectionPool(ssl_context=tls, network_backend=backend) as pool:
        target = httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
        sent = list(headers.items())
        call.origins[url.origin] = None  # what is wrong with an answer can be told in its words
        with pool.stream(request.method, target, headers=sent, content=request.body) as answer:
            return _receive(call.limits, answer)


def _receive(limits: Limits, answer: httpcore.Response) -> Response:
    headers = {_letters(name).lower(): _letters(value) for name, value in answer.headers}
    if headers.get("content-encoding", "identity") != "identity":
        raise RefusedError("the server compressed its answer, which it was not asked to")
    body = bytearray()
    for piece in answer.iter_stream():
        body += piece
        if len(body) > limits.http_response_bytes:
            limit = f"http_response_bytes = {limits.http_response_bytes}"
            raise RefusedError(f"the answer is larger than {limit}")
    return Response(answer.status, headers, bytes(body))


def _letters(header: bytes) -> str:
    """A part of a header, which should be ASCII: as browsers read the address of a redirect."""
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")
