"""Routes that show the owner's wallet and look after it. The daemon holds the file.

What is changed is one entry on the log once it has happened. The seed is told over the UNIX socket
only, which does not leave the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.errors import FreeholdError, NotFoundError, WalletMissingError
from node.gateway.control import Control, control
from node.gateway.http import Body, Nothing, actor, check_local, query_int, read
from node.gateway.wallet_replies import (
    MintReply,
    OperationReply,
    RestoredReply,
    WalletReply,
)
from node.journal import Draft
from node.money import got_sat, translated
from node.types import JsonObject
from wallet.mint import mint_url

if TYPE_CHECKING:
    from node.money import Keeper
    from wallet.operations.results import Restored
    from wallet.store import MintRecord, Operation
    from wallet.wallet import Wallet

HISTORY_MAX = 10_000
Text = Annotated[str, Field(min_length=1, max_length=8192)]


class Unlock(Body):
    passphrase: Annotated[str, Field(max_length=4096)]


class AddMint(Body):
    url: Text
    spend: bool = True
    accept: bool = True


class RemoveMint(Body):
    url: Text
    force: bool = False


class Nwc(Body):
    uri: Annotated[str, Field(max_length=4096)] = ""


class Restore(Body):
    words: Annotated[str, Field(max_length=1000)] = ""
    mints: tuple[Text, ...] = ()


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
    if keeper.source is not None:
        reply["nwc"] = keeper.source.name
    if keeper.state in ("open", "stale"):
        wallet = keeper.wallet(stale=True)
        reply["balance_sat"] = wallet.balance() + wallet.balance("msat") // 1000
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
        of=operation.parent or operation.key.rpartition("/")[0],
    )


async def history(request: Request) -> Response:
    wallet = control(request).keeper.wallet(stale=True)
    limit = query_int(request, "limit", 50, HISTORY_MAX)
    before = request.query_params.get("before")
    if before is not None:
        check_known(wallet, before)
    found = wallet.history(limit, before)
    return JSONResponse({"operations": [operation_json(each) for each in found]})


def check_known(wallet: Wallet, operation: str) -> None:
    """Raises NotFoundError where the wallet has no operation of that id."""
    if wallet.operation(operation) is None:
        raise NotFoundError(
            f"the wallet has no operation {operation[:80]!r}",
            hint="`freehold wallet history` shows them; `freehold wallet pending`, what is open.",
        )


async def pending(request: Request) -> Response:
    wallet = control(request).keeper.wallet(stale=True)
    return JSONResponse(
        {
            "operations": [operation_json(each) for each in wallet.pending()],
            "outbox": [operation_json(each) for each in wallet.outbox()],
        }
    )


# ── mints, keys ─────────────────────────────────────────────────────────────────────────────


async def unlock(request: Request) -> Response:
    node, body = control(request), await read(request, Unlock)
    await node.keeper.unlock(body.passphrase)
    await note(request, "wallet.unlocked", {})
    await node.settling.telling.catch_up()
    return JSONResponse(wallet_reply(node))


async def add_mint(request: Request) -> Response:
    """Adds a mint. One that this seed may have been used at before is asked what it has of it: the
    wallet may be older than that, and secrets must not be used twice."""
    node, body = control(request), await read(request, AddMint)
    if node.keeper.state == "none":  # a slip makes none: another seed would be refused then
        await node.keeper.meet(body.url)
    is_new = node.keeper.state == "none"
    wallet = await node.keeper.make()
    known = {mint.url for mint in wallet.mints()}
    with translated():
        record = await wallet.add_mint(body.url, spend=body.spend, accept=body.accept)
    told: JsonObject = {"mint": record.url, "spend": record.spend, "accept": record.accept}
    told["made"] = is_new
    more = False
    if not is_new and record.url not in known:
        restored = await _ask_for_ours(wallet, record.url)
        record = next(mint for mint in wallet.mints() if mint.url == record.url)
        more = restored.more
        if found := _sats(restored.found):
            told["found_sat"] = found
    await note(request, "wallet.mint_added", told)
    return JSONResponse(_mint(record) | ({"more": True} if more else {}))


async def _ask_for_ours(wallet: Wallet, url: str) -> Restored:
    """Brings back what the seed has at a mint, or takes the mint off the list again."""
    try:
        with translated():
            return await wallet.restore(url)
    except FreeholdError:
        await wallet.remove_mint(url, force=True)
        raise


async def remove_mint(request: Request) -> Response:
    node, body = control(request), await read(request, RemoveMint)
    with translated():
        await node.keeper.wallet(stale=True).remove_mint(body.url, force=body.force)
    await note(request, "wallet.mint_removed", {"mint": body.url, "force": body.force})
    return JSONResponse({})


async def words(request: Request) -> Response:
    check_local(
        request,
        "the seed is told over the node's own socket only",
        hint="Run `freehold wallet backup` on the machine itself.",
    )
    await read(request, Nothing)
    wallet = control(request).keeper.wallet(stale=True)
    await note(request, "wallet.seed_shown", {})
    return JSONResponse({"words": wallet.words()})


async def nwc(request: Request) -> Response:
    """Connects the owner's other wallet, or forgets it."""
    node, body = control(request), await read(request, Nwc)
    is_new = node.keeper.state == "none"
    await node.keeper.connect_source(body.uri)
    if node.keeper.source:
        name = node.keeper.source.name
        await note(request, "wallet.nwc_connected", {"name": name, "made": is_new})
    else:
        name = ""
        await note(request, "wallet.nwc_ended", {"name": name})
    return JSONResponse({"nwc": name})


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
    if report.spent_elsewhere or report.back:
        told: JsonObject = {"spent_elsewhere": report.spent_elsewhere, "back": report.back}
        await note(request, "wallet.checked", told)
    return JSONResponse({**vars(report), "ok": report.ok})


async def restore(request: Request) -> Response:
    """Brings back what the seed has at the mints, and lets a wallet out of an archive pay again."""
    node, body = control(request), await read(request, Restore)
    if not body.words and node.keeper.state == "none":
        raise WalletMissingError(
            "this node has no wallet yet, so there is nothing to restore without its seed",
            hint="`freehold wallet restore --words` asks for it.",
        )
    with translated():
        for url in body.mints:
            mint_url(url)
    wallet = await node.keeper.make(body.words or None)
    away = [problem for url in body.mints if (problem := await _missing(wallet, url))]
    urls = [mint.url for mint in wallet.mints()]
    await note(request, "wallet.restoring", {"mints": [*urls]})
    found = [await _restored(node, url) for url in urls]
    found += [each for each in away if each["mint"] not in urls]
    if await reconciled(node.keeper, found) and not node.runs.stopped:
        await node.settling.once()
    told: JsonObject = {"mints": cast("JsonObject", {each["mint"]: each for each in found})}
    await note(request, "wallet.restored", told)
    return JSONResponse({"mints": found, "state": node.keeper.state})


async def reconciled(keeper: Keeper, found: Sequence[RestoredReply]) -> bool:
    """Lets the wallet pay, if each mint said what is new to the file, and now says what of the
    file's is spent; what one did not say becomes its problem."""
    if any(each["problem"] for each in found):
        return False
    with translated():
        silent = (await keeper.wallet(stale=True).check()).unreachable
    for each in found:
        if each["mint"] in silent:
            each["problem"] = "it did not say what of the ecash here is spent; restore again"
    if any(each["problem"] for each in found):
        return False
    keeper.reconciled()
    return True


async def _missing(wallet: Wallet, url: str) -> RestoredReply | None:
    """Adds a mint to be asked; what to say of it where that cannot be done."""
    try:
        with translated():
            await wallet.add_mint(url)
    except FreeholdError as error:
        problem = f"{error.message}; restore again with --mint {url}"
        return RestoredReply(mint=mint_url(url), found_sat=0, proofs=0, problem=problem)
    return None


async def _restored(node: Control, mint: str) -> RestoredReply:
    try:
        with translated():
            found = await node.keeper.wallet(stale=True).restore(mint)
    except FreeholdError as error:
        return RestoredReply(mint=mint, found_sat=0, proofs=0, problem=error.message)
    problem = "there may be more; restore again to go on" if found.more else ""
    return RestoredReply(
        mint=mint, found_sat=_sats(found.found), proofs=found.proofs, problem=problem
    )


def _sats(found: Mapping[str, int]) -> int:
    return sum(got_sat(amount, unit) for unit, amount in found.items())


async def note(request: Request, kind: str, data: JsonObject) -> None:
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
    Route("/wallet/nwc", nwc, methods=["POST"]),
    Route("/wallet/settle", settle, methods=["POST"]),
    Route("/wallet/check", check, methods=["POST"]),
    Route("/wallet/restore", restore, methods=["POST"]),
]
