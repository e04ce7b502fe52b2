"""Amounts on a terminal are what they are."""

from __future__ import annotations

import pytest

from node.cli._shared import number
from node.cli.trace import _usage


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (100, "100"), (12_345_678, "12345678"), (1_234_567.891, "1234567.891"), (-3, "-3")],
)
def test_no_digit_of_an_amount_is_left_out(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_step_says_to_the_msat_what_it_paid() -> None:
    assert list(_usage({"msat": 1_234_567_891})) == ["1234567.891 sat"]
