"""What a mint can be asked, each answer compared with the question (NUT-01 to 09, 15, 20, 23, 29).

Reading (`wallet.mint.replies`) says that an answer is one of the protocol's; `wallet.mint.checks`
that it answers this request. What does not fit is a MintMisbehavedError, which is an unknown
outcome: a mint that answers wrongly may have acted. Signatures themselves are checked when they
are unblinded (`wallet.protocol.outputs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote as escaped

from wallet.errors import UnsupportedError, VerificationError
from wallet.mint import limits, updates, wire
from wallet.mint.checks import Checks
from wallet.mint.exchange import Exchange
from wallet.mint.info import InfoReply, MintInfo, read_info
from wallet.mint.limits import PATIENCE, Patience
from wallet.mint.replies import (
    AllKeysReply,
    KeysetsReply,
    MeltQuoteReply,
    MintQuoteReply,
    MintQuotesReply,
    Reply,
    RestoreReply,
    SignaturesReply,
    StatesReply,
    misbehaved,
)
from wallet.mint.urls import mint_url
from wallet.protocol import keysets as keyset_rules
from wallet.types import (
    BlindedMessage,
    BlindSignature,
    Keyset,
    KeysetInfo,
    MeltQuote,
    MintQuote,
    Proof,
    ProofState,
    Transport,
    Unit,
)

M = TypeVar("M", bound=Reply)
T = TypeVar("T")


class MintClient:
    """One mint. Amounts are in the unit of the quote or keyset.

    What asks the mint raises MintUnreachableError (nothing arrived), MintError (the mint said no),
    OutcomeUnknownError or MintMisbehavedError (see `wallet.errors`).

    Args:
        transport: how requests get there; one with a `socket` is used for updates too.
        patience: how long updates may be silent, and how often states are asked for.
    """

    def __init__(
        self,
        url: str,
        transport: Transport,
        *,
        patience: Patience = PATIENCE,
        sleep: updates.Sleep = asyncio.sleep,
    ) -> None:
        self.url = mint_url(url)
        self._mint = Exchange(self.url, transport)
        self._checks = Checks(self.url)
        self._patience = patience
        self._sleep = sleep

    # ── the mint itself ─────────────────────────────────────────────────────────────────────

    async def info(self) -> MintInfo:
        """What the mint says of itself (NUT-06); it is remembered, for NUT-19 and NUT-17."""
        self._mint.info = read_info(await self._mint.get("/v1/info", InfoReply, "its info"))
        return self._mint.info

    async def keysets(self) -> tuple[KeysetInfo, ...]:
        """All keysets it has or had (NUT-02). Those with ids of unknown versions are left out."""
        reply = await self._mint.get("/v1/keysets", KeysetsReply, "its keysets")
        found = tuple(each.value() for each in reply.keysets if _is_known(each.id))
        if len({each.id for each in found}) != len(found):
            raise misbehaved(self.url, "it lists a keyset twice")
        return found

    async def keys(self, keyset: KeysetInfo) -> Keyset:
        """A keyset's public keys, from which its id must follow (NUT-01, NUT-02)."""
        path = f"/v1/keys/{escaped(keyset.id, safe='')}"
        reply = await self._mint.get(path, AllKeysReply, "a keyset's keys")
        found = [each for each in reply.keysets if each.id == keyset.id]
        if len(found) != 1:
            raise misbehaved(self.url, f"asked for the keys of {keyset.id}, it gave others")
        try:
            return keyset_rules.checked(keyset, found[0].value())
        except VerificationError as error:
            raise misbehaved(self.url, error.message) from error

    # ── ecash for ecash ─────────────────────────────────────────────────────────────────────

    async def swap(
        self, inputs: Sequence[Proof], outputs: Sequence[BlindedMessage]
    ) -> tuple[BlindSignature, ...]:
        """Spends the inputs for signatures over the outputs, in order (NUT-03)."""
        body = wire.body({"inputs": wire.inputs(inputs), "outputs": wire.outputs(outputs)})
        reply = await self._mint.post("/v1/swap", body, SignaturesReply, "a swap")
        return self._checks.signatures(reply.signatures, outputs)

    async def check(self, ys: Sequence[bytes]) -> tuple[ProofState, ...]:
        """The state of each proof (NUT-07), asked for in parts where there are many."""
        states: list[ProofState] = []
        for part in _parts(ys):
            body = wire.body({"Ys": [y.hex() for y in part]})
            reply = await self._mint.post("/v1/checkstate", body, StatesReply, "proofs' states")
            states += self._checks.states(reply, part)
        return tuple(states)

    async def restore(
        self, outputs: Sequence[BlindedMessage]
    ) -> tuple[tuple[BlindedMessage, BlindSignature], ...]:
        """Which of the outputs it signed, and how (NUT-09). The amount is the signature's."""
        found: list[tuple[BlindedMessage, BlindSignature]] = []
        for part in _parts(outputs):
            body = wire.body({"outputs": wire.outputs(part)})
            reply = await self._mint.post("/v1/restore", body, RestoreReply, "a restore")
            found += self._checks.restored(reply, part)
        return tuple(found)

    # ── ecash for an invoice paid to the mint ───────────────────────────────────────────────

    async def request_mint(
        self, amount: int, unit: Unit, *, pubkey: bytes | None = None, description: str = ""
    ) -> MintQuote:
        """Asks for an invoice (NUT-04, NUT-23). With `pubkey` the quote is locked to it (NUT-20);
        the quote's `pubkey` is None where the mint does not do that."""
        fields = {
            "amount": amount,
            "unit": unit,
            "description": description or None,
            "pubkey": pubkey.hex() if pubkey else None,
        }
        reply = await self._quote("/v1/mint/quote/bolt11", fields, MintQuoteReply)
        return self._checks.new_mint_quote(reply, amount, unit, pubkey)

    async def mint_quote(self, quote_id: str) -> MintQuote:
        """A mint quote's present state."""
        path = f"/v1/mint/quote/bolt11/{escaped(quote_id, safe='')}"
        reply = await self._mint.get(path, MintQuoteReply, "a mint quote")
        return self._checks.mint_quote(reply, quote_id)

    async def mint(
        self, quote_id: str, outputs: Sequence[BlindedMessage], *, signature: str | None = None
    ) -> tuple[BlindSignature, ...]:
        """Signatures over the outputs for a paid quote (NUT-04); `signature` by its key, in hex,
        where it is locked (NUT-20)."""
        body = wire.body(
            {"quote": quote_id, "outputs": wire.outputs(outputs), "signature": signature}
        )
        reply = await self._mint.post("/v1/mint/bolt11", body, SignaturesReply, "ecash")
        return self._checks.signatures(reply.signatures, outputs)

    async def mint_quotes(self, quote_ids: Sequence[str]) -> tuple[MintQuote, ...]:
        """The present state of several mint quotes at once (NUT-29)."""
        body = wire.body({"quotes": list(quote_ids)})
        path = "/v1/mint/quote/bolt11/check"
        reply = await self._mint.post(path, body, MintQuotesReply, "mint quotes")
        return self._checks.mint_quotes(reply.quotes, quote_ids)

    async def mint_batch(
        self,
        quotes: Mapping[str, int],
        outputs: Sequence[BlindedMessage],
        *,
        signatures: Mapping[str, str] | None = None,
    ) -> tuple[BlindSignature, ...]:
        """Signatures over the outputs for several paid quotes at once (NUT-29).

        Args:
            quotes: their ids and amounts.
            signatures: by the key of each locked quote (NUT-20), over all outputs.

        Raises:
            UnsupportedError: `info` said that the mint does not do so many at once.
        """
        info = self._mint.info
        if info is not None and (info.batch_size or 0) < len(quotes):
            raise UnsupportedError(
                f"mint {self.url} does not mint {len(quotes)} quotes at once",
                hint="Mint them one by one.",
            )
        body = wire.body(
            {
                "quotes": list(quotes),
                "quote_amounts": list(quotes.values()),
                "outputs": wire.outputs(outputs),
                "signatures": [signatures.get(each) for each in quotes] if signatures else None,
            }
        )
        reply = await self._mint.post("/v1/mint/bolt11/batch", body, SignaturesReply, "ecash")
        return self._checks.signatures(reply.signatures, outputs)

    # ── an invoice paid by the mint for ecash ───────────────────────────────────────────────

    async def request_melt(
        self,
        request: str,
        unit: Unit,
        *,
        mpp_msat: int | None = None,
        amount_msat: int | None = None,
    ) -> MeltQuote:
        """Asks what paying an invoice costs (NUT-05, NUT-23).

        Args:
            mpp_msat: pay this part of it only (NUT-15).
            amount_msat: what to pay of an invoice without an amount.

        Raises:
            UnsupportedError: `info` said that the mint does not do that.
        """
        self._refuse_melt(unit, mpp_msat, amount_msat)
        options: dict[str, object] | None = None
        if mpp_msat is not None:
            options = {"mpp": {"amount": mpp_msat}}
        elif amount_msat is not None:
            options = {"amountless": {"amount_msat": amount_msat}}
        fields = {"request": request, "unit": unit, "options": options}
        reply = await self._quote("/v1/melt/quote/bolt11", fields, MeltQuoteReply)
        asked_msat = amount_msat if mpp_msat is None else mpp_msat
        return self._checks.new_melt_quote(reply, request, unit, asked_msat)

    async def melt_quote(self, quote_id: str) -> MeltQuote:
        """A melt quote's present state, with the change where it is paid (NUT-08)."""
        path = f"/v1/melt/quote/bolt11/{escaped(quote_id, safe='')}"
        reply = await self._mint.get(path, MeltQuoteReply, "a melt quote")
        return self._checks.melt_quote(reply, quote_id)

    async def melt(
        self, quote_id: str, inputs: Sequence[Proof], outputs: Sequence[BlindedMessage]
    ) -> MeltQuote:
        """Pays with the inputs (NUT-05); `outputs` are blank, for what is left (NUT-08)."""
        body = wire.body(
            {
                "quote": quote_id,
                "inputs": wire.inputs(inputs),
                "outputs": wire.outputs(outputs) or None,
            }
        )
        reply = await self._mint.post("/v1/melt/bolt11", body, MeltQuoteReply, "a payment")
        return self._checks.melted(reply, quote_id, inputs, outputs)

    # ── changes as they happen ──────────────────────────────────────────────────────────────

    def watch(self, quote_id: str) -> AsyncGenerator[MintQuote, None]:
        """The present state of a mint quote, then each change, without end.

        By websocket where the transport has one and `info` said so (NUT-17), else by asking. Use
        it in `contextlib.aclosing`, and under a timeout of your own.
        """
        transport = self._mint.transport
        told = self._mint.info is not None and updates.KIND in self._mint.info.updates
        return updates.changes(
            quote_id,
            lambda: self.mint_quote(quote_id),
            transport if told and isinstance(transport, updates.Subscribes) else None,
            patience=self._patience,
            sleep=self._sleep,
        )

    async def aclose(self) -> None:
        """Lets go of the transport."""
        await self._mint.transport.aclose()

    # ────────────────────────────────────────────────────────────────────────────────────────

    async def _quote(self, path: str, fields: Mapping[str, object], model: type[M]) -> M:
        return await self._mint.post(path, wire.body(fields), model, "a quote")

    def _refuse_melt(self, unit: str, mpp_msat: int | None, amount_msat: int | None) -> None:
        if mpp_msat is not None and amount_msat is not None:
            raise UnsupportedError("part of an invoice that names no amount cannot be paid")
        info = self._mint.info
        method = info.melt_method(unit) if info is not None else None
        if info is not None and mpp_msat is not None and not info.multipath(unit):
            raise UnsupportedError(
                f"mint {self.url} does not pay invoices in part (NUT-15)",
                hint="Pay the whole invoice from one mint.",
            )
        if method is not None and amount_msat is not None and not method.amountless:
            raise UnsupportedError(
                f"mint {self.url} does not pay invoices that name no amount",
                hint="Ask for an invoice with an amount.",
            )


def _is_known(keyset_id: str) -> bool:
    try:
        keyset_rules.version_of(keyset_id)
    except UnsupportedError:
        return False
    return True


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """At most so many as mints take at once; nothing where there is nothing to ask."""
    for start in range(0, len(items), limits.ASK_AT_ONCE):
        yield items[start : start + limits.ASK_AT_ONCE]
