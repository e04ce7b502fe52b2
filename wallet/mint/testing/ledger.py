"""The books of the mint in memory: keysets, what was signed, what was spent (NUT-00, 02, 03, 12).

The arithmetic is a real mint's, with real keys: nothing passes here that Nutshell would refuse.
`issued` and `redeemed` are what tests hold the wallet's balance against.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from wallet.errors import WalletError
from wallet.mint.testing.refused import Refused
from wallet.protocol import curve, dleq, witness
from wallet.protocol.keysets import checked, fee, keyset_id, split
from wallet.types import BlindedMessage, BlindSignature, KeysetInfo, Proof, ProofState


@dataclass(frozen=True)
class SecretKeyset:
    """A keyset with the mint's private keys by amount."""

    info: KeysetInfo
    private: dict[int, bytes] = field(repr=False)
    public: dict[int, bytes]


class Ledger:
    """Keysets, signatures and spent proofs.

    Args:
        seed: private keys come from it, so that a mint can be made again.
        bits: amounts are powers of two below 2**bits.
        now: Unix seconds.
    """

    def __init__(self, *, seed: bytes, bits: int, now: Callable[[], float]) -> None:
        self._seed, self._bits, self._now = seed, bits, now
        self.keysets: dict[str, SecretKeyset] = {}
        self.spent: dict[bytes, str | None] = {}  # Y: witness
        self.pending: dict[bytes, str] = {}  # Y: melt quote
        self.promised: dict[bytes, str] = {}  # B_: melt quote
        self.signed: dict[bytes, BlindSignature] = {}  # B_
        self.issued: Counter[str] = Counter()
        self.redeemed: Counter[str] = Counter()

    # ── keysets ─────────────────────────────────────────────────────────────────────────────

    def add_keyset(
        self, unit: str, *, version: int, fee_ppk: int, final_expiry: int | None = None
    ) -> str:
        """A new active keyset; the unit's others become inactive. Its id."""
        for old in self.keysets.values():
            if old.info.unit == unit:
                self.keysets[old.info.id] = replace(old, info=replace(old.info, active=False))
        number = len(self.keysets)
        private = {2**bit: self._key(number, bit) for bit in range(self._bits)}
        public = {amount: curve.public(key) for amount, key in private.items()}
        identity = keyset_id(
            public, unit=unit, final_expiry=final_expiry, input_fee_ppk=fee_ppk, version=version
        )
        info = KeysetInfo(identity, unit, True, fee_ppk, final_expiry)
        checked(info, public)
        self.keysets[identity] = SecretKeyset(info, private, public)
        return identity

    def active(self, unit: str) -> SecretKeyset:
        """The keyset that signs for a unit."""
        return next(k for k in self.keysets.values() if k.info.active and k.info.unit == unit)

    def _key(self, number: int, bit: int) -> bytes:
        digest = hmac.digest(self._seed, b"key %d %d" % (number, bit), "sha256")
        return curve.random_scalar(lambda _: digest + digest[:16])

    # ── what a transaction must be ──────────────────────────────────────────────────────────

    def verify(
        self,
        inputs: Sequence[Proof],
        outputs: Sequence[BlindedMessage],
        *,
        quote: str | None = None,
    ) -> str:
        """Refuses inputs that cannot be spent, and outputs that cannot be signed. The unit."""
        ys = [curve.y_of(proof.secret) for proof in inputs]
        if len(set(ys)) < len(ys):
            raise Refused(11007, "Duplicate inputs provided")
        for proof, y in zip(inputs, ys, strict=True):
            self._verify_input(proof, y)
        units = {self.keysets[proof.id].info.unit for proof in inputs}
        if len(units) != 1:
            raise Refused(11009, "Inputs of multiple units")
        unit = units.pop()
        self.verify_outputs(outputs, unit)
        try:
            witness.check(inputs, outputs, now=self._now(), quote=quote)
        except WalletError as error:
            raise Refused(10001, error.message) from None
        return unit

    def verify_outputs(self, outputs: Sequence[BlindedMessage], unit: str) -> None:
        """Refuses outputs that cannot be signed in a unit."""
        if len({output.b for output in outputs}) < len(outputs):
            raise Refused(11008, "Duplicate outputs provided")
        for output in outputs:
            keyset = self._keyset(output.id)
            if not keyset.info.active:
                raise Refused(12002, "keyset is inactive, cannot sign messages")
            if keyset.info.unit != unit:
                raise Refused(11010, "Inputs and outputs not of same unit")
            if output.b in self.signed:
                raise Refused(11003, "outputs already signed")
            if output.b in self.promised:
                raise Refused(11004, "outputs are pending")
            if not curve.is_point(output.b):
                raise Refused(0, "B_ is not a point")

    def fee(self, inputs: Sequence[Proof]) -> int:
        """What spending them costs (NUT-02)."""
        return fee(self.keysets[proof.id].info for proof in inputs)

    def _verify_input(self, proof: Proof, y: bytes) -> None:
        key = self._keyset(proof.id).private.get(proof.amount)
        if key is None or not curve.is_point(proof.c) or curve.sign(y, key) != proof.c:
            raise Refused(10001, "proof verification failed")
        if y in self.spent:
            raise Refused(11001, "Token already spent.")
        if y in self.pending:
            raise Refused(11002, "proofs are pending")

    def _keyset(self, identity: str) -> SecretKeyset:
        found = self.keysets.get(identity)
        if found is None:
            raise Refused(12001, f"keyset not found: {identity}")
        if found.info.final_expiry is not None and self._now() > found.info.final_expiry:
            raise Refused(12003, "keyset has expired")
        return found

    # ── what it does ────────────────────────────────────────────────────────────────────────

    def spend(self, inputs: Sequence[Proof]) -> None:
        """Takes verified inputs in."""
        for proof in inputs:
            y = curve.y_of(proof.secret)
            self.pending.pop(y, None)
            self.spent[y] = proof.witness
            self.redeemed[self.keysets[proof.id].info.unit] += proof.amount

    def sign(self, outputs: Sequence[BlindedMessage]) -> tuple[BlindSignature, ...]:
        """Signs verified outputs."""
        keys = [self.keysets[output.id].private.get(output.amount) for output in outputs]
        if None in keys:
            raise Refused(11006, "the keyset has no key for an amount")
        return tuple(self._sign(output) for output in outputs)

    def sign_change(
        self, outputs: Sequence[BlindedMessage], amount: int
    ) -> tuple[BlindSignature, ...]:
        """Signs as many blank outputs as an amount needs, the largest if they are few (NUT-08)."""
        if amount <= 0 or not outputs:
            return ()
        parts = split(amount, tuple(self.keysets[outputs[0].id].private))[-len(outputs) :]
        return self.sign([replace(o, amount=part) for o, part in zip(outputs, parts, strict=False)])

    def state(self, y: bytes) -> ProofState:
        """NUT-07."""
        if y in self.spent:
            return ProofState.SPENT
        return ProofState.PENDING if y in self.pending else ProofState.UNSPENT

    def _sign(self, output: BlindedMessage) -> BlindSignature:
        keyset = self.keysets[output.id]
        private = keyset.private[output.amount]
        signature = BlindSignature(
            output.amount, output.id, curve.sign(output.b, private), dleq.prove(private, output.b)
        )
        self.signed[output.b] = signature
        self.issued[keyset.info.unit] += output.amount
        return signature
