"""Which proofs pay, and what the change is split into."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from wallet.errors import InsufficientFundsError
from wallet.store import Change, Coin, selection
from wallet.store.selection import select_exact, select_inputs
from wallet.types import KeysetInfo

POWERS = tuple(2**number for number in range(14))
OLD, NEW = "00" * 8, "01" * 33


def infos(ppk: int = 0) -> dict[str, KeysetInfo]:
    return {
        OLD: KeysetInfo(OLD, "sat", active=False, input_fee_ppk=ppk),
        NEW: KeysetInfo(NEW, "sat", active=True, input_fee_ppk=ppk),
    }


def coins(*amounts: int, keyset: str = NEW) -> list[Coin]:
    return [Coin(f"{keyset[:4]}{i}".encode(), a, keyset) for i, a in enumerate(amounts)]


def test_exact_is_the_fewest() -> None:
    chosen = select_exact(coins(1, 1, 1, 2, 4), 5, infos())
    assert chosen is not None
    assert sorted(coin.amount for coin in chosen) == [1, 4]
    assert select_exact(coins(2, 4, 8), 5, infos()) is None
    assert select_exact([], 1, infos()) is None


def test_old_keysets_go_first() -> None:
    both = [*coins(4, 4), *coins(4, keyset=OLD)]
    chosen = select_exact(both, 4, infos())
    assert chosen is not None
    assert [coin.keyset for coin in chosen] == [OLD]
    assert OLD in {coin.keyset for coin in select_inputs(both, 3, infos())}
    many = [*coins(64), *coins(1, 1, 2, keyset=OLD)]
    assert sum(coin.keyset == OLD for coin in select_inputs(many, 10, infos())) == 3


def test_a_swap_takes_one_coin_that_leaves_the_change_that_lacks() -> None:
    chosen = select_inputs(coins(8, 16, 64, 256), 5, infos(), spare=50)
    assert [coin.amount for coin in chosen] == [64]
    chosen = select_inputs(coins(8, 16, 64), 5, infos(), spare=500)
    assert [coin.amount for coin in chosen] == [64]
    chosen = select_inputs(coins(8, 16, 64), 80, infos())
    assert sorted(coin.amount for coin in chosen) == [16, 64]


def test_what_costs_more_than_it_is_worth_is_left() -> None:
    dear = {NEW: KeysetInfo(NEW, "sat", input_fee_ppk=1000)}
    chosen = select_inputs(coins(1, 1, 1, 8), 5, dear)
    assert [coin.amount for coin in chosen] == [8]
    with pytest.raises(InsufficientFundsError):
        select_inputs(coins(1, 1, 1, 1, 1, 1), 1, dear)


def test_small_coins_that_piled_up_come_along() -> None:
    chosen = select_inputs(coins(*([1] * 60), 64), 32, infos())
    assert len(chosen) == 31


def test_a_payment_does_not_pay_for_tidying_up() -> None:
    """Each input costs a fee: small coins and old ones come along only where they are needed."""
    chosen = select_inputs(coins(*([2] * 60), 64), 32, infos(1000))
    assert [coin.amount for coin in chosen] == [64]
    both = [*coins(64), *coins(*([8] * 40), keyset=OLD)]
    assert sum(coin.keyset == OLD for coin in select_inputs(both, 10, infos(100))) == 2
    assert len(select_inputs(both, 100, infos(100))) == 9


def test_old_coins_pay_however_many_are_needed() -> None:
    for ppk in (0, 100):
        chosen = select_inputs(coins(*([8] * 100), keyset=OLD), 600, infos(ppk))
        assert 75 <= len(chosen) <= 80


@pytest.mark.parametrize(
    ("held", "need"),
    [
        ([1] * 400, 300),
        ([1] * 200 + [2] * 200, 550),
        ([1] * selection.MOST_ALIKE, 400),  # there may be more than were read
    ],
)
def test_too_many_coins_at_once(held: list[int], need: int) -> None:
    with pytest.raises(InsufficientFundsError, match="more than 250 proofs") as told:
        select_inputs(coins(*held), need, infos())
    assert "consolidate" in told.value.hint


def test_too_little_is_not_told_as_too_many_coins() -> None:
    with pytest.raises(InsufficientFundsError, match="more than the 897"):
        select_inputs(coins(*([1] * 299), *([2] * 299)), 900, infos())


def test_as_many_as_a_request_takes_bring_no_others_along() -> None:
    assert len(select_inputs(coins(*([1] * 300)), 250, infos())) == selection.MOST_INPUTS


@given(
    st.lists(st.sampled_from(POWERS), max_size=40),
    st.lists(st.sampled_from(POWERS[:6]), max_size=10),
    st.integers(1, 5_000),
    st.sampled_from([0, 1, 100, 600, 1000]),
)
def test_inputs_cover_the_need_or_it_is_said(
    new: list[int], old: list[int], need: int, ppk: int
) -> None:
    known = infos(ppk)
    held = [*coins(*new), *coins(*old, keyset=OLD)]
    worth = [coin for coin in held if coin.amount * 1000 > ppk]
    most = sum(coin.amount for coin in worth) - selection.fee(worth, known)
    try:
        chosen = select_inputs(held, need, known, spare=100)
    except InsufficientFundsError:
        assert most < need
        return
    assert len({coin.tag for coin in chosen}) == len(chosen)
    assert sum(coin.amount for coin in chosen) - selection.fee(chosen, known) >= need


@given(st.lists(st.sampled_from(POWERS), max_size=30), st.integers(1, 3_000))
def test_exact_is_found_wherever_it_is(held: list[int], amount: int) -> None:
    """Against all sums there are: largest first misses none of powers of two."""
    sums = {0}
    for part in held:
        sums |= {total + part for total in sums}
    chosen = select_exact(coins(*held), amount, infos())
    assert (chosen is not None) == (amount in sums)
    if chosen is not None:
        assert sum(coin.amount for coin in chosen) == amount


@given(
    st.integers(0, 10_000),
    st.dictionaries(st.sampled_from(POWERS[:6]), st.integers(0, 12)),
    st.sampled_from([0, 100, 300, 1000]),
    st.integers(0, 10),
)
def test_change_is_whole_and_fills_what_lacks(
    amount: int, have: dict[int, int], ppk: int, pieces: int
) -> None:
    change = Change(pieces=pieces)
    info = KeysetInfo(NEW, "sat", input_fee_ppk=ppk)
    parts = change.split(amount, have, info, POWERS)
    assert sum(parts) == amount
    assert list(parts) == sorted(parts)
    if amount > 2_000:
        for part, count in change.missing(have, info).items():
            assert parts.count(part) >= count
    if ppk == 1000:
        assert len(parts) == len(set(parts)) or amount > POWERS[-1]


def test_an_amount_the_keyset_lacks_is_not_kept_as_change() -> None:
    parts = Change((1, 3), 4).split(9, {}, KeysetInfo(NEW, "sat"), (1, 2, 4, 8))
    assert sorted(parts) == [1, 1, 1, 1, 1, 4]
