"""Routes by which the owner's money comes in and goes out.

What pays is a run of the agent `node`, through the door; what comes in is one entry on the log once
it is there. Tokens are in the bodies of requests and replies only.
"""

from __future__ import annotations

import json
import secrets
from typing import Annotated, cast

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.errors import (
    FreeholdError,
    JournalWriteError,
    PaymentError,
    PaymentPendingError,
    RequestError,
    RunStoppedError,
)
from node.gateway.control import Control, control
from node.gateway.http import Body, actor, idempotency_key, read
from node.gateway.wallet import Text, check_known, note, operation_json
from node.gateway.wallet_replies import (
    BillReply,
    InvoiceReply,
    PaidReply,
    ReceivedReply,
    RequestReply,
    TokenReply,
)
from node.money import BEARER, Payment, got_sat, in_sat, translated
from node.money.types import ALL_SATS
from node.types import JsonObject
from wallet.protocol import requests

CLAIM_MAX_S = 50
TEXT_MAX = 2_000_000
Amount = Annotated[int, Field(ge=1, le=ALL_SATS)]
Token = Annotated[str, Field(min_length=1, max_length=TEXT_MAX)]


class AskInvoice(Body):
    amount_sat: Amount
    mint: str = ""


class Claim(Body):
    operation: Text
    wait_s: Annotated[int, Field(ge=0, le=CLAIM_MAX_S)] = 0


class Pay(Body):
    to: Text
    amount_sat: Amount | None = None
    memo: Annotated[str, Field(max_length=1000)] = ""
    mint: str = ""


class Send(Body):
    amount_sat: Amount
    to: str = ""
    memo: Annotated[str, Field(max_length=1000)] = ""
    mint: str = ""
    include_fee: bool = False


class Receive(Body):
    token: Token
    allow_unverified: bool = False


class Ask(Body):
    amount_sat: Amount | None = None
    memo: Annotated[str, Field(max_length=640)] = ""


class One(Body):
    operation: Text


# ── in ──────────────────────────────────────────────────────────────────────────────────────


async def invoice(request: Request) -> Response:
    node, body = control(request), await read(request, AskInvoice)
    wallet = node.keeper.wallet()
    with translated():
        made = await wallet.request_invoice(body.amount_sat, mint=body.mint or None, key=_key("in"))
    told: JsonObject = {"operation": made.operation, "amount": made.amount, "mint": made.mint}
    await note(request, "wallet.invoice", told)
    return JSONResponse(
        InvoiceReply(
            operation=made.operation,
            invoice=made.bolt11,
            amount_sat=made.amount,
            mint=made.mint,
            expires=made.expires,
        )
    )


async def claim(request: Request) -> Response:
    node, body = control(request), await read(request, Claim)
    wallet = node.keeper.wallet()
    check_known(wallet, body.operation)
    with translated():
        found = await wallet.claim_invoice(body.operation, wait=body.wait_s)
    await _told(request, found.key, "wallet.received")
    return JSONResponse(operation_json(found))


async def receive(request: Request) -> Response:
    node, body = control(request), await read(request, Receive)
    wallet, key = node.keeper.wallet(), _key("in")
    try:
        with translated():
            got = await wallet.receive(body.token, allow_unverified=body.allow_unverified, key=key)
    finally:  # what failed may have moved money all the same: to a mint that is not ours
        await _told(request, key, "wallet.received")
    return JSONResponse(
        ReceivedReply(
            operation=got.operation,
            received_sat=got_sat(got.amount, got.unit),
            fee_sat=in_sat(got.fee, got.unit),
            mint=got.mint,
            memo=got.memo,
            verified=got.verified,
            over_cap=got.over_cap,
        )
    )


async def ask(request: Request) -> Response:
    """A payment request (NUT-18), to be answered with ecash that comes back by hand."""
    node, body = control(request), await read(request, Ask)
    with translated():
        made = await node.keeper.wallet().make_request(
            body.amount_sat, description=body.memo or None
        )
        text = requests.encode(made)
    return JSONResponse(
        RequestReply(request=text, amount_sat=body.amount_sat, mints=list(made.mints))
    )


# ── out ─────────────────────────────────────────────────────────────────────────────────────


async def bill(request: Request) -> Response:
    node, body = control(request), await read(request, Pay)
    late = node.runs.begun(idempotency_key(request), actor(request))
    found = node.purse.bill(Payment(**body.model_dump()), late=late)
    return JSONResponse(cast("BillReply", vars(found)))


async def pay(request: Request) -> Response:
    node, body = control(request), await read(request, Pay)
    if body.to.strip() == BEARER:
        raise RequestError(
            f"{BEARER!r} is nobody to pay", hint="`freehold wallet send` makes a token for anybody."
        )
    node.keeper.wallet()
    who, key = actor(request), idempotency_key(request)
    return JSONResponse(await _paid(node, Payment(**body.model_dump()), who, key))


async def send(request: Request) -> Response:
    node, body = control(request), await read(request, Send)
    node.keeper.wallet()
    asked = body.model_dump()
    payment = Payment(**{**asked, "to": body.to or BEARER})
    if node.purse.bill(payment).kind not in ("peer", "bearer"):
        raise RequestError(
            "a token is for a public key (02… or 03…) or for whoever has it; nothing was sent",
            hint="`freehold wallet pay` pays invoices, addresses and requests.",
        )
    paid = await _paid(node, payment, actor(request), idempotency_key(request))
    token = await node.purse.token(payment, key=paid["operation"])
    return JSONResponse(TokenReply(**paid, token=token))


async def _paid(node: Control, payment: Payment, who: str, key: str = "") -> PaidReply:
    """Pays as a run of the node's own, and says what it came to.

    Raises:
        PaymentError: it was not paid.
        RunStoppedError: it was stopped before anything was paid.
        PaymentPendingError: it may have been, or will be when the node goes on.
    """
    node.purse.bill(payment, late=node.runs.begun(key, who))
    run = await node.runs.pay(payment, actor=who, key=key)
    async for event in node.runs.watch(run):
        if event.type == "approval.asked" and node.runs.is_unfinished(run):
            raise _open(run)
    try:
        result = await node.runs.wait(run)
    except FreeholdError as error:
        # parked: it pays, or asks what became of it, when it goes on; else the log failed under it
        if isinstance(error, RunStoppedError) or _is_begun(node, run):
            raise _open(run, error.message) from error
        raise
    said, _, advice = result.reason.partition("\n")
    if result.status == "stopped" and _is_begun(node, run):
        raise _open(run, said)
    more = f"{advice} `freehold trace {run}` has it all.".lstrip()
    if result.status == "stopped":
        raise RunStoppedError(f"it was stopped, and nothing was paid: {said}", hint=more)
    if result.status == "completed" and not result.text:
        raise PaymentPendingError(
            f"it was paid, and what that came to was erased (run {run})",
            hint="Do not pay again: `freehold wallet history` has it.",
        )
    value = json.loads(result.text) if result.status == "completed" else {}
    if "operation" not in value:
        raise PaymentError(said or "it was not paid", hint=more)
    return cast("PaidReply", {"run": run, **value})


def _open(run: str, why: str = "") -> PaymentPendingError:
    return PaymentPendingError(
        f"{why}{'; ' if why else ''}the payment is under way, and nobody knows yet how it ends "
        f"(run {run})",
        hint="`freehold wallet pending` shows it; do not pay again before it has ended.",
    )


def _is_begun(node: Control, run: str) -> bool:
    """Whether the wallet began the payment that is the one step of a run, and it did not fail."""
    begun = node.keeper.wallet(stale=True).operation(f"{run}:1")
    return begun is not None and begun.state != "failed"


async def token(request: Request) -> Response:
    """A token of the outbox again: for who lost it, or for a payment an agent made to a key."""
    node, body = control(request), await read(request, One)
    check_known(node.keeper.wallet(), body.operation)
    found = await node.purse.token(Payment(to=""), key=body.operation)
    await note(request, "wallet.token_shown", {"operation": body.operation})
    return JSONResponse({"operation": body.operation, "token": found})


async def reclaim(request: Request) -> Response:
    node, body = control(request), await read(request, One)
    wallet = node.keeper.wallet()
    check_known(wallet, body.operation)
    with translated():
        found = await wallet.reclaim(body.operation)
    await _told(request, found.key, "wallet.reclaimed")
    return JSONResponse(operation_json(found))


async def _told(request: Request, key: str, kind: str) -> None:
    """Puts on the log how an operation that the owner asked for ended, if it did.

    Raises:
        PaymentPendingError: the log cannot be written, and whoever is told that it failed would not
            look for the money.
    """
    try:
        await control(request).settling.telling.tell(key, kind=kind, actor=actor(request))
    except JournalWriteError as error:
        raise PaymentPendingError(
            f"the wallet has done it, and it is not on the log yet: {error.message}",
            hint="`freehold wallet history` says what came of it. Do not do it again before.",
        ) from error


def _key(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(10)}"


ROUTES = [
    Route("/wallet/invoices", invoice, methods=["POST"]),
    Route("/wallet/invoices/claim", claim, methods=["POST"]),
    Route("/wallet/receive", receive, methods=["POST"]),
    Route("/wallet/request", ask, methods=["POST"]),
    Route("/wallet/bill", bill, methods=["POST"]),
    Route("/wallet/pay", pay, methods=["POST"]),
    Route("/wallet/send", send, methods=["POST"]),
    Route("/wallet/token", token, methods=["POST"]),
    Route("/wallet/reclaim", reclaim, methods=["POST"]),
]
