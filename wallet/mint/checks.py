"""Whether an answer answers the question: counts, amounts, keysets, units, whose state it is."""

from __future__ import annotations

from collections.abc import Sequence

from wallet.errors import MintMisbehavedError
from wallet.mint.replies import (
    MeltQuoteReply,
    MintQuoteReply,
    RestoreReply,
    SignatureReply,
    StatesReply,
    misbehaved,
)
from wallet.types import (
    BlindedMessage,
    BlindSignature,
    MeltQuote,
    MeltQuoteState,
    MintQuote,
    Proof,
    ProofState,
)


class Checks:
    """The checks, for one mint. All raise MintMisbehavedError."""

    def __init__(self, url: str) -> None:
        self._url = url

    def signatures(
        self, replies: Sequence[SignatureReply], outputs: Sequence[BlindedMessage]
    ) -> tuple[BlindSignature, ...]:
        """One signature an output, for its amount and by its keyset."""
        if len(replies) != len(outputs):
            raise self._wrong(f"it signed {len(replies)} of {len(outputs)} outputs")
        for reply, output in zip(replies, outputs, strict=True):
            if reply.amount != output.amount or reply.id != output.id:
                raise self._wrong(
                    f"it signed an output of {output.amount} in keyset {output.id} as "
                    f"{reply.amount} in {reply.id}"
                )
        return tuple(reply.value() for reply in replies)

    def new_mint_quote(
        self, reply: MintQuoteReply, amount: int, unit: str, pubkey: bytes | None
    ) -> MintQuote:
        """A quote for what was asked; one that is locked is locked to the key that was given."""
        quote = reply.value()
        if (quote.amount, quote.unit) != (amount, unit):
            raise self._wrong(
                f"asked for a quote of {amount} {unit}, it gave one of {quote.amount} {quote.unit}"
            )
        if quote.pubkey not in (None, pubkey):
            raise self._wrong("it locked a quote to another key")
        return quote

    def mint_quote(self, reply: MintQuoteReply, quote_id: str) -> MintQuote:
        """The quote that was asked about."""
        if reply.quote != quote_id:
            raise self._wrong("asked about one mint quote, it answered about another")
        return reply.value()

    def mint_quotes(
        self, replies: Sequence[MintQuoteReply], quote_ids: Sequence[str]
    ) -> tuple[MintQuote, ...]:
        """Those that were asked about, in order."""
        if [reply.quote for reply in replies] != list(quote_ids):
            raise self._wrong("asked about some mint quotes, it answered about others")
        return tuple(reply.value() for reply in replies)

    def new_melt_quote(
        self, reply: MeltQuoteReply, request: str, unit: str, asked_msat: int | None
    ) -> MeltQuote:
        """A quote to pay that invoice from that unit, for the amount asked where one was."""
        quote = reply.value()
        if quote.request.lower() != request.lower() or quote.unit != unit:
            raise self._wrong("asked for a quote to pay an invoice, it gave one for another")
        if asked_msat is not None and not _is_worth(quote.amount, unit, asked_msat):
            raise self._wrong(
                f"asked to pay {asked_msat} msat, it gave a quote of {quote.amount} {unit}"
            )
        if quote.change:
            raise self._wrong("it gave change before a payment")
        return quote

    def melt_quote(self, reply: MeltQuoteReply, quote_id: str) -> MeltQuote:
        """The quote that was asked about; change comes with a payment only."""
        if reply.quote != quote_id:
            raise self._wrong("asked about one melt quote, it answered about another")
        quote = reply.value()
        if quote.change and quote.state != MeltQuoteState.PAID:
            raise self._wrong(f"it gave change for a melt quote that is {quote.state}")
        return quote

    def melted(
        self,
        reply: MeltQuoteReply,
        quote_id: str,
        inputs: Sequence[Proof],
        outputs: Sequence[BlindedMessage],
    ) -> MeltQuote:
        """The quote, with change for the first of the blank outputs and no more than was paid."""
        quote = self.melt_quote(reply, quote_id)
        if len(quote.change) > len(outputs):
            raise self._wrong(f"it gave {len(quote.change)} change for {len(outputs)} outputs")
        for signature, output in zip(quote.change, outputs, strict=False):
            if signature.id != output.id:
                raise self._wrong(f"it gave change in keyset {signature.id}, not {output.id}")
        given, change = sum(each.amount for each in inputs), sum(c.amount for c in quote.change)
        if quote.state == MeltQuoteState.PAID and quote.amount + change > given:
            raise self._wrong(f"of {given} it paid {quote.amount} and gave {change} back")
        return quote

    def states(self, reply: StatesReply, ys: Sequence[bytes]) -> tuple[ProofState, ...]:
        """A state for each Y, in their order."""
        states = {bytes.fromhex(each.Y): each.state for each in reply.states}
        if len(reply.states) != len(ys) or not all(y in states for y in ys):
            raise self._wrong(f"asked about {len(ys)} proofs, it answered about others")
        return tuple(states[y] for y in ys)

    def restored(
        self, reply: RestoreReply, outputs: Sequence[BlindedMessage]
    ) -> tuple[tuple[BlindedMessage, BlindSignature], ...]:
        """Outputs that were asked about, each at most once, with the signature it once got."""
        asked = {output.b: output for output in outputs}
        if len(reply.outputs) != len(reply.signatures):
            raise self._wrong("it restored more outputs than signatures, or fewer")
        found = []
        for restored, signed in zip(reply.outputs, reply.signatures, strict=True):
            output = asked.pop(bytes.fromhex(restored.B_), None)
            if output is None or output.id != signed.id:
                raise self._wrong("it restored an output that was not asked about, or another's")
            found.append((output, signed.value()))
        return tuple(found)

    def _wrong(self, what: str) -> MintMisbehavedError:
        return misbehaved(self._url, what)


def _is_worth(amount: int, unit: str, msat: int) -> bool:
    """Whether an amount is so many msat; a part of a sat may be left out or rounded up."""
    if unit == "msat":
        return amount == msat
    return amount in (msat // 1000, -(-msat // 1000))
