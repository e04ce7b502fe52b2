"""Payees in memory: servers of Lightning addresses behind the seam `Web`.

`MemoryWeb` is a small internet: handlers by host. `MemoryPayee` is an LNURL-pay server (LUD-06)
whose answers a test may change (`terms`, `reply`) or whose invoices it may spoil.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

from wallet.errors import OutcomeUnknownError, UnreachableError
from wallet.lightning.web import WebReply, WebRequest, check_url
from wallet.mint.testing import MemoryLightning

Handler = Callable[[WebRequest], Awaitable[WebReply]]


class MemoryWeb:
    """Servers by host name.

    Attributes:
        hosts: what answers there; a host that is not in it cannot be reached.
        requests: what was sent.
        lose: how many of the next answers are lost, after the server has acted.
    """

    def __init__(self, *, loopback: bool = False) -> None:
        self.loopback = loopback
        self.hosts: dict[str, Handler] = {}
        self.requests: list[WebRequest] = []
        self.lose = 0

    async def send(self, request: WebRequest) -> WebReply:
        """See `Web`."""
        host = urlsplit(check_url(request.url, loopback=self.loopback)).hostname or ""
        if host not in self.hosts:
            raise UnreachableError(f"{host} cannot be reached: no such host")
        self.requests.append(request)
        reply = await self.hosts[host](request)
        if self.lose:
            self.lose -= 1
            raise OutcomeUnknownError(f"{host} broke off without an answer")
        return reply

    async def aclose(self) -> None:
        """Lets go of nothing."""


class MemoryPayee:
    """An LNURL-pay server of one address.

    Args:
        address: name@host, as people write it.
        lightning: the network it is on.
        base: where it is, if not at https://host.

    Attributes:
        terms: fields to put over its own terms. A value of None takes one away.
        reply: an answer to give instead of any other.
        off_by_msat: how much its invoices are wrong.
        commits: whether its invoices commit to the metadata.
        comments: those it was given.
    """

    def __init__(
        self,
        address: str,
        lightning: MemoryLightning,
        *,
        base: str = "",
    ) -> None:
        self.name, _, self.host = address.partition("@")
        self.base = base or f"https://{self.host}"
        self.lightning = lightning
        self.terms: dict[str, Any] = {}
        self.reply: WebReply | None = None
        self.metadata = json.dumps([["text/plain", "To Ada"], ["text/identifier", address]])
        self.off_by_msat = 0
        self.commits = True
        self.expiry_s = 3_600
        self.comments: list[str] = []
        self.issued: list[str] = []

    async def __call__(self, request: WebRequest) -> WebReply:
        """Its answer."""
        parts = urlsplit(request.url)
        if self.reply is not None:
            return self.reply
        if parts.path == f"/.well-known/lnurlp/{self.name}":
            return _json({name: v for name, v in self._terms().items() if v is not None})
        if parts.path == "/callback":
            return _json(self._invoice(parse_qs(parts.query)))
        return _json({"status": "ERROR", "reason": "nobody of that name"}, 404)

    def _terms(self) -> dict[str, Any]:
        usual = {
            "tag": "payRequest",
            "callback": f"{self.base}/callback",
            "minSendable": 1_000,
            "maxSendable": 100_000_000,
            "metadata": self.metadata,
            "commentAllowed": 32,
        }
        return {**usual, **self.terms}

    def _invoice(self, asked: dict[str, list[str]]) -> dict[str, Any]:
        self.comments += asked.get("comment", [])
        text = self.lightning.invoice(
            int(asked["amount"][0]) + self.off_by_msat or None,
            description=sha256(self.metadata.encode()).digest() if self.commits else "hello",
            expiry_s=self.expiry_s,
        )
        self.issued.append(text)
        return {"pr": text, "routes": []}


def _json(fields: dict[str, Any], status: int = 200) -> WebReply:
    return WebReply(status, json.dumps(fields).encode())
