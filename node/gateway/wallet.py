"""Routes of the owner's wallet. The daemon holds the file, so everything goes through here.

What pays is a run of the agent `node`, through the door; what comes in, and what is changed, is one
entry on the log once it has happened. Tokens and seeds are in the bodies of replies only, and the
seed only over the UNIX socket, which does not leave the machine.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.errors import (
    MoneyError,
    NotFoundError,
    PaymentError,
    PaymentPendingError,
    PolicyDeniedError,
)
from node.gateway.control import Control, control
from node.gateway.http import Body, actor, query_int, read
from node.gateway.wallet_replies import (
    BillReply,
    InvoiceReply,
    MintReply,
    OperationReply,
    PaidReply,
    ReceivedReply,
    RestoredReply,
    TokenReply,
    WalletReply,
)
from node.journal import Draft
from node.money import BEARER, Payment, in_sat, translated
from node.types import JsonObject

if TYPE_CHECKING:
    from wallet.store import MintRecord, Operation

HISTORY_MAX = 10_000
CLAIM_MAX_S = 50
TEXT_MAX = 2_000_000
Amount = Annotated[int, Field(ge=1, le=21_000_000 * 100_000_000)]
Text = Annotated[str, Field(min_length=1, max_length=8192)]
Token = Annotated[str, Field(min_length=1, max_length=TEXT_MAX)]


class Unlock(Body):
    passphrase: Annotated[str, Field(max_length=4096)]


class AddMint(Body):
    url: Text
    spend: bool = True
    accept: bool = True


class RemoveMint(Body):
    url: Text
    force: bool = False


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


class Receive(Body):
    token: Token
    allow_unverified: bool = False


class Ask(Body):
    amount_sat: Amount | None = None
    memo: Annotated[str, Field(max_length=640)] = ""


class One(Body):
    operation: Text


class Restore(Body):
    words: Annotated[str, Field(max_length=1000)] = ""
    mints: tuple[Text, ...] = ()


class Nothing(Body):
    pass


# ── how it is ───────────────────────────────────────────────────────────────────────────────


async def show(request: Request) -> Response:
    return JSONResponse(wallet_reply(control(request)))


def wallet_reply(node: Control) -> WalletReply:
    """The wallet at a glance; asks nobody."""
    keeper = node.keeper
    problem = keeper.problem
    reply = WalletReply(
        state=keeper.state,
        problem=problem.message if problem else "",
        hint=problem.hint if problem else "",
        balance_sat=0,
        pending=0,
        mints=[],
        nwc="",
    )
    if keeper.state in ("open", "stale"):
        wallet = keeper.wallet(stale=True)
        reply["balance_sat"] = wallet.balance()
        reply["pending"] = sum(_is_under_way(each) for each in wallet.pending())
        reply["mints"] = [_mint(each) for each in wallet.mints()]
    return reply


def _is_under_way(operation: Operation) -> bool:
    """Whether money may be moving; an invoice that nobody paid yet is none."""
    return not (operation.kind.value in ("mint", "batch") and operation.state.value == "prepared")


def _mint(record: MintRecord) -> MintReply:
    return MintReply(
        url=record.url,
        name=record.name,
        spend=record.spend,
        accept=record.accept,
        units=list(record.units),
        balance_sat=record.balance.get("sat", 0) + record.balance.get("msat", 0) // 1000,
        over_cap=record.over_cap,
    )


def operation_json(operation: Operation) -> OperationReply:
    """An operation as clients and the log have it."""
    return OperationReply(
        id=operation.key,
        kind=operation.kind.value,
        state=operation.state.value,
        mint=operation.mint,
        unit=operation.unit,
        amount=operation.amount,
        fee=operation.fee,
        at=operation.when,
        updated=operation.updated,
        outbox=operation.outbox.value,
        error=operation.error,
    )


async def history(request: Request) -> Response:
    wallet = control(request).keeper.wallet(stale=True)
    limit = query_int(request, "limit", 50, HISTORY_MAX)
    before = query_int(request, "before", 0, 2**53) or None
    found = wallet.history(limit, before)
    return JSONResponse({"operations": [operation_json(each) for each in found]})


async def pending(request: Request) -> Response:
    wallet = control(request).keeper.wallet(stale=True)
    out = [each for each in wallet.history(HISTORY_MAX) if each.outbox.value == "open"]
    return JSONResponse(
        {
            "operations": [operation_json(each) for each in wallet.pending()],
            "outbox": [operation_json(each) for each in out],
        }
    )


# ── mints, keys ─────────────────────────────────────────────────────────────────────────────


async def unlock(request: Request) -> Response:
    node, body = control(request), await read(request, Unlock)
    await node.keeper.unlock(body.passphrase)
    await _note(request, "wallet.unlocked", {})
    return JSONResponse(wallet_reply(node))


async def add_mint(request: Request) -> Response:
    node, body = control(request), await read(request, AddMint)
    wallet = await node.keeper.make()
    with translated():
        record = await wallet.add_mint(body.url, spend=body.spend, accept=body.accept)
    told: JsonObject = {"mint": record.url, "spend": record.spend, "accept": record.accept}
    await _note(request, "wallet.mint_added", told)
    return JSONResponse(_mint(record))


async def remove_mint(request: Request) -> Response:
    node, body = control(request), await read(request, RemoveMint)
    with translated():
        await node.keeper.wallet(stale=True).remove_mint(body.url, force=body.force)
    await _note(request, "wallet.mint_removed", {"mint": body.url, "force": body.force})
    return JSONResponse({})


async def words(request: Request) -> Response:
    if actor(request) == "token":
        raise PolicyDeniedError(
            "the seed is told over the node's own socket only",
            hint="Run `freehold wallet backup` on the machine itself.",
        )
    wallet = control(request).keeper.wallet(stale=True)
    await _note(request, "wallet.seed_shown", {})
    return JSONResponse({"words": wallet.words()})


# ── in ──────────────────────────────────────────────────────────────────────────────────────


async def invoice(request: Request) -> Response:
    node, body = control(request), await read(request, AskInvoice)
    wallet = node.keeper.wallet()
    with translated():
        made = await wallet.request_invoice(body.amount_sat, mint=body.mint or None, key=_key("in"))
    told: JsonObject = {"operation": made.operation, "amount": made.amount, "mint": made.mint}
    await _note(request, "wallet.invoice", told)
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
    before = wallet.operation(body.operation)
    with translated():
        found = await wallet.claim_invoice(body.operation, wait=body.wait_s)
    if found.state.final and not (before and before.state.final):
        await _note(request, "wallet.received", _told(found))
    return JSONResponse(operation_json(found))


async def receive(request: Request) -> Response:
    node, body = control(request), await read(request, Receive)
    wallet = node.keeper.wallet()
    with translated():
        got = await wallet.receive(
            body.token, allow_unverified=body.allow_unverified, key=_key("in")
        )
    operation = wallet.operation(got.operation)
    await _note(request, "wallet.received", _told(operation) if operation else {})
    return JSONResponse(
        ReceivedReply(
            operation=got.operation,
            received_sat=in_sat(got.amount, got.unit),
            fee_sat=in_sat(got.fee, got.unit),
            mint=got.mint,
            memo=got.memo,
            verified=got.verified,
            over_cap=got.over_cap,
        )
    )


# ── out ─────────────────────────────────────────────────────────────────────────────────────


async def bill(request: Request) -> Response:
    node, body = control(request), await read(request, Pay)
    found = node.purse.bill(Payment(**body.model_dump()))
    return JSONResponse(cast("BillReply", vars(found)))


async def pay(request: Request) -> Response:
    node, body = control(request), await read(request, Pay)
    node.keeper.wallet()
    return JSONResponse(await _paid(node, Payment(**body.model_dump()), actor(request)))


async def send(request: Request) -> Response:
    node, body = control(request), await read(request, Send)
    node.keeper.wallet()
    asked = body.model_dump()
    payment = Payment(**{**asked, "to": body.to or BEARER})
    paid = await _paid(node, payment, actor(request))
    token = await node.purse.token(payment, key=paid["operation"])
    return JSONResponse(TokenReply(**paid, token=token))


async def _paid(node: Control, payment: Payment, who: str) -> PaidReply:
    """Pays as a run of the node's own, and says what it came to.

    Raises:
        PaymentError: it was not paid.
        PaymentPendingError: it may have been; the run waits until that is known.
    """
    node.purse.bill(payment)
    run = await node.runs.pay(payment, actor=who)
    async for event in node.runs.watch(run):
        if event.type == "approval.asked":
            raise PaymentPendingError(
                f"the payment is under way, and nobody knows yet how it ends (run {run})",
                hint="`freehold wallet pending` shows it; do not pay again before it has ended.",
            )
    result = await node.runs.wait(run)
    value = json.loads(result.text) if result.status == "completed" else {}
    if "operation" not in value:
        raise PaymentError(result.reason or "it was not paid", hint=f"Run {run} has it all.")
    return cast("PaidReply", {"run": run, **value})


async def token(request: Request) -> Response:
    """A token of the outbox again: for who lost it, or for a payment an agent made to a key."""
    node, body = control(request), await read(request, One)
    found = await node.purse.token(Payment(to=""), key=body.operation)
    await _note(request, "wallet.token_shown", {"operation": body.operation})
    return JSONResponse({"operation": body.operation, "token": found})


async def reclaim(request: Request) -> Response:
    node, body = control(request), await read(request, One)
    wallet = node.keeper.wallet()
    if wallet.operation(body.operation) is None:
        raise NotFoundError(f"the wallet has no operation {body.operation[:80]}")
    with translated():
        found = await wallet.reclaim(body.operation)
    await _note(request, "wallet.reclaimed", {**_told(found), "of": body.operation})
    return JSONResponse(operation_json(found))


# ── looking after it ────────────────────────────────────────────────────────────────────────


async def settle(request: Request) -> Response:
    """Asks what became of all that is open, now."""
    await read(request, Nothing)
    ended = await control(request).settling.once()
    return JSONResponse({"operations": [operation_json(each) for each in ended]})


async def check(request: Request) -> Response:
    await read(request, Nothing)
    with translated():
        report = await control(request).keeper.wallet(stale=True).check()
    return JSONResponse({**vars(report), "ok": report.ok})


async def restore(request: Request) -> Response:
    """Brings back what the seed has at the mints, and lets a wallet out of an archive pay again."""
    node, body = control(request), await read(request, Restore)
    wallet = await node.keeper.make(body.words or None)
    for url in body.mints:
        with translated():
            await wallet.add_mint(url)
    found = [await _restored(node, mint.url) for mint in wallet.mints()]
    if found and not any(each["problem"] for each in found):
        with translated():
            await wallet.check()
        node.keeper.reconciled()
    told: JsonObject = {"mints": cast("JsonObject", {each["mint"]: each for each in found})}
    await _note(request, "wallet.restored", told)
    return JSONResponse({"mints": found, "state": node.keeper.state})


async def _restored(node: Control, mint: str) -> RestoredReply:
    try:
        with translated():
            found = await node.keeper.wallet(stale=True).restore(mint)
    except (MoneyError, PaymentPendingError) as error:
        return RestoredReply(mint=mint, found_sat=0, proofs=0, problem=error.message)
    sats = sum(in_sat(amount, unit) for unit, amount in found.found.items())
    return RestoredReply(mint=mint, found_sat=sats, proofs=found.proofs, problem="")


def _key(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(10)}"


def _told(operation: Operation) -> JsonObject:
    """What the log keeps of an operation."""
    return {
        "operation": operation.key,
        "kind": operation.kind.value,
        "state": operation.state.value,
        "amount": operation.amount,
        "fee": operation.fee,
        "unit": operation.unit,
        "mint": operation.mint,
    }


async def _note(request: Request, kind: str, data: JsonObject) -> None:
    """Puts on the log what the owner did, once it has happened."""
    await control(request).log.append(Draft(kind, actor=actor(request), data=data))


ROUTES = [
    Route("/wallet", show, methods=["GET"]),
    Route("/wallet/history", history, methods=["GET"]),
    Route("/wallet/pending", pending, methods=["GET"]),
    Route("/wallet/unlock", unlock, methods=["POST"]),
    Route("/wallet/mints", add_mint, methods=["POST"]),
    Route("/wallet/mints/remove", remove_mint, methods=["POST"]),
    Route("/wallet/words", words, methods=["POST"]),
    Route("/wallet/invoices", invoice, methods=["POST"]),
    Route("/wallet/invoices/claim", claim, methods=["POST"]),
    Route("/wallet/receive", receive, methods=["POST"]),
    Route("/wallet/bill", bill, methods=["POST"]),
    Route("/wallet/pay", pay, methods=["POST"]),
    Route("/wallet/send", send, methods=["POST"]),
    Route("/wallet/token", token, methods=["POST"]),
    Route("/wallet/reclaim", reclaim, methods=["POST"]),
    Route("/wallet/settle", settle, methods=["POST"]),
    Route("/wallet/check", check, methods=["POST"]),
    Route("/wallet/restore", restore, methods=["POST"]),
]
