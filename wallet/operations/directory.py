"""The wallet's mints: their clients, what they say of themselves, and their keysets, in memory.

Keysets are asked for once and then believed for `Rules.refresh_s`; a mint that rotates them tells
by refusing, and is then asked again. Nothing here moves money.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wallet.errors import (
    MintMisbehavedError,
    MintUnreachableError,
    OutcomeUnknownError,
    UnsupportedError,
    UntrustedMintError,
    VerificationError,
)
from wallet.operations.results import Rules
from wallet.operations.turns import Turns
from wallet.protocol import keysets as keyset_rules
from wallet.store import Coin, MintRow, Store, Tables
from wallet.store.proofs import MOST_ALIKE
from wallet.types import MAX_AMOUNT, Keyset, KeysetInfo, Unit

if TYPE_CHECKING:
    from wallet.mint import MintClient, MintInfo

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


class Directory(Turns):
    """What is known of the wallet's mints. See `Book` for its arguments."""

    def __init__(
        self,
        store: Store,
        *,
        connect: Callable[[str], MintClient],
        meet: Callable[[str], MintClient],
        rules: Rules,
        now: Callable[[], float],
    ) -> None:
        super().__init__(store)
        self.rules = rules
        self._now, self._connect, self._meet = now, connect, meet
        self._apis: dict[tuple[str, bool], MintClient] = {}
        self._told: dict[str, tuple[float, MintInfo]] = {}
        self._mints = {mint.url: mint for mint in store.read(lambda t: t.keysets.mints())}
        self._strangers = {mint.url for mint in self._mints.values() if mint.met}
        self._infos = store.read(lambda tables: tables.keysets.infos())
        self._keysets: dict[str, Keyset] = {}
        self._shared: dict[tuple[str, Unit], dict[str, KeysetInfo]] = {}

    def now(self) -> int:
        """Unix seconds, whole."""
        return int(self._now())

    async def aclose(self) -> None:
        """Closes the clients, then the file."""
        try:
            for api in self._apis.values():
                await api.aclose()
        finally:
            await self.store.aclose()

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
