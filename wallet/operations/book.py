"""What every saga works with: the file, the seed, the mints, and their keysets in memory.

Keysets are asked for once and then believed for `Rules.refresh_s`; a mint that rotates them tells
by refusing, and is then asked again. Nothing here moves money.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from wallet.errors import (
    MintError,
    MintMisbehavedError,
    MintUnreachableError,
    OutcomeUnknownError,
    RefusedError,
    StoreError,
    UnsupportedError,
    UntrustedMintError,
    VerificationError,
)
from wallet.operations.results import Rules
from wallet.operations.turns import Turns
from wallet.protocol import keysets as keyset_rules
from wallet.protocol import outputs as making
from wallet.protocol.derivation import Seed
from wallet.store import (
    Change,
    Coin,
    Kind,
    MintRow,
    Operation,
    Outbox,
    Record,
    State,
    Store,
    Tables,
)
from wallet.store.proofs import MOST_ALIKE
from wallet.types import MAX_AMOUNT, Keyset, KeysetInfo, Output, Proof, Unit

if TYPE_CHECKING:
    from wallet.mint import MintClient, MintInfo

T = TypeVar("T")
UNITS: tuple[Unit, ...] = ("sat", "msat")


@dataclass(frozen=True)
class Snapshot:
    """A mint's keysets of one unit, as last heard. `active` is where new ecash is made; ecash of
    those that are `expired` is worth nothing to the mint any more."""

    mint: str
    unit: Unit
    active: Keyset
    infos: Mapping[str, KeysetInfo]
    expired: frozenset[str] = frozenset()

    def coins(
        self, tables: Tables, *, most: int = MAX_AMOUNT, alike: int = MOST_ALIKE
    ) -> list[Coin]:
        """What can be spent of it; see `Proofs.coins`."""
        found = tables.proofs.coins(self.mint, self.unit, most=most, alike=alike)
        return [coin for coin in found if coin.keyset not in self.expired]


class Book(Turns):
    """The wallet's file and mints, shared by its operations.

    Args:
        store: open and unlocked.
        seed: what secrets are derived from.
        connect: makes the client of a mint's URL.
        meet: the same for a mint that only a token named.
        rules: what may be done without asking.
        now: Unix seconds.
        steady: seconds of a clock that nobody sets.
        random: bytes of a secure generator.
    """

    def __init__(
        self,
        store: Store,
        seed: Seed,
        *,
        connect: Callable[[str], MintClient],
        meet: Callable[[str], MintClient],
        rules: Rules,
        now: Callable[[], float],
        steady: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        super().__init__(store)
        self.seed = seed
        self.rules = rules
        self.random = random
        self.change = Change(rules.small_change, rules.change_pieces)
        self._now, self._steady = now, steady
        self._stamps: dict[int, float] = {}
        self._connect, self._meet = connect, meet
        self._apis: dict[tuple[str, bool], MintClient] = {}
        self._told: dict[str, tuple[float, MintInfo]] = {}
        self._mints = {mint.url: mint for mint in store.read(lambda t: t.keysets.mints())}
        self._strangers = {mint.url for mint in self._mints.values() if mint.met}
        self._infos = store.read(lambda tables: tables.keysets.infos())
        self._keysets: dict[str, Keyset] = {}
        self._shared: dict[tuple[str, Unit], dict[str, KeysetInfo]] = {}
        self.framed: set[str] = set()  # mints that took the amended signature; see `locking`

    # ── time and keys ──── ───────────────────────────────────────────────────────────────────

    def now(self) -> int:
        """Unix seconds, whole."""
        return int(self._now())

    def stamp(self) -> int:
        """Now, of which `age_s` will know in this process how long ago it was, for an hour."""
        now, steady = self.now(), self._steady()
        if now not in self._stamps:
            self._stamps = {at: s for at, s in self._stamps.items() if steady - s < 3_600}
        self._stamps[now] = steady
        return now

    def age_s(self, time: int) -> float:
        """Seconds since a stamp, however the clock was set meanwhile, where that is of this
        process; else what the clock says, below zero where it was set back."""
        steady = self._stamps.get(time)
        return self._now() - time if steady is None else self._steady() - steady

    def new_key(self) -> str:
        """An operation's id, where the caller gave none."""
        return self.random(16).hex()

    # ── operations ──────────────────────────────────────────────────────────────────────────

    def record(self, key: str) -> Record | None:
        """An operation with its body, as committed."""
        return self.store.read(lambda tables: tables.operations.get(key))

    def operation(self, key: str) -> Operation | None:
        """The same without its body."""
        return self.store.read(lambda tables: tables.operations.operation(key))

    def pending(self) -> tuple[Operation, ...]:
        """Those that are not final, oldest first."""
        return self.store.read(lambda tables: tables.operations.pending())

    def held(self, key: str) -> tuple[Proof, ...]:
        """The proofs that an operation holds, in whatever state."""
        return self.store.read(lambda t: tuple(each.proof for each in t.proofs.held(key)))

    def same(self, key: str, kind: Kind, asked: Mapping[str, Any]) -> Record | None:
        """The operation of this key, if there is one and it is this very wish.

        Raises:
            RefusedError: the key was given to another one.
        """
        found = self.record(key)
        if found is None:
            return None
        if found.operation.kind != kind or found.body.get("asked") != asked:
            raise RefusedError(
                f"the key {key!r} belongs to another operation ({found.operation.kind.value})",
                hint="Give each payment a key of its own.",
            )
        return found

    def begun(
        self,
        key: str,
        kind: Kind,
        snapshot: Snapshot,
        amount: int,
        *,
        parent: str = "",
        **body: Any,
    ) -> Record:
        """A new operation, not yet in the file."""
        now, outbox = self.now(), Outbox.NONE
        mint, unit = snapshot.mint, snapshot.unit
        operation = Operation(
            key, kind, State.PREPARED, mint, unit, amount, 0, now, now, outbox, "", parent
        )
        return Record(operation, body)

    def changed(self, record: Record, **fields: Any) -> Record:
        """The record with fields of its operation, and now as the time of it. `body` replaces."""
        body = fields.pop("body", record.body)
        return Record(replace(record.operation, updated=self.now(), **fields), body)

    async def keep(self, record: Record, name: str = "keep") -> Record:
        """Writes what became of an operation."""
        await self.store.write(name, lambda tables: tables.operations.update(record))
        return record

    async def doubt(self, record: Record, error: OutcomeUnknownError) -> None:
        """Marks it pending: it may have happened. Written once, not at every try."""
        if record.operation.state != State.PENDING or record.operation.error != error.message:
            await self.keep(self.changed(record, state=State.PENDING, error=error.message), "doubt")

    @contextlib.asynccontextmanager
    async def doubting(self, record: Record) -> AsyncIterator[None]:
        """What a mint does not tell within leaves the operation pending.

        Raises:
            OutcomeUnknownError: for any error of the mint's.
        """
        try:
            yield
        except OutcomeUnknownError as error:
            await self.doubt(record, error)
            raise
        except (MintUnreachableError, MintError) as error:
            lost = OutcomeUnknownError(error.message, hint="Run `recover` when the mint is back.")
            await self.doubt(record, lost)
            raise lost from error

    # ── mints ───────────────────────────────────────────────────────────────────────────────

    def mints(self) -> tuple[MintRow, ...]:
        """The wallet's mints."""
        return tuple(self._mints.values())

    def mint(self, url: str) -> MintRow:
        """A mint of this wallet.

        Raises:
            UntrustedMintError: it was never added.
        """
        from wallet.mint import mint_url

        row = self._mints.get(url) or self._mints.get(mint_url(url))
        if row is None:
            raise UntrustedMintError(
                f"mint {url} is not one of this wallet's",
                hint="Add it first, if you trust it with your money.",
            )
        return row

    async def put_mint(self, row: MintRow) -> None:
        """Adds or changes a mint."""
        await self.store.write("mint", lambda tables: tables.keysets.put_mint(row))
        self._mints[row.url] = row
        self.judge(row.url, stranger=row.met)

    async def remove_mint(self, url: str) -> None:
        """Takes it off the list; the file remembers its counters."""
        await self.store.write("mint", lambda tables: tables.keysets.remove_mint(url))
        self._mints.pop(url, None)

    def api(self, url: str) -> MintClient:
        """The client of a mint."""
        stranger = url in self._strangers
        found = self._apis.get((url, stranger))
        if found is None:
            found = self._meet(url) if stranger else self._connect(url)
            self._apis[url, stranger] = found
        return found

    def judge(self, url: str, *, stranger: bool) -> None:
        """Says whether nobody but a token named this mint, so how it is connected to."""
        (self._strangers.add if stranger else self._strangers.discard)(url)

    async def info(self, url: str, *, fresh: bool = False) -> MintInfo:
        """What the mint offers; asked for once in `refresh_s`."""
        at, told = self._told.get(url, (0.0, None))
        if told is None or fresh or not self._recent(at):
            told = await self.api(url).info()
            self._told[url] = self._now(), told
        return told

    def balances(self) -> dict[tuple[str, str], int]:
        """What can be spent, by mint and unit."""
        now = self.now()
        return self.store.read(lambda tables: tables.proofs.balances(now))

    def cap(self, unit: Unit) -> int:
        """The most that the wallet should keep at one mint, in the unit."""
        return self.rules.cap_sat * (1000 if unit == "msat" else 1)

    # ── keysets ─────────────────────────────────────────────────────────────────────────────

    def infos(self, mint: str) -> dict[str, KeysetInfo]:
        """The keysets of a mint that are known, without asking."""
        return {key: info for key, (url, info) in self._infos.items() if url == mint}

    async def snapshot(
        self, mint: str, unit: Unit, *, fresh: bool = False, ahead_s: int = 0
    ) -> Snapshot:
        """The keysets of a mint and unit; asks the mint where they are old.

        A mint that cannot be reached is believed as last heard.

        Args:
            ahead_s: takes keysets for expired that will be so many seconds from now.

        Raises:
            UnsupportedError: it has no active keyset of this unit.
        """
        row = self._mints.get(mint)
        if fresh or row is None or not self._recent(row.refreshed):
            try:
                await self.refresh(mint)
            except (MintUnreachableError, OutcomeUnknownError):
                if fresh:
                    raise
        known = {key: info for key, info in self.infos(mint).items() if info.unit == unit}
        infos = self._shared.setdefault((mint, unit), {})
        infos.update(known)  # also for who waits with an older snapshot for others' change
        active = [info for info in known.values() if info.active and not self._expired(info)]
        active = [info for info in active if not self._expired(info, ahead_s)] or active
        if not active and not fresh:  # all were rotated away, or the last list was empty
            return await self.snapshot(mint, unit, fresh=True, ahead_s=ahead_s)
        if not active:
            raise UnsupportedError(
                f"mint {mint} issues no {unit}", hint="Use another unit, or another mint."
            )
        best = min(active, key=lambda info: (info.input_fee_ppk, -len(info.id), info.id))
        gone = [info.id for info in known.values() if self._expired(info, ahead_s)]
        return Snapshot(mint, unit, await self.keyset(mint, best.id), infos, frozenset(gone))

    async def keyset(self, mint: str, keyset_id: str) -> Keyset:
        """A keyset of a mint, with its keys, checked against its id.

        Raises:
            MintMisbehavedError: the mint has none of this id.
        """
        owner, info = self._infos.get(keyset_id, ("", None))
        if info is None or owner != mint:
            raise MintMisbehavedError(
                f"mint {mint} has no keyset {keyset_id}",
                hint="The token is not this mint's, or the mint forgot what it issued.",
            )
        if keyset_id in self._keysets:
            return self._keysets[keyset_id]
        keys = self.store.read(lambda tables: tables.keysets.keys(keyset_id))
        if keys is None:
            keyset = await self.api(mint).keys(info)
            await self.store.write("keys", lambda tables: tables.keysets.put_keys(keyset))
        else:
            keyset = _checked(mint, info, keys)
        self._keysets[keyset_id] = keyset
        return keyset

    async def refresh(self, mint: str) -> None:
        """Asks a mint for its keysets, and keeps those of a unit this wallet has.

        Raises:
            MintMisbehavedError: one collides with another mint's.
        """
        heard = [info for info in await self.api(mint).keysets() if info.unit in UNITS]
        now = self.now()

        def work(tables: Tables) -> dict[str, tuple[str, KeysetInfo]]:
            tables.keysets.put(mint, heard, now)
            return tables.keysets.infos(mint)

        infos = await self.store.write("keysets", work)
        self._infos = {key: pair for key, pair in self._infos.items() if pair[0] != mint} | infos
        for key in infos:
            self._keysets.pop(key, None)  # its fee or its being active may have changed
        if mint in self._mints:
            self._mints[mint] = replace(self._mints[mint], refreshed=now)

    # ── outputs ─────────────────────────────────────────────────────────────────────────────

    def derive(self, tables: Tables, keyset: str, amounts: Sequence[int]) -> list[Output]:
        """Outputs of the seed for these amounts; their counters are used up (NUT-13)."""
        first = tables.keysets.use(keyset, len(amounts))
        return [
            making.output(amount, keyset, *self.seed.derive(keyset, first + number))
            for number, amount in enumerate(amounts)
        ]

    def new_ecash(self, tables: Tables, now: Snapshot, amount: int) -> list[Output]:
        """Outputs for ecash that comes in, with the small change that lacks."""
        have = tables.proofs.counts(now.mint, now.unit)
        parts = self.change.split(amount, have, now.active.info, tuple(now.active.keys))
        return self.derive(tables, now.active.id, parts)

    def quote_key(self, operation: str) -> bytes:
        """The private key that locks an operation's mint quote (NUT-20): one for each."""
        label = b"freehold wallet: quote key\0" + operation.encode()
        return hmac.digest(self.seed.value, label, "sha256")

    async def aclose(self) -> None:
        """Closes the clients, then the file."""
        try:
            for api in self._apis.values():
                await api.aclose()
        finally:
            await self.store.aclose()

    def _recent(self, at: float) -> bool:
        """A clock that was set back makes nothing recent."""
        return 0 <= self._now() - at < self.rules.refresh_s

    def _expired(self, info: KeysetInfo, ahead_s: int = 0) -> bool:
        return info.final_expiry is not None and info.final_expiry <= self._now() + ahead_s


def _checked(mint: str, info: KeysetInfo, keys: Mapping[int, bytes]) -> Keyset:
    """Keys of the file with what the mint lists of them now."""
    try:
        return keyset_rules.checked(info, keys)
    except VerificationError as error:
        raise MintMisbehavedError(f"mint {mint}: {error.message}", hint=error.hint) from error


def must(record: Record | None, key: str) -> Record:
    """The record, which a caller knows to be there.

    Raises:
        StoreError: it is not.
    """
    if record is None:
        raise StoreError(f"operation {key!r} is not in the wallet's file")
    return record
