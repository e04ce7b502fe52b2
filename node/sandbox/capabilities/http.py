"""The `http` capability: requests to the destinations on the grant's allow-list.

Each hop is checked anew: its URL must match the list, its name is resolved once, every address it
has must be allowed, and the connection goes to one of those. Headers that carry a secret are added
here for the URLs they belong to, so they do not follow a redirect elsewhere, and are taken out of
what comes back. One connection a hop; nothing is shared between calls.

An answer of status 402 that names a price (NUT-24) is paid where the grant holds a payer, and the
request made once more with the token, which goes to that URL and nowhere else: not over plain HTTP
to the open internet, not along with a redirect, and not into anything the guest is told.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from urllib.parse import urljoin

import httpcore

from node.errors import FreeholdError
from node.sandbox import abi
from node.sandbox.abi import Err
from node.sandbox.binding import HostFunction
from node.sandbox.capabilities.allowlist import (
    Pattern,
    Url,
    UrlError,
    is_public,
    parse_pattern,
    parse_url,
)
from node.sandbox.capabilities.charset import decode
from node.sandbox.hostcall import READS_ONLY, HostCall, RefusedError
from node.sandbox.limits import Limits
from node.sandbox.network import Pinned
from node.sandbox.spelling import spellings
from node.sandbox.types import Ticket
from node.types import Json

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_READS = frozenset({"GET", "HEAD"})
_ASKED = frozenset({"accept", "accept-language", "content-type", "if-modified-since"})
_ASKED |= {"if-none-match", "range"}
_TOLD = frozenset({"cache-control", "content-disposition", "content-language", "content-length"})
_TOLD |= {"content-range", "content-type", "date", "etag", "expires", "last-modified", "link"}
_TOLD |= {"location", "retry-after", "x-cashu"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPS_METHOD = frozenset({307, 308})
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]{0,4096}")
_PRICE = "x-cashu"
_PAYMENT_REQUIRED = 402
_SECRET_CHARS = 4
_HIDDEN = "[secret]"


@dataclass(frozen=True)
class _Request:
    method: str
    url: Url
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class _Response:
    status: int
    headers: Mapping[str, str]
    body: bytes


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise RefusedError(f"{key} is text")
    return value


def _parse(text: str) -> _Request:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusedError("a request is JSON") from None
    if not isinstance(given, dict) or not given.keys() <= {"method", "url", "headers", "body"}:
        raise RefusedError("a request is an object of method, url, headers and body")
    method = _text(given.get("method", "GET"), "method").upper()
    if method not in _METHODS:
        raise RefusedError(f"method is one of {', '.join(sorted(_METHODS))}")
    url = parse_url(_text(given.get("url"), "url"))
    body = _text(given.get("body", ""), "body").encode(errors="replace")
    return _Request(method, url, _asked_headers(given.get("headers", {})), body)


def _check_method(call: HostCall, request: _Request) -> None:
    if call.grant.read_only and request.method not in _READS:
        raise RefusedError(f"{READS_ONLY}: {' and '.join(sorted(_READS))} alone are for it")


def _check_sending(call: HostCall, request: _Request, read: tuple[str, ...]) -> None:
    """Refuses to send there what was made from what the call had `read`."""
    may_send = call.grant.may_send
    if may_send is not None and (why := may_send(str(request.url), read)):
        raise RefusedError(why)


def _asked_headers(given: object) -> dict[str, str]:
    if not isinstance(given, dict):
        raise RefusedError("headers is an object")
    headers = {name.lower(): _text(value, "a header") for name, value in given.items()}
    for name, value in headers.items():
        if name not in _ASKED:
            raise RefusedError(
                f"header {name[:40]!r} may not be set; {', '.join(sorted(_ASKED))} may"
            )
        if not _HEADER_VALUE.fullmatch(value):
            raise RefusedError(f"header {name} has characters that a header cannot have")
    return headers


def _allowing(call: HostCall, url: Url) -> list[Pattern]:
    """The patterns of the grant that allow a URL."""
    return [each for each in map(parse_pattern, call.grant.http) if each.matches(url)]


def _is_local(allowing: Iterable[Pattern]) -> bool:
    """Whether one of the patterns names, literally, a host of this machine or network."""
    return any(each.may_be_private for each in allowing)


def _addresses(call: HostCall, url: Url, remaining_s: float) -> list[str]:
    """Where to connect for a URL; every address that its name has must be allowed."""
    allowed = _allowing(call, url)
    if not allowed:
        raise RefusedError(f"{url.origin}{url.path} is not on the allow-list of the grant")
    try:
        found = call.network.resolve(url.host, url.port, remaining_s)
    except OSError:
        raise RefusedError(f"{url.host} cannot be resolved") from None
    if not found or not (_is_local(allowed) or all(is_public(each) for each in found)):
        raise RefusedError(f"{url.host} is not on the open internet, and the grant does not say so")
    return found


def _secret_headers(call: HostCall, url: Url) -> dict[str, str]:
    headers: dict[str, str] = {}
    for pattern, added in call.grant.secrets.items():
        if parse_pattern(pattern).matches(url):
            headers |= {name.lower(): value for name, value in added.items()}
    return headers


def _send(
    call: HostCall, request: _Request, remaining_s: Callable[[], float], *, token: str = ""
) -> _Response:
    call.check()
    call.count_request()
    url = request.url
    addresses = _addresses(call, url, remaining_s())
    headers = {"host": url.authority, "user-agent": "freehold", "accept-encoding": "identity"}
    headers |= request.headers
    headers |= _secret_headers(call, url)
    if token:
        headers[_PRICE] = token
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


def _receive(limits: Limits, answer: httpcore.Response) -> _Response:
    headers = {_letters(name).lower(): _letters(value) for name, value in answer.headers}
    if headers.get("content-encoding", "identity") != "identity":
        raise RefusedError("the server compressed its answer, which it was not asked to")
    body = bytearray()
    for piece in answer.iter_stream():
        body += piece
        if len(body) > limits.http_response_bytes:
            limit = f"http_response_bytes = {limits.http_response_bytes}"
            raise RefusedError(f"the answer is larger than {limit}")
    return _Response(answer.status, headers, bytes(body))


def _letters(header: bytes) -> str:
    """A part of a header, which should be ASCII: as browsers read the address of a redirect."""
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


def _next(request: _Request, response: _Response) -> _Request:
    """The request that a redirect asks for."""
    try:
        url = parse_url(urljoin(str(request.url), response.headers["location"]))
    except ValueError:
        raise RefusedError("the server redirects to what is no URL") from None
    if request.url.scheme == "https" and url.scheme == "http":
        raise RefusedError("the server redirects from https to http")
    if response.status in _KEEPS_METHOD or request.method in {"GET", "HEAD"}:
        return replace(request, url=url)
    headers = {name: value for name, value in request.headers.items() if name != "content-type"}
    return _Request("GET", url, headers, b"")


class _Timer:
    """The seconds that are left of one fetch, without those that paying took."""

    def __init__(self, call: HostCall) -> None:
        self._call, self._now = call, call.clock.monotonic
        self._deadline_s = min(call.deadline_s, self._now() + call.limits.http_seconds)

    def remaining_s(self) -> float:
        return max(0.0, self._deadline_s - self._now())

    def stop(self) -> Callable[[], None]:
        """Stops the call's time, until what it answers is called."""
        stopped_s = self._now()

        def go_on() -> None:
            passed_s = self._now() - stopped_s
            self._deadline_s += passed_s
            self._call.deadline_s += passed_s

        return go_on


def _follow(call: HostCall, request: _Request) -> tuple[_Request, _Response]:
    timer, read = _Timer(call), tuple(call.origins)
    _check_method(call, request)
    for _ in range(call.limits.http_redirects + 1):
        _check_sending(call, request, read)
        response = _send(call, request, timer.remaining_s)
        if request.method != "HEAD" and _is_for_sale(call, response):  # which has nothing to sell
            response = _buy(call, request, response.headers[_PRICE], timer)
        if response.status not in _REDIRECTS or "location" not in response.headers:
            return request, response
        request = _next(request, response)
    raise RefusedError(f"more redirects than http_redirects = {call.limits.http_redirects}")


# ── answers that are sold ───────────────────────────────────────────────────────────────────


def _is_for_sale(call: HostCall, response: _Response) -> bool:
    has_price = response.status == _PAYMENT_REQUIRED and _PRICE in response.headers
    return has_price and call.grant.payer is not None


def _buy(call: HostCall, request: _Request, price: str, timer: _Timer) -> _Response:
    """The answer to the same request with a token that pays for it."""
    call.check()  # nothing is bought for who does not wait any more
    if request.url.scheme != "https" and not _is_local(_allowing(call, request.url)):
        raise RefusedError(f"{request.url.origin} wants to be paid over plain HTTP")
    if call.payments >= call.limits.payments:
        raise RefusedError(f"more payments than payments = {call.limits.payments}")
    call.payments += 1  # one that fails takes time, too, which is not the call's
    go_on = timer.stop()
    try:
        ticket = _ticket(call, str(request.url), price)
    finally:
        go_on()
    call.tokens.append(ticket.token)
    status = 0
    try:
        response = _send(call, request, timer.remaining_s, token=ticket.token)
        status = response.status
    finally:
        ticket.answered(status)
    return response


def _ticket(call: HostCall, url: str, price: str) -> Ticket:
    """Has it paid, on the grant's event loop. What takes too long there is seen to its end."""
    payer, loop = call.grant.payer, call.loop
    if payer is None or loop is None:
        raise RefusedError("nothing can be paid outside of an event loop")
    paying = asyncio.run_coroutine_threadsafe(payer.pay(url, price), loop)
    try:
        return paying.result(call.limits.payment_seconds)
    except (TimeoutError, CancelledError):
        raise RefusedError(f"{url} wants to be paid, and paying took too long") from None
    except FreeholdError as error:
        raise RefusedError(f"{url} wants to be paid, and was not: {error.message}") from None


def _scrubber(call: HostCall) -> Callable[[str], str]:
    """Takes the grant's secrets, and what was paid with, out of a text, in all their spellings."""
    secrets = set(call.tokens)
    for headers in call.grant.secrets.values():
        for value in headers.values():
            secrets |= {value, value.rpartition(" ")[2]}
    forms = {form for each in secrets for form in spellings(each)}
    found = sorted((form for form in forms if len(form) >= _SECRET_CHARS), key=len, reverse=True)
    if not found:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, found)))
    return lambda text: pattern.sub(_HIDDEN, text)


def _told(request: _Request, response: _Response, scrub: Callable[[str], str]) -> Json:
    headers: dict[str, Json] = {
        name: scrub(value) for name, value in sorted(response.headers.items()) if name in _TOLD
    }
    text = decode(response.body, response.headers.get("content-type", ""))
    return {
        "status": response.status,
        "headers": headers,
        "body": scrub(text),
        "url": scrub(str(request.url)),
    }


def _fetch(call: HostCall, text: str) -> str | Err:
    call.require("http", call.grant.http)
    try:
        request, response = _follow(call, _parse(text))
    except (RefusedError, UrlError) as error:
        return Err(_scrubber(call)(str(error)))
    except (httpcore.TimeoutException, TimeoutError):
        return Err(f"the server took longer than http_seconds = {call.limits.http_seconds:g}")
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        said = f"the request failed: {type(error).__name__}: {error}"
        return Err(_scrubber(call)(said)[:300])
    return json.dumps(_told(request, response, _scrubber(call)), ensure_ascii=False)


def http_functions(limits: Limits) -> tuple[HostFunction, ...]:
    """The functions of `freehold:tool/http`."""
    answer = abi.put_result(abi.put_text, abi.put_text)
    return (
        HostFunction("fetch", _fetch, (abi.text,), answer, limits.http_request_bytes, soft=True),
    )
