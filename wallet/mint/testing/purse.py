"""The least that holds ecash: somebody to pay, and to be paid by, in tests.

Nothing is stored and nothing is settled later; secrets are random. It speaks to any mint, the real
ones too.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence

from wallet.mint.client import MintClient
from wallet.protocol import p2pk, quotes, witness
from wallet.protocol.curve import public, random_scalar
from wallet.protocol.keysets import fee, split
from wallet.protocol.outputs import blank_count, finish, finish_blank, output
from wallet.protocol.p2pk import Lock
from wallet.types import Keyset, KeysetInfo, MeltQuote, Output, Proof, Unit

Pay = Callable[[str], Awaitable[object] | object]


class Purse:
    """Ecash of one unit at one mint.

    Args:
        pay: pays an invoice on the mint's network; None where the mint's backend does by itself.
    """

    def __init__(self, mint: MintClient, *, unit: Unit = "sat", pay: Pay | None = None) -> None:
        self.mint, self.unit = mint, unit
        self._pay = pay
        self._infos: dict[str, KeysetInfo] = {}

    async def keyset(self) -> Keyset:
        """The active keyset of the unit, its list loaded anew."""
        infos = await self.mint.keysets()
        self._infos = {info.id: info for info in infos}
        active = [info for info in infos if info.active and info.unit == self.unit]
        return await self.mint.keys(active[0])

    async def outputs(self, amount: int, *, lock: Lock | None = None) -> tuple[Output, ...]:
        """Outputs for an amount, in the fewest parts; with new secrets, locked where asked."""
        keyset = await self.keyset()
        return tuple(
            output(part, keyset.id, _secret(lock), random_scalar())
            for part in split(amount, tuple(keyset.keys))
        )

    async def fill(self, amount: int, *, lock: Lock | None = None) -> tuple[Proof, ...]:
        """New ecash for an invoice that is paid at once, through a locked quote (NUT-04, 20)."""
        private = random_scalar()
        quote = await self.mint.request_mint(amount, self.unit, pubkey=public(private))
        await self.pay(quote.request)
        made = await self.outputs(amount, lock=lock)
        messages = [each.message for each in made]
        signature = quotes.sign(quote.id, messages, private) if quote.pubkey else None
        signed = await self.mint.mint(quote.id, messages, signature=signature)
        return finish(made, signed, await self.keyset(), require_dleq=True)

    async def pay(self, request: str) -> None:
        """Somebody pays an invoice."""
        done = self._pay(request) if self._pay is not None else None
        if isinstance(done, Awaitable):
            await done

    async def redeem(
        self,
        proofs: Sequence[Proof],
        *,
        keys: Iterable[bytes] = (),
        preimage: bytes | None = None,
        lock: Lock | None = None,
    ) -> tuple[Proof, ...]:
        """New ecash for what was received, less the fee (NUT-03); opens its locks (NUT-11, 14)."""
        await self.keyset()
        made = await self.outputs(self.after_fee(proofs), lock=lock)
        messages = [each.message for each in made]
        inputs = witness.sign(proofs, messages, keys, preimage=preimage)
        signed = await self.mint.swap(inputs, messages)
        return finish(made, signed, await self.keyset(), require_dleq=True)

    async def melt(
        self, request: str, proofs: Sequence[Proof]
    ) -> tuple[MeltQuote, tuple[Proof, ...]]:
        """Pays an invoice with all of the proofs (NUT-05): the quote, and the change (NUT-08)."""
        quote = await self.mint.request_melt(request, self.unit)
        keyset = await self.keyset()
        most = self.after_fee(proofs) - quote.amount
        blanks = [
            output(1, keyset.id, _secret(None), random_scalar()) for _ in range(blank_count(most))
        ]
        paid = await self.mint.melt(quote.id, proofs, [each.message for each in blanks])
        return paid, finish_blank(blanks, paid.change, keyset, require_dleq=True)

    def after_fee(self, proofs: Sequence[Proof]) -> int:
        """What is left of proofs when they are spent (NUT-02)."""
        return sum(each.amount for each in proofs) - fee(self._infos[p.id] for p in proofs)


def _secret(lock: Lock | None) -> str:
    return p2pk.secret(lock) if lock is not None else secrets.token_hex(32)
