"""calc against Python's fractions: exact where decimals end, rounded and marked where not."""

from __future__ import annotations

import decimal
import os
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FREEHOLD_FUZZ", "50"))


def value(shipped, expression):
    return shipped.call("calc", {"expression": expression})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("123*456", "56088"),
        ("0.1+0.2", "0.3"),
        ("-2^2", "-4"),
        ("(-2)^2", "4"),
        ("2^3^2", "512"),
        ("2^-2", "0.25"),
        ("2**10", "1024"),
        ("7 % 3", "1"),
        ("-7 % 3", "2"),
        ("7 % -3", "-2"),
        ("5.5 % 2", "1.5"),
        ("6 × 7 ÷ 2 − 1", "20"),
        ("1.50 * 2", "3"),
        ("1e3 + 1E-3", "1000.001"),
        ("1_000_000 / 8", "125000"),
        (".5 + 5.", "5.5"),
        ("--3", "3"),
        ("0^0", "1"),
        ("-0", "0"),
        ("1/3", "≈0.3333333333333333333333333333333333"),
        ("2/3", "≈0.6666666666666666666666666666666667"),
        ("-1/7", "≈-0.1428571428571428571428571428571429"),
        ("1/3 - 1/3", "0"),
        ("1/3*3", "1"),
        ("10^40/3", "≈3.333333333333333333333333333333333e39"),
        ("1e-40/3", "≈3.333333333333333333333333333333333e-41"),
        ("1e-4999 * 0", "0"),
        ("1^(10^4000)", "1"),
        ("(0-1)^(10^400+1)", "-1"),
        ("(0-1)^2147483647", "-1"),
        ("0^-0", "1"),
        ("0^(0*-1)", "1"),
        ("0 / (-10^40) % -7", "0"),
        ("10^33 + 1/3", "≈1000000000000000000000000000000000"),
        ("1234567890*10^24 - 1/3", "≈1234567890000000000000000000000000"),
        ("10^32 + 1/3", "≈100000000000000000000000000000000.3"),
        ("7%3-1", "0"),
    ],
)
def test_what_it_comes_to(shipped, expression, expected):
    assert value(shipped, expression) == {"value": expected}


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("1/0", "division by zero"),
        ("0^-1", "division by zero"),
        ("5 % 0", "division by zero"),
        ("9^9^9^9", "too large"),
        ("1e999999999999999999999", "too large"),
        ("10^5001", "too large"),
        ("2^0.5", "whole number"),
        ("", "empty"),
        ("   ", "empty"),
        ("(1", "ends too early"),
        ("1 +", "ends too early"),
        ("1)", "unexpected ) at character 2"),
        ("1,000", "write 1000 for 1,000 and 1.5 for 1,5"),
        ("20%", "for 20 percent write 20 / 100"),
        ("120*15% + 30", "for 20 percent write 20 / 100"),
        ("20%-5", "for 20 percent write 20 / 100"),
        ("20 % − 5", "for 20 percent write 20 / 100"),
        # exponents whose product with a number of bits is small again modulo 2^32
        ("9^1431655766", "too large"),
        ("(2^2048)^2097152", "too large"),
        ("(2^2048 + 1)^2097152", "too large"),
        ("0.1^1073741824", "too large"),
        ("1 2", "unexpected 2 at character 3"),
        ("π", "unexpected π at character 1"),
        ("1.2.3", "unexpected"),
        ("__import__('os')", "unexpected _"),
        ("(" * 300 + "1" + ")" * 300, "nested too deep"),
        ("-" * 1000 + "1", "nested too deep"),
        ("(" * 101 + "1" + ")" * 101, "at most 100 levels"),
        ("*".join(["(3^4000/7^4000)", "(7^4000/3^4000)"] * 100), "too long"),
    ],
)
def test_what_it_refuses(shipped, expression, words):
    assert words in value(shipped, expression)["error"]


def test_large_numbers_are_exact(shipped):
    assert value(shipped, "2^14000") == {"value": str(2**14000)}
    assert value(shipped, "10^5000 - 10^5000 + 1") == {"value": "1"}
    assert value(shipped, "1e-4990 / 3") == {"value": f"≈{'3.' + '3' * 33}e-4991"}
    product = "*".join(map(str, range(1, 301)))
    expected = 1
    for factor in range(1, 301):
        expected *= factor
    assert value(shipped, product) == {"value": str(expected)}
    assert value(shipped, "(" * 99 + "1" + ")" * 99) == {"value": "1"}
    nearly = Fraction(11**4800, 10**5000 - 1)  # twice a remainder by it has more than 5,000 digits
    assert value(shipped, "11^4800/(10^5000-1)") == {"value": written(nearly)}
    assert value(shipped, "1/2^200") == {"value": written(Fraction(1, 2**200))}


numbers = st.one_of(
    st.integers(0, 10**30).map(str),
    st.decimals(0, 10**6, allow_nan=False, allow_infinity=False, places=4).map(
        lambda number: format(number, "f")
    ),
)
trees = st.recursive(
    numbers.map(lambda text: (text, Fraction(text))),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/%"), inner).map(lambda t: combine(*t)),
        inner.map(lambda t: (f"(-{t[0]})", -t[1] if t[1] is not None else None)),
        st.tuples(inner, st.integers(-3, 5)).map(lambda t: raised(*t)),
    ),
    max_leaves=12,
)


def combine(left, operator, right):
    text = f"({left[0]} {operator} {right[0]})"
    a, b = left[1], right[1]
    if a is None or b is None or (operator in "/%" and b == 0):
        return text, None
    return text, {
        "+": lambda: a + b,
        "-": lambda: a - b,
        "*": lambda: a * b,
        "/": lambda: a / b,
        "%": lambda: a % b,
    }[operator]()


def raised(base, exponent):
    text = f"({base[0]} ^ {exponent})"
    if base[1] is None or (base[1] == 0 and exponent < 0):
        return text, None
    return text, base[1] ** exponent


def written(number: Fraction) -> str:
    """The fraction as calc must print it, by way of Python's decimal."""
    bottom = number.denominator
    twos = fives = 0
    while bottom % 2 == 0:
        bottom, twos = bottom // 2, twos + 1
    while bottom % 5 == 0:
        bottom, fives = bottom // 5, fives + 1
    if bottom == 1:
        places = max(twos, fives)
        digits = str(abs(number.numerator) * 10**places // number.denominator).rjust(
            places + 1, "0"
        )
        sign = "-" if number < 0 else ""
        return sign + digits[: len(digits) - places] + ("." + digits[-places:] if places else "")
    context = decimal.Context(prec=34, rounding=decimal.ROUND_HALF_EVEN, Emax=10**6, Emin=-(10**6))
    exact = context.divide(decimal.Decimal(number.numerator), decimal.Decimal(number.denominator))
    _, digits, exponent = exact.as_tuple()
    power = len(digits) - 1 + exponent
    if power < -7 or power >= 34:
        kept = "".join(map(str, digits)).rstrip("0")
        shown = kept[0] + ("." + kept[1:] if len(kept) > 1 else "") + f"e{power}"
        return ("≈-" if number < 0 else "≈") + shown
    plain = format(exact.copy_abs(), "f")
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return ("≈-" if number < 0 else "≈") + plain


@settings(max_examples=EXAMPLES, deadline=None)
@given(trees)
def test_the_same_as_fractions(shipped, tree):
    text, expected = tree
    answer = value(shipped, text)
    if expected is None:
        assert answer == {"error": "division by zero"}
    elif "error" in answer:
        assert "too large" in answer["error"]
        assert max(abs(expected.numerator), expected.denominator) > 10**1000
    else:
        assert answer == {"value": written(expected)}


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(-(10**6), 10**6).filter(bool), st.integers(25, 45), st.sampled_from([3, 7, 9]))
def test_no_digit_is_lost_where_plain_digits_end(shipped, over, power, under):
    answer = value(shipped, f"({over})*10^{power} + 1/{under}")
    assert answer == {"value": written(over * 10**power + Fraction(1, under))}


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text("0123456789.+-*/%^() eE_,×÷−π", max_size=60) | st.text(max_size=40))
def test_any_text_is_answered_in_words(shipped, expression):
    answer = value(shipped, expression)
    assert len(answer) == 1
    assert set(answer) <= {"value", "error"}
