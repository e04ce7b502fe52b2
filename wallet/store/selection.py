"""Which proofs pay, and which amounts come back as change. Pure, on what is in the file.

Three aims, in this order: old keysets go first (NUT-02 asks for it); a small payment is met exactly
from kept small change, without a request; and where a swap is needed, its change fills up the small
change again, so that the next payments need none. Fees count each input (NUT-02), and a proof
that costs more to spend than it is worth is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wallet.errors import InsufficientFundsError
from wallet.protocol import keysets
from wallet.store.proofs import MOST_ALIKE
from wallet.store.records import Coin
from wallet.types import KeysetInfo

MOST_INPUTS = 250  # below MOST_ALIKE; mints limit a request's inputs; Nutshell's default is 1,000
_MOST_OLD = 50  # proofs of old keysets that one swap takes along
_MOST_OLD_COSTLY = 8  # and so many where each costs a fee
_MOST_SURPLUS = 30  # and small ones beyond need

Infos = Mapping[str, KeysetInfo]


@dataclass(frozen=True)
class Change:
    """How much small change to keep: `pieces` of each of `amounts`, fewer where inputs cost."""

    amounts: tuple[int, ...] = (1, 2, 4, 8, 16)
    pieces: int = 8

    def kept(self, info: KeysetInfo) -> dict[int, int]:
        """Pieces to keep, by amount, of this keyset."""
        pieces = self.pieces
        if info.input_fee_ppk:
            pieces = min(pieces, 800 // info.input_fee_ppk)
        return dict.fromkeys(self.amounts, pieces)

    def missing(self, have: Mapping[int, int], info: KeysetInfo) -> dict[int, int]:
        """Pieces that lack, by amount, for change of this keyset."""
        lacking = {part: count - have.get(part, 0) for part, count in self.kept(info).items()}
        return {part: count for part, count in lacking.items() if count > 0}

    def split(
        self, amount: int, have: Mapping[int, int], info: KeysetInfo, amounts: Sequence[int]
    ) -> tuple[int, ...]:
        """Change of `amount` in the keyset's amounts: what lacks, smallest first, then the fewest.

        Raises:
            UnsupportedError: the keyset's amounts cannot make it up.
        """
        parts: list[int] = []
        rest = amount
        for part, missing in sorted(self.missing(have, info).items()):
            if part in amounts:
                count = min(missing, rest // part)
                parts += [part] * count
                rest -= part * count
        return tuple(sorted((*parts, *keysets.split(rest, amounts))))


def fee(coins: Iterable[Coin], infos: Infos) -> int:
    """What the mint takes for these inputs."""
    return keysets.fee(infos[coin.keyset] for coin in coins)


def counts(coins: Iterable[Coin]) -> Counter[int]:
    """Pieces by amount."""
    return Counter(coin.amount for coin in coins)


def select_exact(coins: Iterable[Coin], amount: int, infos: Infos) -> tuple[Coin, ...] | None:
    """The fewest coins that sum to `amount`, old keysets first, or None where there are none.

    Largest first finds them where each amount divides the next, as all mints have.
    """
    chosen: list[Coin] = []
    rest = amount
    fitting = [coin for coin in coins if coin.amount <= amount]
    for coin in sorted(fitting, key=lambda coin: (-coin.amount, infos[coin.keyset].active)):
        if coin.amount <= rest:
            chosen.append(coin)
            rest -= coin.amount
            if not rest:
                return tuple(chosen)
    return None


def select_inputs(
    coins: Sequence[Coin], need: int, infos: Infos, *, spare: int = 0
) -> tuple[Coin, ...]:
    """Coins worth at least `need` after their fee. `spare`: what more would be of use as change.

    Raises:
        InsufficientFundsError: they do not cover it.
    """
    worth = [coin for coin in coins if coin.amount * 1000 > infos[coin.keyset].input_fee_ppk]
    fresh = sorted((coin for coin in worth if infos[coin.keyset].active), key=_amount)
    chosen = _old(worth, need, infos)
    if _net(chosen, infos) < need:
        chosen = _cover(chosen, fresh, need, infos, spare)
    if _net(chosen, infos) < need:
        chosen = _cover([], sorted(worth, key=_amount), need, infos, spare)
    if _net(chosen, infos) < need:
        raise _too_little(coins, need, infos)
    return tuple(_with_surplus(chosen, fresh, infos))


def _old(worth: Sequence[Coin], need: int, infos: Infos) -> list[Coin]:
    """Coins of old keysets to begin with: many where that is free, else few, and as needed."""
    old = [coin for coin in worth if not infos[coin.keyset].active]
    old.sort(key=_amount, reverse=True)
    chosen = [coin for coin in old if not infos[coin.keyset].input_fee_ppk][:_MOST_OLD]
    for coin in [coin for coin in old if infos[coin.keyset].input_fee_ppk][:_MOST_OLD_COSTLY]:
        if _net(chosen, infos) >= need:
            break
        chosen.append(coin)
    return chosen


def _cover(
    chosen: list[Coin], fresh: list[Coin], need: int, infos: Infos, spare: int
) -> list[Coin]:
    """One coin that covers the rest, best with some to spare; else the largest, and as many."""
    enough = [coin for coin in fresh if _net([*chosen, coin], infos) >= need]
    for coin in enough:
        if _net([*chosen, coin], infos) >= need + spare:
            return [*chosen, coin]
    if enough:
        return [*chosen, enough[-1]]
    picked = list(chosen)
    for coin in reversed(fresh):
        if len(picked) >= MOST_INPUTS or _net(picked, infos) >= need:
            break
        picked.append(coin)
    return _without_idle(picked, need, infos)


def _without_idle(picked: list[Coin], need: int, infos: Infos) -> list[Coin]:
    for coin in sorted(picked, key=_amount):
        less = [other for other in picked if other is not coin]
        if _net(less, infos) < need:
            break
        picked = less
    return picked


def _with_surplus(chosen: list[Coin], fresh: list[Coin], infos: Infos) -> list[Coin]:
    """Small coins that piled up (a payee of many small payments) are merged along the way, where
    that costs nothing: a payment pays for itself, and no more."""
    taken = {coin.tag for coin in chosen}
    costless = [coin for coin in fresh if not infos[coin.keyset].input_fee_ppk]
    free = [coin for coin in costless if coin.tag not in taken]
    piles = counts(free)
    surplus: list[Coin] = []
    for coin in free:
        if piles[coin.amount] > 24 and len(surplus) < _MOST_SURPLUS:
            piles[coin.amount] -= 1
            surplus.append(coin)
    return [*chosen, *surplus[: max(0, MOST_INPUTS - len(chosen))]]


def _too_little(coins: Sequence[Coin], need: int, infos: Infos) -> InsufficientFundsError:
    alike = Counter((coin.amount, coin.keyset) for coin in coins)
    is_all = max(alike.values(), default=0) < MOST_ALIKE  # else there may be more of them
    if not is_all or _net(coins, infos) >= need:
        return InsufficientFundsError(
            f"{need} would take more than {MOST_INPUTS} proofs at once",
            hint="`consolidate` first, which makes fewer of them.",
        )
    total = sum(coin.amount for coin in coins)
    return InsufficientFundsError(
        f"{need} with fees is more than the {total} that can be spent here",
        hint="Receive more first, or name another mint.",
    )


def _net(coins: Sequence[Coin], infos: Infos) -> int:
    return sum(coin.amount for coin in coins) - fee(coins, infos)


def _amount(coin: Coin) -> int:
    return coin.amount
