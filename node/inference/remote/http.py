"""HTTP to a model's server, within bounds, and never one request twice.

A request for tokens may cost money, so it is sent again only where the server cannot have begun it:
the connection was refused, or the answer is 429 or 503. Each request has a connection of its own:
a kept one that the server has just closed would leave it unknown whether the request arrived, and
leaving a reply early closes the connection, which is how servers notice a cancel. Redirects,
proxies of the environment, cookies and compressed replies are not followed, used, kept or unpacked.

Spec: RFC 9110 (Retry-After).
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import certifi
import httpx

from node.clock import Clock
from node.errors import (
    EngineBusyError,
    IdentityError,
    InferenceError,
    ModelError,
    RemoteError,
    RemoteRefusedError,
)
from node.inference.grammar.gbnf import dumps
from node.inference.remote.entries import RemoteModel
from node.inference.remote.errors import server_error
from node.inference.remote.limits import NOT_AGAIN, Deadline, RemoteLimits
from node.inference.remote.reading import ReplyReader, broken
from node.types import Json, JsonObject

Headers = Callable[[RemoteModel], Mapping[str, str]]
Sleep = Callable[[float], Awaitable[None]]

_BUSY: Final = (429, 503)
_NOT_THERE: Final = (404, 405, 501)
_LEAST_SECRET = 8
_ANSWER_BYTES: Final = 16  # for each byte asked about: a token may be one, and its number is long


class Server:
    """One model's server. `headers` gives what authenticates, asked anew for each request.

    Attributes:
        who: names it in errors.
        reader: reads its replies.
    """

    def __init__(
        self,
        remote: RemoteModel,
        *,
        headers: Headers,
        limits: RemoteLimits,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.who = f"the server of model {remote.name} ({remote.host})"
        self.reader = ReplyReader(self.who, limits)
        self._remote = remote
        self._headers = headers
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._sent_headers: tuple[str, ...] = ()
        self._client = httpx.AsyncClient(
            verify=_trust(remote),
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            timeout=httpx.Timeout(
                limits.ask_s, connect=limits.connect_s, read=None, pool=limits.connect_s
            ),
        )

    async def ask(self, url: str, body: JsonObject | None = None, *, loads: bool = False) -> Json:
        """The JSON at `url` (a POST where there is a body); None where nothing is there.

        Args:
            loads: the server may load the model first, so it has as long as for a first token.

        Raises:
            RemoteError, EngineBusyError: no answer in `ask_s`, or one that is none.
        """
        most_s = self._limits.first_token_s if loads else self._limits.ask_s
        deadline = Deadline(replace(self._limits, whole_s=most_s))
        opened = self._opened(url, body, deadline)
        try:
            async with asyncio.timeout(most_s), opened as response:
                if response.status_code in _NOT_THERE:
                    return None
                await self._check(response)
                sent = len(response.request.content)
                most = self._limits.line_bytes + _ANSWER_BYTES * sent
                return self.reader.parse(await self.reader.short(response, most))
        except TimeoutError:
            raise RemoteError(
                f"{self.who} did not answer within {most_s:g} s",
                hint="Is it running, and is the address right?",
            ) from None

    @contextlib.asynccontextmanager
    async def generation(
        self, body: JsonObject, deadline: Deadline
    ) -> AsyncIterator[httpx.Response]:
        """The reply to a request for tokens, its body not read yet; closed at the block's end.

        Raises:
            RemoteError, EngineBusyError, ContextOverflowError: there is none.
        """
        url = f"{self._remote.url}/chat/completions"
        stack = contextlib.AsyncExitStack()
        async with stack:
            async with deadline.hold(self.who):
                response = await stack.enter_async_context(self._opened(url, body, deadline))
                await self._check(response)
            yield response

    def conceal(self, text: str) -> str:
        """The text without the server's key, should the server have repeated it."""
        for value in self._sent_headers:
            for secret in (value, value.rpartition(" ")[2]):
                if len(secret) >= _LEAST_SECRET:
                    text = text.replace(secret, "[key]")
        return text

    def mask(self, error: InferenceError) -> InferenceError:
        """The error, concealing the key."""
        return type(error)(self.conceal(error.message), hint=error.hint)

    async def aclose(self) -> None:
        """Closes what is open."""
        await self._client.aclose()

    # ── opening ─────────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def _opened(
        self, url: str, body: JsonObject | None, deadline: Deadline
    ) -> AsyncIterator[httpx.Response]:
        """The reply's head, after as many attempts as there may be; its connection ends here."""
        response = await self._open(url, body, deadline)
        try:
            encoding = response.headers.get("content-encoding", "identity").lower()
            if encoding != "identity":
                told = ascii(self.conceal(encoding))[:20]
                raise broken(self.who, f"sent a reply in an encoding, unasked: {told}")
            yield response
        finally:
            await response.aclose()

    async def _open(self, url: str, body: JsonObject | None, deadline: Deadline) -> httpx.Response:
        request = self._request(url, body)
        for attempt in range(self._limits.retries + 1):
            last = attempt == self._limits.retries
            try:
                response = await self._client.send(request, stream=True)
            except httpx.HTTPError as error:
                if last or not _is_refused(error):
                    raise self._unreachable(error) from error
                wait_s = self._backoff(attempt)
            else:
                if response.status_code not in _BUSY:
                    return response
                wait_s = await self._busy(response, attempt, deadline)
                if last:
                    raise self._is_busy(response, "")
            await self._sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _request(self, url: str, body: JsonObject | None) -> httpx.Request:
        headers = {"Accept-Encoding": "identity", "Accept": "text/event-stream, application/json"}
        secret = self._headers(self._remote)
        if not all(value.isascii() for value in secret.values()):
            raise IdentityError(f"the key for {self.who} is not ASCII", hint="Give the key alone.")
        self._sent_headers = tuple(secret.values())
        headers.update(secret)
        if body is None:
            return self._client.build_request("GET", url, headers=headers)
        try:
            content = dumps(body).encode()
        except (ValueError, RecursionError) as error:
            raise InferenceError(
                f"a request cannot be sent to a model: {error}",
                hint="Text must be valid Unicode without lone surrogates.",
            ) from error
        headers["Content-Type"] = "application/json"
        return self._client.build_request("POST", url, headers=headers, content=content)

    async def _busy(self, response: httpx.Response, attempt: int, deadline: Deadline) -> float:
        """Seconds to wait before the next attempt. Raises EngineBusyError if that is too long."""
        asked = self._retry_after(response.headers.get("retry-after", ""))
        wait_s = self._backoff(attempt) if asked is None else asked
        await response.aclose()
        if wait_s > min(self._limits.retry_after_s, deadline.left()):
            raise self._is_busy(response, f"; it says to come again in {wait_s:.0f} s")
        return wait_s

    def _is_busy(self, response: httpx.Response, more: str) -> EngineBusyError:
        return EngineBusyError(
            f"{self.who} is busy (status {response.status_code}){more}",
            hint="Try again later. Nothing was generated.",
        )

    def _retry_after(self, value: str) -> float | None:
        """Seconds that a Retry-After header asks for; None where it says nothing to go by."""
        if value.isascii() and value.isdigit():
            return float(value[:9])
        try:
            when = email.utils.parsedate_to_datetime(value).timestamp()
        except (ValueError, TypeError, OverflowError):
            return None
        return max(0.0, when - self._clock.wall())

    @staticmethod
    def _backoff(attempt: int) -> float:
        return 0.5 * float(2**attempt)

    async def _check(self, response: httpx.Response) -> None:
        """Raises what a status other than 200 means."""
        status = response.status_code
        if status == 200:
            return
        if 300 <= status < 400:
            told = f"redirects elsewhere (status {status}), which is not followed"
            raise broken(self.who, told, RemoteRefusedError)
        text = await self.reader.short(response, self._limits.line_bytes)
        try:
            body = self.reader.parse(text)
        except RemoteError:
            body = text
        raise server_error(self.who, body, status, conceal=self.conceal)

    def _unreachable(self, error: httpx.HTTPError) -> RemoteError:
        if _of_kind(error, ssl.SSLError):
            return RemoteRefusedError(
                f"{self.who} has no certificate that is trusted here: {_cause(error)}",
                hint="For a certificate of your own, name its file as ca_file in remote.toml.",
            )
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return RemoteRefusedError(
                f"{self.who} cannot be reached: {_cause(error)}",
                hint="Is it running, and is the address right?",
            )
        return RemoteError(
            f"{self.who} closed the connection without an answer ({type(error).__name__})",
            hint=NOT_AGAIN,
        )


def _trust(remote: RemoteModel) -> ssl.SSLContext:
    """Which certificates are believed: those of `ca_file`, or the system's and Mozilla's."""
    if not remote.url.startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not used; it would believe none
    try:
        context = ssl.create_default_context(cafile=remote.ca_file or None)
        if remote.ca_file:  # is believed as it is; what Python asks of one depends on its version
            context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
        else:
            context.load_verify_locations(certifi.where())
        return context
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the certificates of the remote model {remote.name!r} cannot be read: "
            f"{remote.ca_file}: {error}",
            hint="ca_file names a file of PEM certificates.",
        ) from error


def _is_refused(error: BaseException) -> bool:
    """Whether nothing listened: then nothing was sent either."""
    return isinstance(error, httpx.ConnectError) and _of_kind(error, ConnectionRefusedError)


def _of_kind(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether an error is of a kind, or was caused by one; groups need all of theirs to be."""
    if error is None:
        return False
    if isinstance(error, BaseExceptionGroup):
        return all(_of_kind(each, kind) for each in error.exceptions)
    return isinstance(error, kind) or _of_kind(error.__cause__ or error.__context__, kind)


def _cause(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__
