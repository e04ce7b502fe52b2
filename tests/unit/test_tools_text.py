"""text against Python's re, json, difflib-free patching, and str."""

from __future__ import annotations

import json
import os
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FREEHOLD_FUZZ", "50"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None)


def match(shipped, pattern, text):
    return shipped.call("text_match", {"pattern": pattern, "text": text})


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (r"\d+", "a1 b22 c333", ["1", "22", "333"]),
        (r"(\w+)@(\w+)\.com", "joe@x.com, ann@yy.com", [["joe", "x"], ["ann", "yy"]]),
        ("(a)|b", "ab", ["a", None]),
        ("^x", "x\nx", ["x"]),
        ("(?m)^x$", "x\nx", ["x", "x"]),
        ("(?i)äÖ", "ÄöäÖ", ["Äö", "äÖ"]),
        ("(?i)žluť", "ŽLUŤ Žluť", ["ŽLUŤ", "Žluť"]),
        ("(?i)[à-ÿő-ű]", "ÀŐŰŸ×", ["À", "Ő", "Ű", "Ÿ"]),
        ("(?i)οδός", "ΟΔΌΣ οδόσ", ["ΟΔΌΣ", "οδόσ"]),  # the final sigma is a sigma
        ("(?i)ΟΔΌΣ|[Α-Ω]{3}", "οδός ςσΣ", ["οδός", "ςσΣ"]),
        ("(?i)ａｂ", "ＡＢ", ["ＡＢ"]),
        (r"\w+", "مرحبا، عالم؟ שלום־עולם", ["مرحبا", "عالم", "שלום", "עולם"]),
        (r"\w+", "ジョン・スミス ราคา฿5 x™ №5", ["ジョン", "スミス", "ราคา", "5", "x", "5"]),
        (r"\w+", "\ufeffнет; नमस्ते।", ["нет", "नमस्ते"]),
        ("a{,}|b{}", "aab{}", ["aa", "", "b{}", ""]),
        (r"\012\0", "\n\x00\x0012", ["\n\x00"]),
        ("(?s)a.b", "a\nb", ["a\nb"]),
        ("a*", "aab", ["aa", "", ""]),
        ("a{2,3}?", "aaaaaaa", ["aa", "aa", "aa"]),
        ("a{x}", "a{x}", ["a{x}"]),
        (r"(?P<year>\d{4})-(?<month>\d\d)", "2024-05", [["2024", "05"]]),
        (r"\bfoo\b", "foo food", ["foo"]),
        (r"\x41\u00e9[\]\\-]", "Aé]", ["Aé]"]),
        ("x*?y", "xxy", ["xxy"]),
    ],
)
def test_matches(shipped, pattern, text, matches):
    assert match(shipped, pattern, text) == {"matches": matches}


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "a ( without its )"),
        (")", "a ) without its ("),
        ("[", "a [ without its ]"),
        ("*", "nothing to repeat"),
        ("a**", "repeats a repetition"),
        ("a{2,1}", "m over n"),
        ("a{2000}", "more than 1000 times"),
        ("(?=x)", "not supported"),
        ("(?<!x)", "not supported"),
        (r"(\w)\1", "back-reference"),
        ("\\", "ends with a \\"),
        (r"\q", "means nothing"),
        (r"\x+1", "hexadecimal digits"),
        (r"\u1_23", "hexadecimal digits"),
        ("[z-a]", "wrong way round"),
        ("(?:(?:(?:a{10}){10}){10}){10}", "too long"),
        ("(" * 60 + ")" * 60, "nested too deep"),
        ("()" * 51, "more than 50 groups"),
    ],
)
def test_patterns_it_refuses(shipped, pattern, words):
    assert words in match(shipped, pattern, "x")["error"]


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(a*)*b", "(?:a?){30}a{30}b"])
def test_no_pattern_takes_exponential_time(shipped, pattern):
    """Ten times the text is ten times the work, and not its square."""
    few, many = (
        shipped.result("text_match", {"pattern": pattern, "text": "a" * length})
        for length in (300, 3000)
    )
    assert many.value["matches"] is not None
    assert many.fuel < 12 * few.fuel


def test_large_classes_are_counted_as_work(shipped):
    answer = match(shipped, f"(?i)(?:[{'éèàùâêîôû' * 50}ž]{{1000}})", "ž" * 20_000)
    assert answer == {"error": "the pattern takes too long on this text"}
    assert len(match(shipped, f"[{'éèàùâêîôû' * 50}ž]+", "ž x" * 1000)["matches"]) == 1000


def test_quadratic_work_ends_in_words(shipped):
    answer = match(shipped, "x.*y|x", "x" * 40_000)
    assert answer == {"error": "the pattern takes too long on this text"}


CASED = [  # the letters that differ one for one, of the alphabets that are known
    chr(point)
    for point in (
        *range(0x41, 0x180),
        *range(0x386, 0x3AC),
        *range(0x400, 0x588),
        *range(0x1E00, 0x1F00),
    )
    if len(chr(point).lower()) == 1
    and chr(point).lower().upper() == chr(point) != chr(point).lower()
]


def test_letters_match_in_either_case(shipped):
    for letters in (CASED[at : at + 20] for at in range(0, len(CASED), 20)):
        text = "".join(letters)
        assert match(shipped, "(?i)" + text.lower(), text) == {"matches": [text]}
        assert match(shipped, "(?i)" + text, text.lower()) == {"matches": [text.lower()]}


ATOMS = ["a", "b", "c", ".", "[ab]", "[^a]", r"\w", r"\d", r"\s", r"\b", r"\B", "^", "$", "é"]
SOLID = ["a", "b", "[ab]", "ab", "(a|b)", ".", "é"]
COUNTS = ["*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{,2}?", "{1,}"]
patterns = st.recursive(
    st.one_of(
        st.sampled_from(ATOMS),
        st.builds("(?:{}){}".format, st.sampled_from(SOLID), st.sampled_from(COUNTS)),
    ),
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("({})".format, inner),
        st.builds("(?:{}|{})".format, inner, inner),
    ),
    max_leaves=8,
)


@FUZZ
@given(patterns, st.text("abc1 é\n", max_size=20))
def test_the_same_as_re(shipped, pattern, text):
    # Python before 3.14 says that nothing is between no two characters; others' \B matches
    assume(text or r"\B" not in pattern)
    groups = re.compile(pattern).groups
    found = list(re.finditer(pattern, text))
    expected = [
        each.group(0) if not groups else each.group(1) if groups == 1 else list(each.groups())
        for each in found
    ]
    assert match(shipped, pattern, text) == {"matches": expected}


JSON = (
    '{"items":[{"name":"a","n":1.10},{"name":"b"}],"a key":{"x":null},"big":123456789012345678901,'
    '"$id":7,"id":8}'
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("items[0].name", "a"),
        ("items[-1]", {"name": "b"}),
        ("items[*].name", ["a", "b"]),
        ("$.items[0].n", 1.1),
        ('["a key"].x', None),
        ("['a key']", {"x": None}),
        ("big", 123456789012345678901),
        ("$id", 7),
        ("$.id", 8),
        ("$['$id']", 7),
    ],
)
def test_query(shipped, path, value):
    assert shipped.call("text_query", {"path": path, "json": JSON}) == {"value": value}


@pytest.mark.parametrize(
    "number",
    [
        "0.1234567890123456789",
        "-1234567890.123456789",
        "9007199254740993.0",
        "1e400",
        "-1e-400",
        "1e-99999999999999999999",
        "1" * 4301,
    ],
    ids=lambda number: number[:24],
)
def test_a_number_that_would_be_rounded_is_text(shipped, number):
    answer = shipped.call("text_query", {"path": "a", "json": f'{{"a": {number}}}'})
    assert answer == {"value": number}
    within = shipped.call("text_query", {"path": "", "json": f'[{{"a": [1, {number}]}}]'})
    assert within == {"value": [{"a": [1, number]}]}


@FUZZ
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["{!r}", "{:.3f}"]))
def test_a_number_that_would_not_be_rounded_stays_one(shipped, number, form):
    text = form.format(number) if abs(number) < 1e6 else repr(number)
    answer = shipped.call("text_query", {"path": "[0]", "json": f"[{text}]"})
    assert answer == {"value": float(text)}


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("items[5]", JSON, "no [5] in an array of 2"),
        ("items.0.name", JSON, "0 is asked of an array, whose elements are [0], [-1]"),
        ("nope", JSON, "no key nope"),
        ("items[x]", JSON, "no index"),
        ("items[+1]", JSON, "no index"),
        ("items[0_1]", JSON, "no index"),
        ("$nope", JSON, "no key $nope"),
        ("items[", JSON, "a [ without its ]"),
        ("a..b", JSON, "empty name"),
        ('["a', JSON, "not closed"),
        ("a", "{", "not JSON"),
        ("a", "[" * 500 + "]" * 500, "nested too deep"),
    ],
)
def test_query_refuses(shipped, path, text, words):
    assert words in shipped.call("text_query", {"path": path, "json": text})["error"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@FUZZ
@given(json_values, st.booleans())
def test_the_empty_path_is_the_whole(shipped, value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert shipped.call("text_query", {"path": "", "json": text}) == {"value": value}


def patched(old: str, diff: str) -> str:
    """`old` with the diff applied, every context and removed line checked."""
    lines, out, at = re.findall(r"[^\n]*\n|[^\n]+", old), [], 0
    for hunk in re.findall(r"@@[^\n]*@@\n(?:[ +\-\\][^\n]*\n)+", diff):
        head, *body = hunk.split("\n")[:-1]
        start, length = re.match(r"@@ -(\d+)(?:,(\d+))?", head).groups()
        begin = int(start) - (length != "0")
        out, at = out + lines[at:begin], begin
        for index, line in enumerate(body):
            if line.startswith("\\"):
                continue
            bare = index + 1 < len(body) and body[index + 1].startswith("\\")
            text = line[1:] + ("" if bare else "\n")
            if line[0] != "+":
                assert lines[at] == text
                at += 1
            if line[0] != "-":
                out.append(text)
    return "".join(out + lines[at:])


texts = st.lists(st.sampled_from(["a", "b", "c\n", "d\n", "\n", "@@ -1 +1 @@\n"]), max_size=20).map(
    "".join
)


@FUZZ
@given(texts, texts)
def test_a_diff_leads_from_old_to_new(shipped, old, new):
    diff = shipped.call("text_diff", {"old": old, "new": new})["diff"]
    assert patched(old, diff) == new
    assert (diff == "") == (old == new)


def test_a_diff_is_the_shortest(shipped):
    old, new = "a\nb\nc\na\nb\nb\na\n", "c\nb\na\nb\na\nc\n"  # Myers' own example: five edits
    diff = shipped.call("text_diff", {"old": old, "new": new})["diff"]
    assert sum(line[0] in "+-" for line in diff.splitlines()) == 5


def test_a_diff_of_two_large_texts_is_bounded(shipped):
    old = "".join(f"{i}\n" for i in range(20_000))
    new = "".join(f"{i}x\n" for i in range(20_000))
    diff = shipped.call("text_diff", {"old": old, "new": new})["diff"]
    assert patched(old, diff) == new


@FUZZ
@given(st.text())
def test_counts(shipped, text):
    assume(max(text, default="") < "\ud800" or max(text) > "\udfff")
    assert shipped.call("text_count", {"text": text}) == {
        "characters": len(text),
        "words": len(text.split()),
        "lines": text.count("\n") + (not text.endswith("\n") and text != ""),
    }
