"""One question to a mint and its answer: statuses, refusals, and the one repetition NUT-19 allows.

A reply that was lost is asked for once more, with the same bytes, where the mint announces that it
keeps replies and its `info` was read. The second answer counts only if it is a success: a mint that
keeps nothing would refuse the repetition of what it did, and that must not look like a refusal.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from wallet.errors import OutcomeUnknownError, WalletError
from wallet.mint.info import MintInfo
from wallet.mint.refusals import refusal
from wallet.mint.replies import read
from wallet.types import Transport, TransportRequest, TransportResponse

M = TypeVar("M", bound=BaseModel)


class Exchange:
    """A mint's URL and the way to it. `info` is what the mint last said of itself."""

    def __init__(self, url: str, transport: Transport) -> None:
        self.url = url
        self.transport = transport
        self.info: MintInfo | None = None

    async def get(self, path: str, model: type[M], what: str) -> M:
        """Asks for what is at a path.

        Raises:
            MintUnreachableError, MintError, OutcomeUnknownError, MintMisbehavedError: see
                `wallet.mint.MintClient`.
        """
        return await self._ask(TransportRequest("GET", path), model, what)

    async def post(self, path: str, body: bytes, model: type[M], what: str) -> M:
        """Asks the mint to do something. Raises as `get`."""
        return await self._ask(TransportRequest("POST", path, body), model, what)

    async def _ask(self, request: TransportRequest, model: type[M], what: str) -> M:
        try:
            body = await self._success(request, what)
        except OutcomeUnknownError as lost:
            body = await self._again(request, what, lost)
        return read(model, body, what=what, mint=self.url)

    async def _again(
        self, request: TransportRequest, what: str, lost: OutcomeUnknownError
    ) -> bytes:
        if self.info is None or (request.method, request.path) not in self.info.cached:
            raise lost
        try:
            return await self._success(request, what)
        except WalletError:
            raise lost from None

    async def _success(self, request: TransportRequest, what: str) -> bytes:
        response = await self.transport.send(request)
        if 200 <= response.status < 300:
            return response.body
        raise self._failure(response, what)

    def _failure(self, response: TransportResponse, what: str) -> WalletError:
        status = response.status
        refused = refusal(self.url, status, response.body) if 400 <= status < 500 else None
        if refused is not None:
            return refused
        hint = (
            "Redirects are not followed; add the mint by its new URL."
            if 300 <= status < 400
            else "The mint may have done it. The operation stays pending and is settled later."
        )
        return OutcomeUnknownError(
            f"mint {self.url} answered the request for {what} with status {status}", hint=hint
        )
