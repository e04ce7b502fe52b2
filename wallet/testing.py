"""A world for tests: mints in memory, wallets over them, and a hand that stops a wallet anywhere.

`Points` is told of every transaction of a wallet's file, before it begins, before it commits and
after, and of every request, before the mint acts and after. At the point it is set to, it raises
`Crash`, and, as after SIGKILL, at every point from then on; so what the wallet would have done
next never happens. `World.missing` is the oracle: what the mints issued and nobody holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wallet.mint import MintClient
from wallet.mint.testing import MemoryLightning, MemoryMint
from wallet.operations.results import Rules
from wallet.store import Hold
from wallet.types import TransportRequest, Unit
from wallet.wallet import RULES, Wallet

KEY: Final = bytes(range(32))
WORDS: Final = {
    "ann": "legal winner thank year wave sausage worth useful legal winner thank yellow",
    "bob": "letter advice cage absurd amount doctor acoustic avoid letter advice cage above",
    "cleo": "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon "
    "abandon about",
}


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Points:
    """Where a process can end.

    Attributes:
        at: the number of the point to crash at, from 0; None: nowhere.
        lives_on: it is an exception that passes, and not the end of the process.
        error: what is raised instead of `Crash`, such as SQLite's for a full disk.
        seen: the points passed since `arm`.
    """

    at: int | None = None
    lives_on: bool = False
    error: BaseException | None = None
    seen: list[str] = field(default_factory=list)
    armed: bool = False
    dead: bool = False

    def arm(
        self, at: int | None, *, lives_on: bool = False, error: BaseException | None = None
    ) -> None:
        """Counts from now on, and crashes at a point."""
        self.at, self.lives_on, self.error = at, lives_on, error
        self.armed, self.dead, self.seen = True, False, []

    def disarm(self) -> None:
        """The process that crashed is gone; nothing happens any more."""
        self.armed = self.dead = False

    def __call__(self, point: str) -> None:
        """Passes a point."""
        if self.dead:
            raise Crash(point)
        if not self.armed:
            return
        self.seen.append(point)
        if self.at == len(self.seen) - 1:
            self.dead = not self.lives_on
            raise self.error or Crash(point)


class World:
    """Mints on one Lightning network, and wallets by name: their files are kept in `folder`.

    Args:
        folder: for the wallets' files.
        mints: how many mints there are.
        fee_ppk: what each takes for 1,000 inputs.
        version: of their keysets' ids.
        cached: whether they keep replies (NUT-19).
    """

    def __init__(
        self,
        folder: Path,
        *,
        mints: int = 1,
        fee_ppk: int = 0,
        version: int = 2,
        units: tuple[str, ...] = ("sat",),
        cached: bool = False,
    ) -> None:
        self.folder = folder
        self.time_s = 1_800_000_000.0
        self.skew_s = 0.0  # how far the wallets' clocks are ahead
        self.lightning = MemoryLightning(now=lambda: self.time_s)
        self.points = Points()
        self.mints = [
            MemoryMint(
                f"https://mint{number}.example",
                fee_ppk=fee_ppk,
                keyset_version=version,
                units=units,
                lightning=self.lightning,
                cached=cached,
                bits=14,
                now=lambda: self.time_s,
            )
            for number in range(mints)
        ]
        for mint in self.mints:
            mint.hook = self._hook
        self.wallets: dict[str, Wallet] = {}

    @property
    def mint(self) -> MemoryMint:
        """The first mint."""
        return self.mints[0]

    @property
    def wallets_time_s(self) -> float:
        """What the wallets' clocks say."""
        return self.time_s + self.skew_s

    def connect(self, url: str) -> MintClient:
        """The client of a mint."""
        return MintClient(url, next(mint for mint in self.mints if mint.url == url))

    async def wallet(
        self, name: str = "ann", *, rules: Rules = RULES, file: str = "", **fields: Any
    ) -> Wallet:
        """Opens a wallet; its first opening makes it, with the words of its name."""
        wallet = await Wallet.open(
            self.folder / f"{file or name}.db",
            key=KEY,
            words=WORDS[name],
            connect=self.connect,
            rules=rules,
            now=lambda: self.wallets_time_s,
            steady=lambda: self.time_s,
            probe=self.points if name == "ann" else None,
            **fields,
        )
        self.wallets[file or name] = wallet
        return wallet

    async def funded(
        self, name: str = "ann", amount: int = 100, *, mint: int = 0, rules: Rules = RULES
    ) -> Wallet:
        """A wallet with ecash at a mint; opens it where it is not open."""
        wallet = self.wallets.get(name) or await self.wallet(name, rules=rules)
        await wallet.add_mint(self.mints[mint].url)
        if amount:
            await self.fill(wallet, amount, mint=mint)
        return wallet

    async def fill(self, wallet: Wallet, amount: int, *, mint: int = 0, unit: Unit = "sat") -> None:
        """Somebody pays an invoice of the wallet."""
        invoice = await wallet.request_invoice(amount, mint=self.mints[mint].url, unit=unit)
        self.lightning.pay(invoice.bolt11)
        await wallet.claim_invoice(invoice.operation)

    async def stop(self, name: str = "ann") -> None:
        """The process ends; what it had not written is gone."""
        await self.wallets.pop(name).aclose()
        self.points.disarm()

    async def again(self, name: str = "ann", *, rules: Rules = RULES) -> Wallet:
        """The process is started again after its end, and recovers."""
        if name in self.wallets:
            await self.stop(name)
        wallet = await self.wallet(name, rules=rules)
        await wallet.recover()
        return wallet

    async def close(self) -> None:
        """Closes every wallet."""
        self.points.disarm()
        for name in list(self.wallets):
            await self.stop(name)

    # ── the oracle ──────────────────────────────────────────────────────────────────────────

    async def missing(self, unit: str = "sat") -> int:
        """What the mints issued and did not redeem, less what all wallets and outboxes hold.

        0 where nothing is lost and nothing counted twice.
        """
        outstanding = sum(mint.outstanding(unit) for mint in self.mints)
        for wallet in self.wallets.values():
            await wallet.refresh_outbox()
        return outstanding - sum(self.holds(wallet, unit) for wallet in self.wallets.values())

    def holds(self, wallet: Wallet, unit: str = "sat") -> int:
        """Free, reserved and in the outbox."""
        return sum(amount for hold, amount in self.held(wallet, unit).items() if hold != Hold.ASIDE)

    def held(self, wallet: Wallet, unit: str = "sat") -> dict[Hold, int]:
        """What a wallet's file holds, by state."""
        rows = wallet._book.store.read(
            lambda tables: tables.connection.execute(
                "SELECT state, SUM(amount) FROM proofs WHERE unit = ? GROUP BY state", (unit,)
            ).fetchall()
        )
        return {Hold.FREE: 0} | {Hold(state): amount for state, amount in rows}

    def counters(self, wallet: Wallet) -> dict[str, int]:
        """The counter of each keyset."""
        rows = wallet._book.store.read(
            lambda tables: tables.connection.execute("SELECT id, counter FROM keysets").fetchall()
        )
        return dict(rows)

    async def _hook(self, moment: str, request: TransportRequest) -> None:
        folder, _, last = request.path.rpartition("/")
        path = f"{folder}/ID" if len(last) == 36 else request.path
        self.points(f"{moment} {request.method} {path}")


def lowered(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Keysets whose counter went down."""
    return [keyset for keyset, counter in before.items() if after.get(keyset, 0) < counter]
