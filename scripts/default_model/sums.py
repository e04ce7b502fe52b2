"""Arithmetic asked in signs or in words, with the expression it means and the exact value."""

from __future__ import annotations

import ast
import operator
import random
from collections.abc import Callable
from decimal import Context, Decimal, getcontext
from fractions import Fraction

from phrasing import expand
from words import Words

getcontext().prec = 34
_WIDE = Context(prec=400)
_SIGNS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: lambda a, b: a ** int(b),
}
# said -> expression
SPOKEN = [
    ("<a> {plus|and} <b>", "<a> + <b>"),
    ("<a> plus <b>", "<a> + <b>"),
    ("<a> minus <b>", "<a> - <b>"),
    ("<a> {times|multiplied by|x|×} <b>", "<a> * <b>"),
    ("<a> {divided by|over|÷} <b>", "<a> / <b>"),
    ("the sum of <a> and <b>", "<a> + <b>"),
    ("the product of <a> and <b>", "<a> * <b>"),
    ("the difference {between|of} <a> and <b>", "<a> - <b>"),
    ("<a> {percent|%} of <b>", "<b> * <a> / 100"),
    ("<a>% of <b>", "<b> * <a> / 100"),
    ("half of <a>", "<a> / 2"),
    ("{twice|double} <a>", "<a> * 2"),
    ("<a> squared", "<a> ^ 2"),
    ("<s> cubed", "<s> ^ 3"),
    ("the square of <a>", "<a> ^ 2"),
    ("<s> to the power {of |}<t>", "<s> ^ <t>"),
    ("<i> mod <j>", "<i> % <j>"),
    ("the remainder of <i> {divided by|over} <j>", "<i> % <j>"),
    ("a third of <a>", "<a> / 3"),
    ("a quarter of <a>", "<a> / 4"),
    ("<a> plus <b> plus <c>", "<a> + <b> + <c>"),
    ("<a> plus <b> minus <c>", "<a> + <b> - <c>"),
    ("<a> times <b> plus <c>", "<a> * <b> + <c>"),
    ("the sum of <a>, <b> and <c>", "<a> + <b> + <c>"),
    ("three times <a>", "<a> * 3"),
    ("the average of <a> and <b>", "(<a> + <b>) / 2"),
    ("<b> less than <a>", "<a> - <b>"),
    ("<b> more than <a>", "<a> + <b>"),
    ("the quotient of <a> and <b>", "<a> / <b>"),
]
STORIES = [
    ("{add|sum} <a> and <b>", "<a> + <b>"),
    ("add <a> to <b>", "<b> + <a>"),
    ("{subtract|take} <a> from <b>", "<b> - <a>"),
    ("multiply <a> {by|with|and} <b>", "<a> * <b>"),
    ("divide <a> by <b>", "<a> / <b>"),
    ("double <a>", "<a> * 2"),
    ("halve <a>", "<a> / 2"),
    ("square <a>", "<a> ^ 2"),
    ("raise <s> to the power {of |}<t>", "<s> ^ <t>"),
    ("add up <a>, <b> and <c>", "<a> + <b> + <c>"),
    ("split <a> {among|between} <j> {people|friends|of us}", "<a> / <j>"),
    ("what do <j> <thing> cost at <a> each?", "<j> * <a>"),
    ("how much are <j> <thing> at <a>?", "<j> * <a>"),
    ("I have <a> and {get|buy|win} <b> more, how many {do I have|is that}?", "<a> + <b>"),
    ("I had <a> and {spent|lost|sold} <b>, how much is left?", "<a> - <b>"),
    ("<i> <thing> cost <a>, how much is one?", "<a> / <i>"),
    ("how many {minutes|seconds} are <a> {hours|minutes}?", "<a> * 60"),
    ("how many days are <a> weeks?", "<a> * 7"),
    ("how many hours are <a> days?", "<a> * 24"),
    ("add <a>% to <b>", "<b> * (100 + <a>) / 100"),
    ("take <a>% off <b>", "<b> * (100 - <a>) / 100"),
    ("a tip of <a>% on <b>", "<b> * <a> / 100"),
    ("add <a> and <b> and multiply {the result |it |}by <c>", "(<a> + <b>) * <c>"),
    ("a {room|garden|field} is <a> by <b>, what is its area?", "<a> * <b>"),
    ("how far do I get in <a> hours at <b> km per hour?", "<a> * <b>"),
]
# what to do to a number read before: command, noun form, expression over <x>
CHANGES = [
    ("multiply {it|that|the number} by <a>", "<a> times", "<x> * <a>"),
    ("add <a> to {it|that|the number}", "<a> more than", "<x> + <a>"),
    ("add <a>", "<a> plus", "<x> + <a>"),
    ("subtract <a> {from it|from that|}", "<a> less than", "<x> - <a>"),
    ("divide {it|that|the number} by <a>", "divide by <a>", "<x> / <a>"),
    ("double {it|that|the number}", "{double|twice}", "<x> * 2"),
    ("halve {it|that}", "half of", "<x> / 2"),
    ("square {it|that|the number}", "the square of", "<x> ^ 2"),
    ("{tell me|calculate|work out} <a> times {it|that}", "multiply by <a>", "<x> * <a>"),
    ("take <a> percent of it", "<a>% of", "<x> * <a> / 100"),
    ("{work out|give me|compute} <a>% of {it|that}", "<a> percent of", "<x> * <a> / 100"),
]


def value_of(expression: str) -> Fraction:
    """The exact value. Raises ZeroDivisionError."""
    tree = ast.parse(expression.replace("^", "**"), mode="eval").body
    return _walk(tree)


def _walk(node: ast.expr) -> Fraction:
    if isinstance(node, ast.BinOp):
        return _SIGNS[type(node.op)](_walk(node.left), _walk(node.right))
    if isinstance(node, ast.UnaryOp):
        return -_walk(node.operand)
    return Fraction(ast.unparse(node))


def decimal(value: Fraction) -> str:
    """What calc answers: exact digits where they end, else 34 of them behind a sign."""
    if value.denominator == 1:
        return str(value.numerator)
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    sign = "-" if value < 0 else ""
    if rest != 1:
        return "≈" + sign + f"{Decimal(abs(value.numerator)) / Decimal(value.denominator):f}"
    return f"{_WIDE.divide(Decimal(value.numerator), Decimal(value.denominator)):f}"


def slots(words: Words) -> dict[str, str]:
    """Numbers for the patterns: a b c any, s t small for powers, i j positive integers."""
    rng = words.rng
    numbers = {key: words.number() for key in "abc"}
    small = {
        "s": str(rng.randint(2, 99)),
        "t": str(rng.randint(2, 12)),
        "i": str(rng.randint(2, 9999)),
        "j": str(rng.randint(2, 99)),
    }
    return numbers | small | {"thing": words.word()}


def signs(words: Words) -> str:
    """An expression in signs: two to five numbers, now and then parentheses, any spacing."""
    rng = words.rng
    gap = rng.choice((" ", " ", " ", ""))
    parts = [words.number()]
    for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3))):
        parts += [rng.choice("++--***//"), words.number()]
    if len(parts) > 3 and rng.random() < 0.5:
        at = rng.choice(range(0, len(parts) - 2, 2))
        parts[at] = "(" + parts[at]
        parts[at + 2] += ")"
    elif rng.random() < 0.08:
        parts = [str(rng.randint(2, 99)), rng.choice("^%"), str(rng.randint(2, 20))]
    return gap.join(parts)


def spoken(words: Words, table: list[tuple[str, str]]) -> tuple[str, str]:
    """A pair (said, expression) out of a table."""
    said, expression = words.rng.choice(table)
    filled = slots(words)
    return expand(said, words.rng, filled), expand(expression, words.rng, filled)


def change(words: Words, table: list[tuple[str, str, str]], number: str) -> tuple[str, str, str]:
    """What to do to `number`: (command, noun form, expression)."""
    command, noun, expression = words.rng.choice(table)
    filled = slots(words) | {"x": number}
    rng: random.Random = words.rng
    return (
        expand(command, rng, filled),
        expand(noun, rng, filled),
        expand(expression, rng, filled),
    )
