"""The `http` capability: requests to the destinations on the grant's allow-list.

Each hop (`hop`) is checked anew, so that secrets and tokens do not follow a redirect elsewhere, and
they are taken out of what comes back.

An answer of status 402 that names a price (NUT-24) is paid where the grant holds a payer, and the
request made once more with the token, which goes to that URL and nowhere else: not over plain HTTP
to the open internet, not along with a redirect, and not into anything the guest is told.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from urllib.parse import urljoin

import httpcore

from node.errors import FreeholdError
from node.sandbox import abi
from node.sandbox.abi import Err
from node.sandbox.binding import HostFunction
from node.sandbox.capabilities.allowlist import UrlError, parse_url
from node.sandbox.capabilities.charset import decode
from node.sandbox.capabilities.hop import PRICE, Request, Response, allowing, is_local, send
from node.sandbox.hostcall import READS_ONLY, HostCall, RefusedError
from node.sandbox.limits import Limits
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
_PAYMENT_REQUIRED = 402
_SECRET_CHARS = 4
_HIDDEN = "[secret]"


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise RefusedError(f"{key} is text")
    return value


def _parse(text: str) -> Request:
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
    return Request(method, url, _asked_headers(given.get("headers", {})), body)


def _check_method(call: HostCall, request: Request) -> None:
    if call.grant.read_only and request.method not in _READS:
        raise RefusedError(f"{READS_ONLY}: {' and '.join(sorted(_READS))} alone are for it")


def _check_sending(call: HostCall, request: Request, read: tuple[str, ...]) -> None:
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


def _next(request: Request, response: Response) -> Request:
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
    return Request("GET", url, headers, b"")


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


def _follow(call: HostCall, request: Request) -> tuple[Request, Response]:
    timer, read = _Timer(call), tuple(call.origins)
    _check_method(call, request)
    for _ in range(call.limits.http_redirects + 1):
        _check_sending(call, request, read)
        response = send(call, request, timer.remaining_s)
        if request.method != "HEAD" and _is_for_sale(call, response):  # which has nothing to sell
            response = _buy(call, request, response.headers[PRICE], timer)
        if response.status not in _REDIRECTS or "location" not in response.headers:
            return request, response
        request = _next(request, response)
    raise RefusedError(f"more redirects than http_redirects = {call.limits.http_redirects}")


# ── answers that are sold ───────────────────────────────────────────────────────────────────


def _is_for_sale(call: HostCall, response: Response) -> bool:
    has_price = response.status == _PAYMENT_REQUIRED and PRICE in response.headers
    return has_price and call.grant.payer is not None


def _buy(call: HostCall, request: Request, price: str, timer: _Timer) -> Response:
    """The answer to the same request with a token that pays for it."""
    call.check()  # nothing is bought for who does not wait any more
    if request.url.scheme != "https" and not is_local(allowing(call, request.url)):
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
        response = send(call, request, timer.remaining_s, token=ticket.token)
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


def _told(request: Request, response: Response, scrub: Callable[[str], str]) -> Json:
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
