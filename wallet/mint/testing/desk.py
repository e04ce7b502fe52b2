"""Which request is answered by what: the paths of the mint in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from wallet.mint.testing import answers, asked
from wallet.mint.testing.ledger import Ledger
from wallet.mint.testing.quotes import Quotes
from wallet.mint.testing.refused import Refused
from wallet.types import TransportRequest

_MINT_QUOTE = "/v1/mint/quote/bolt11"
_MELT_QUOTE = "/v1/melt/quote/bolt11"


class Desk:
    """Answers requests from the books. `without` are NUTs it does not know."""

    def __init__(self, name: str, ledger: Ledger, quotes: Quotes, without: Collection[int]) -> None:
        self._name, self._ledger, self._quotes, self._without = name, ledger, quotes, without
        self._posts: dict[str, tuple[int, Callable[[bytes | None], Any]]] = {
            "/v1/swap": (3, self._swap),
            _MINT_QUOTE: (4, self._request_mint),
            "/v1/mint/bolt11": (4, self._mint),
            f"{_MINT_QUOTE}/check": (29, self._check_quotes),
            "/v1/mint/bolt11/batch": (29, self._mint_batch),
            _MELT_QUOTE: (5, self._request_melt),
            "/v1/melt/bolt11": (5, self._melt),
            "/v1/checkstate": (7, self._check),
            "/v1/restore": (9, self._restore),
        }

    def answer(self, request: TransportRequest) -> Any:
        """The JSON value of a success; raises Refused."""
        if request.method == "GET":
            return self._look_up(request.path)
        nut, act = self._posts.get(request.path, (0, None))
        if act is None or nut in self._without:
            raise Refused(0, "Not Found", 404)
        return act(request.body)

    def state(self, kind: str, name: str) -> Any:
        """The present state of what a subscription is about (NUT-17); None: there is no such."""
        if kind == "proof_state":
            y = bytes.fromhex(name)
            witness = self._ledger.spent.get(y)
            return {"Y": name, "state": self._ledger.state(y).value, "witness": witness}
        if kind == "bolt11_mint_quote":
            mint = self._quotes.mints.get(name)
            return mint and answers.mint_quote(mint)
        melt = self._quotes.melts.get(name)
        return melt and answers.melt_quote(melt)

    # ── questions ───────────────────────────────────────────────────────────────────────────

    def _look_up(self, path: str) -> Any:
        folder, _, last = path.rpartition("/")
        lookups: dict[str, Callable[[str], Any]] = {
            "/v1": self._front,
            "/v1/keys": self._keys,
            _MINT_QUOTE: lambda each: answers.mint_quote(self._quotes.mint_quote(each)),
            _MELT_QUOTE: lambda each: answers.melt_quote(self._quotes.melt_quote(each)),
        }
        if folder not in lookups:
            raise Refused(0, "Not Found", 404)
        return lookups[folder](last)

    def _front(self, page: str) -> Any:
        keysets = tuple(self._ledger.keysets.values())
        if page == "info":
            return answers.announced(self._name, self._without, [k.info.unit for k in keysets])
        if page == "keysets":
            return {"keysets": [answers.keyset(each) for each in keysets]}
        if page == "keys":
            active = [each for each in keysets if each.info.active]
            return {"keysets": [answers.keyset(each, keys=True) for each in active]}
        raise Refused(0, "Not Found", 404)

    def _keys(self, keyset_id: str) -> Any:
        keyset = self._ledger.keysets.get(keyset_id)
        if keyset is None:
            raise Refused(12001, f"keyset not found: {keyset_id}")
        return {"keysets": [answers.keyset(keyset, keys=True)]}

    def _check(self, body: bytes | None) -> Any:
        ys = asked.read(asked.Check, body).Ys
        if len(ys) > asked.MOST:
            raise Refused(11014, "Max inputs exceeded")
        return {"states": [self.state("proof_state", each) for each in ys]}

    def _restore(self, body: bytes | None) -> Any:
        outputs = asked.messages(asked.read(asked.Restore, body).outputs)
        signed = self._ledger.signed
        known = [each for each in outputs if each.b in signed]
        return {
            "outputs": [answers.output(each) for each in known],
            "signatures": [answers.blind_signature(signed[each.b]) for each in known],
        }

    def _check_quotes(self, body: bytes | None) -> Any:
        found = asked.read(asked.QuotesCheck, body).quotes
        return [answers.mint_quote(self._quotes.mint_quote(each)) for each in found]

    # ── acts ────────────────────────────────────────────────────────────────────────────────

    def _swap(self, body: bytes | None) -> Any:
        swap = asked.read(asked.Swap, body)
        inputs, outputs = asked.proofs(swap.inputs), asked.messages(swap.outputs)
        self._ledger.verify(inputs, outputs)
        given = sum(proof.amount for proof in inputs) - self._ledger.fee(inputs)
        if given != sum(each.amount for each in outputs):
            raise Refused(11005, "inputs - fees do not equal outputs")
        signatures = self._ledger.sign(outputs)
        self._ledger.spend(inputs)
        return answers.signatures(signatures)

    def _request_mint(self, body: bytes | None) -> Any:
        asks = asked.read(asked.MintQuoteRequest, body)
        locked = asks.pubkey is not None and 20 not in self._without
        quote = self._quotes.request_mint(
            asks.amount,
            asks.unit,
            pubkey=bytes.fromhex(asks.pubkey or "") if locked else None,
            description=asks.description or "",
        )
        return answers.mint_quote(quote)

    def _mint(self, body: bytes | None) -> Any:
        mint = asked.read(asked.Mint, body)
        outputs = asked.messages(mint.outputs)
        return answers.signatures(self._quotes.mint(mint.quote, outputs, mint.signature))

    def _mint_batch(self, body: bytes | None) -> Any:
        batch = asked.read(asked.MintBatch, body)
        outputs = asked.messages(batch.outputs)
        return answers.signatures(
            self._quotes.mint_batch(batch.quotes, outputs, batch.quote_amounts, batch.signatures)
        )

    def _request_melt(self, body: bytes | None) -> Any:
        asks = asked.read(asked.MeltQuoteRequest, body)
        options = asks.options or asked.MeltOptions()
        if options.mpp is not None and 15 in self._without:
            raise Refused(0, "mint does not support MPP")
        quote = self._quotes.request_melt(
            asks.request,
            asks.unit,
            part_msat=options.mpp.amount if options.mpp else None,
            amount_msat=options.amountless.amount_msat if options.amountless else None,
        )
        return answers.melt_quote(quote)

    def _melt(self, body: bytes | None) -> Any:
        melt = asked.read(asked.Melt, body)
        inputs, outputs = asked.proofs(melt.inputs), asked.messages(melt.outputs)
        return answers.melt_quote(self._quotes.melt(melt.quote, inputs, outputs))
