"""The wallet's part of the control API's client. Amounts are whole sat.

Whatever waits for a mint has a longer time to answer; the daemon goes on where a client gives up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from node.errors import ControlError, NoAnswerError, PaymentPendingError
from node.types import Json, JsonObject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from node.gateway.wallet_replies import (
        BillReply,
        InvoiceReply,
        MintReply,
        OperationReply,
        PaidReply,
        ReceivedReply,
        ReportReply,
        RequestReply,
        RestoredReply,
        TokenReply,
        WalletReply,
    )

PAY_S = 180.0


class Get(Protocol):
    def __call__(self, path: str, query: Mapping[str, str] | None = None) -> JsonObject: ...


class Post(Protocol):
    def __call__(
        self,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout: float | None = ...,
        key: str = ...,
    ) -> JsonObject: ...


class Moved(dict[str, Json]):
    """The reply of what has moved money. What a daemon of another version leaves out of it must not
    look like a failure."""

    def __missing__(self, key: str) -> NoReturn:
        raise PaymentPendingError(
            f"it is done, and the daemon's answer, of another version, has no {key!r}",
            hint="Do not do it again: `freehold wallet history` has it.",
        )


class WalletClient:
    """The wallet of the node that `get` and `post` ask; `Client.wallet` makes it.

    Every method raises MoneyError where nothing happened, and PaymentPendingError where nobody
    knows yet, besides what `Client` raises.
    """

    def __init__(self, get: Get, post: Post) -> None:
        self._get, self._post = get, post

    def show(self) -> WalletReply:
        """The wallet at a glance."""
        return cast("WalletReply", self._get("/wallet"))

    def unlock(self, passphrase: str) -> WalletReply:
        reply = self._post("/wallet/unlock", {"passphrase": passphrase})
        return cast("WalletReply", reply)

    def history(self, limit: int = 50, before: str | None = None) -> list[OperationReply]:
        """The latest operations, newest first; `before`: only those that began before the one of
        this id."""
        query = {"limit": str(limit)} | ({"before": before} if before else {})
        reply = self._get("/wallet/history", query)
        return cast("list[OperationReply]", reply["operations"])

    def pending(self) -> tuple[list[OperationReply], list[OperationReply]]:
        """Operations that are not final, and sends whose token nobody redeemed yet."""
        reply = self._get("/wallet/pending")
        operations, outbox = reply["operations"], reply["outbox"]
        return cast("tuple[list[OperationReply], list[OperationReply]]", (operations, outbox))

    def add_mint(self, url: str, *, spend: bool, accept: bool) -> MintReply:
        body = {"url": url, "spend": spend, "accept": accept}
        return cast("MintReply", self._post("/wallet/mints", body, timeout=PAY_S))

    def remove_mint(self, url: str, *, force: bool) -> None:
        self._post("/wallet/mints/remove", {"url": url, "force": force})

    def words(self) -> str:
        """The seed."""
        return str(self._post("/wallet/words")["words"])

    def invoice(self, amount_sat: int, mint: str = "") -> InvoiceReply:
        body = {"amount_sat": amount_sat, "mint": mint}
        return cast("InvoiceReply", self._post("/wallet/invoices", body, timeout=PAY_S))

    def claim(self, operation: str, wait_s: int = 0) -> OperationReply:
        """Takes what an invoice brought, waiting a while for it to be paid."""
        body = {"operation": operation, "wait_s": wait_s}
        return cast("OperationReply", self._move("/wallet/invoices/claim", body))

    def receive(self, token: str, *, allow_unverified: bool = False) -> ReceivedReply:
        body = {"token": token, "allow_unverified": allow_unverified}
        return cast("ReceivedReply", self._move("/wallet/receive", body))

    def request(self, amount_sat: int | None = None, memo: str = "") -> RequestReply:
        body = {"amount_sat": amount_sat, "memo": memo}
        return cast("RequestReply", self._post("/wallet/request", body))

    def bill(
        self,
        to: str,
        amount_sat: int | None = None,
        memo: str = "",
        mint: str = "",
        *,
        key: str = "",
    ) -> BillReply:
        """What paying would come to; nothing is paid."""
        body = {"to": to, "amount_sat": amount_sat, "memo": memo, "mint": mint}
        return cast("BillReply", self._post("/wallet/bill", body, key=key))

    def pay(
        self,
        to: str,
        amount_sat: int | None = None,
        memo: str = "",
        mint: str = "",
        *,
        key: str = "",
    ) -> PaidReply:
        """Pays, with the same `key` again nothing more; what that came to is told again.

        Raises PaymentPendingError where nobody knows yet how it ends.
        """
        body = {"to": to, "amount_sat": amount_sat, "memo": memo, "mint": mint}
        return cast("PaidReply", self._move("/wallet/pay", body, key=key))

    def send(
        self,
        amount_sat: int,
        to: str = "",
        memo: str = "",
        mint: str = "",
        *,
        include_fee: bool = False,
        key: str = "",
    ) -> TokenReply:
        """Makes a token; the reply holds it, and with the same `key` again that same one."""
        body = {"amount_sat": amount_sat, "to": to, "memo": memo, "mint": mint}
        body["include_fee"] = include_fee
        return cast("TokenReply", self._move("/wallet/send", body, key=key))

    def token(self, operation: str) -> str:
        """The token of a send that nobody redeemed yet."""
        return str(self._post("/wallet/token", {"operation": operation})["token"])

    def reclaim(self, operation: str) -> OperationReply:
        """Takes such a token back."""
        return cast("OperationReply", self._move("/wallet/reclaim", {"operation": operation}))

    def settle(self) -> list[OperationReply]:
        """Asks what became of all that is open; what ended by it."""
        reply = self._post("/wallet/settle", timeout=PAY_S)
        return cast("list[OperationReply]", reply["operations"])

    def check(self) -> ReportReply:
        return cast("ReportReply", self._post("/wallet/check", timeout=PAY_S))

    def restore(self, words: str = "", mints: Sequence[str] = ()) -> list[RestoredReply]:
        """Brings back what the seed has at the mints."""
        body = {"words": words, "mints": list(mints)}
        reply = self._post("/wallet/restore", body, timeout=None)
        return cast("list[RestoredReply]", reply["mints"])

    def nwc(self, uri: str) -> str:
        """Connects another wallet to pay invoices from, or with "" ends that; its name."""
        return str(self._post("/wallet/nwc", {"uri": uri}, timeout=PAY_S)["nwc"])

    def _move(self, path: str, body: Mapping[str, object], *, key: str = "") -> JsonObject:
        """Asks for what moves money. A daemon that goes away in between may have moved it, and so
        may one of another version whose answer is none that this one knows."""
        try:
            return Moved(self._post(path, body, timeout=PAY_S, key=key))
        except ControlError as error:
            if type(error) not in (NoAnswerError, ControlError):  # it says that nothing was done
                raise
            raise PaymentPendingError(
                f"{error.message}; whether the money moved nobody knows yet",
                hint="Do not do it again before `freehold wallet history` says how it ended.",
            ) from error
