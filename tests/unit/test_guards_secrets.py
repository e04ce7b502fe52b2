"""The secrets guard: what it finds, what it leaves alone, that it is fast and never raises."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from random import Random
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mnemonic import Mnemonic

from node.identity import HttpSecret, HttpSecrets, KeyStore
from node.runs.effect import GuardContext, GuardStage
from node.runs.guards_secrets import SecretsGuard, redact
from node.types import Json

CONTEXT = GuardContext("files_read")
SEED = "legal winner thank year wave sausage worth useful legal winner thank yellow"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\nEEIN\n-----END EC PRIVATE KEY-----"

SECRETS = {
    "nsec": "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5",
    "ncryptsec": "ncryptsec1"
    + "qgg9947rlpvqu76pj5ecreduf9jxhselq2nae2kghhvd5g7dgjtcxfqtd67p9m0"
    + "w57lspw8gsq6yphnm8623nsl8xn9j4jdzz84zm3frztj3z7s35vpzmqf6ksu8r89qk5z2zxfmu5gv8th8wclt0h4p",
    "nwc": "nostr+walletconnect://" + "b" * 64 + "?relay=wss%3A%2F%2Fr.example&secret=" + "7" * 64,
    "cashu": "cashuAeyJ0b2tlbiI6W3sibWludCI6Imh0dHBzOi8vODMzMy5zcGFjZTozMzM4IiwicHJvb2ZzIjpbXX1dfQ",
    "cashuB": "cashuBo2F0gqJhaUgA_9SLj17PgGFwgaNhYQFhc3hAYWNjMTI0MzVlN2I4NDg0YzNjZjE4NTAxNDky",
    "xprv": "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejM"
    "RNNU3TGtRBeJgk33yuGBxrMPHi",
    "age": "AGE-SECRET-KEY-1" + "GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX",
    "openai": "sk-proj-" + "aB3_" * 10,
    "github": "ghp_" + "a1B2" * 9,
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "google": "AIza" + "SyA-1234567890abcdefghijklmnopqrstu",
    "slack": "xoxb-123456789012-abcdefghij",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "stripe": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "stripe restricted": "rk_test_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "github fine-grained": "github_pat_" + "11AB_cd2" * 9,
    "gitlab": "glpat-" + "aB3_-" * 4,
    "aws session": "ASIA" + "IOSFODNN7EXAMPLE",
    "hugging face": "hf_" + "aB3" * 11,
    "npm": "npm_" + "aB3" * 12,
    "pypi": "pypi-" + "AgEIcHlwaS5v" * 6,
    "nwc without slashes": "nostrwalletconnect:" + "B" * 64 + "?relay=wss://r&secret=" + "7" * 64,
    "pgp": PEM.replace("EC PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
    "pem": PEM,
    "seed": SEED,
    "seed24": "abandon " * 23 + "art",
}


@pytest.mark.parametrize("name", sorted(SECRETS))
@pytest.mark.parametrize(
    "around", ["{}", "key: {}.", '{{"k":"{}"}}', "https://x.example/?k={}&b=1"]
)
def test_a_secret_does_not_survive(name: str, around: str) -> None:
    text = around.format(SECRETS[name])
    redacted, kinds = redact(text)
    assert kinds
    assert "[redacted " in redacted
    for piece in SECRETS[name].split("\n"):
        assert piece not in redacted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The total is 1234.50, see task-list-of-the-day-and-more and risk-assessment-document.",
        "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg",
        "note1fntxtkcy9pjwucqwa9mddn7v03wwwsu9j330jj350nvhpky2tuaspk6nqc",
        "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----",
        "A file that begins with -----BEGIN OPENSSH PRIVATE KEY----- is secret.\n" + "It is. " * 50,
        '_START = b"-----BEGIN OPENSSH PRIVATE KEY-----"\n' + "def sign():\n    return 1\n" * 9,
        "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD"
        "265TMg7usUDFdp6W1EGMcet8",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "word " * 200,
        "you can use this when they all come here and then go home with that girl or boy",
        "eyJhbGciOiJIUzI1NiJ9",
        "cashuA is a prefix, sk-1 is short",
        "https://example.org/blog/sk-learn-pipelines-explained-with-python3-in-2024",
        '<div class="sk-toggleable__label-arrow">, --sk-color-text-level-3-hover',
        "https://example.org/pypi-packages-with-malicious-code-found-in-the-wild-in-2023",
        "self.cashuBalanceInitializedAtStartup = 1",
        "the key of a page for everybody: pk_live_51H8xTq2eZvKYlo2C0aUsp",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == (text, set())


LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
HEADERS = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,1F4A0E5A4C8C0D9F0B7E6A3D2C1B0A99"


@pytest.mark.parametrize(
    "lines",
    [
        f"{LINE}\n{LINE}\nq83EA==",
        f"{HEADERS}\n\n{LINE}\n{LINE}\nq83EA==",
        rf"{LINE}\n{LINE}\nq83EA==",
        f'{LINE}\\n" +\n    "{LINE}',
        f"1  {LINE}\n2  {LINE}",
    ],
    ids=["plain", "encrypted", "JSON", "code", "numbered"],
)
def test_a_key_that_is_cut_off_is_one_as_far_as_it_goes(lines: str) -> None:
    begins = f"key: -----BEGIN RSA PRIVATE KEY-----\n{lines}\n"
    assert redact(f"{begins}\n[cut] And this follows.")[0].startswith("key: [redacted private key]")
    for text in (begins, f"{begins}[cut] And this follows.", begins + begins + PEM):
        redacted = redact(text)[0]
        assert not any(part in redacted for part in (LINE, "q83EA", "4,ENCRYPTED", "BEGIN"))
        assert ("And this follows." in redacted) is ("follows" in text)


@pytest.mark.parametrize("words", [12, 15, 18, 21, 24])
def test_seed_phrases_of_every_length_are_found_in_text(words: int) -> None:
    for n in range(8):
        seed = Mnemonic("english").to_mnemonic(bytes([n * 7 % 256, 255 - n] * (words * 2 // 3)))
        numbered = "\n".join(f"{i + 1}. {w}" for i, w in enumerate(seed.split()))
        for text in (seed, seed.upper(), numbered, f"please write {seed} down", f"able {seed} zoo"):
            redacted, kinds = redact(text)
            assert kinds == {"seed phrase"}
            assert len(redacted) < len(text) / 2 + 60


def test_seed_phrases_that_overlap_are_cut_out_once() -> None:
    english = Mnemonic("english")
    longer = next(
        text for word in english.wordlist if english.check(text := f"{SEED} zoo zoo {word}")
    )
    assert redact(f"It is {longer}, no more.")[0] == "It is [redacted seed phrase], no more."


def test_data_of_a_few_words_is_no_seed() -> None:
    """Whatever their checksum, which is right for every sixteenth twelve of them."""
    drawn = Random(5)
    logical = json.dumps([drawn.random() < 0.5 for _ in range(500)])
    colours = [drawn.choice(["green", "blue", "black", "orange", "silver"]) for _ in range(200)]
    table = "\n".join(f"{number},{colour}" for number, colour in enumerate(colours))
    for text in (logical, table):
        assert redact(text) == (text, set())
    assert SecretsGuard().check(GuardStage.TOOL_RESULT, colours, CONTEXT).verdict == "pass"


@pytest.mark.parametrize("words", ["abandon " * 11 + "about", "zoo " * 11 + "wrong"])
def test_the_phrases_that_people_try_things_with_are_found(words: str) -> None:
    assert redact(f"It is {words}.") == ("It is [redacted seed phrase].", {"seed phrase"})


def test_words_of_the_list_with_a_wrong_checksum_are_no_seed() -> None:
    assert redact(SEED.replace("yellow", "winner"))[1] == set()


KNOWN = "correct-horse-battery"


@pytest.mark.parametrize(
    "form",
    [
        KNOWN,
        KNOWN.encode().hex(),
        KNOWN.encode().hex().upper(),
        base64.b64encode(KNOWN.encode()).decode(),
    ],
)
def test_the_nodes_own_secrets_are_found_in_each_form(form: str) -> None:
    guard = SecretsGuard(lambda: [KNOWN, "short"])
    verdict = guard.check(GuardStage.ANSWER, f"a short word and {form}!", CONTEXT)
    assert verdict.verdict == "rewrite"
    assert str(verdict.value).startswith("a short word and [redacted secret of this node]")


@pytest.mark.parametrize("before", ["", "u", "us", "usr", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_the_nodes_own_secrets_are_found_within_what_is_coded(before: str, encode) -> None:  # type: ignore[no-untyped-def]
    known = "??~~" * 4  # which the two ways of base64 write with other characters
    coded = encode(f"{before}{known}, or so~?".encode()).decode()
    text, found = redact(f"It said {coded}.", SecretsGuard(lambda: [known]).forms())
    assert found == {"secret of this node"}
    assert coded[len(before) * 8 // 6 + 2 :][:8] not in text


def test_the_nodes_own_secrets_are_found_as_a_url_and_json_write_them() -> None:
    secret = 'p@ss "w&rd" ü'
    forms = SecretsGuard(lambda: [secret]).forms()
    for written in (quote(secret, safe=""), json.dumps(secret)):
        assert redact(written, forms)[1] == {"secret of this node"}


@pytest.mark.parametrize(
    "written",
    [
        "ab%2Fcd%2Bef%26gh~12%3D%3D",
        "ab%2fcd%2bef%26gh~12%3d%3d",
        "ab%2Fcd%2Bef%26gh%7E12%3D%3D",
        "ab/cd%2Bef%26gh~12%3D%3D",
        "ab/cd+ef&gh~12==",
        r"ab\/cd+ef&gh~12==",
        r"ab/cd+ef\u0026gh~12==",
        r"ab/cd\u002Bef\u0026gh~12==",
    ],
    ids=["JavaScript", "lower", "Java", "Python", "encodeURI", "PHP", "Go", ".NET"],
)
def test_the_nodes_own_secrets_are_found_as_others_write_them(written: str) -> None:
    guard = SecretsGuard(lambda: ["ab/cd+ef&gh~12=="])
    verdict = guard.check(
        GuardStage.TOOL_RESULT, f'{{"Authorization": "Bearer {written}"}}', CONTEXT
    )
    assert verdict.value == '{"Authorization": "Bearer [redacted secret of this node]"}'


@pytest.mark.parametrize("before", ["\\n", "\\t", "\\u003d", "%3D", "%20", "key="])
@pytest.mark.parametrize("name", ["nsec", "cashu", "aws"])
def test_a_secret_is_found_behind_what_escapes_a_character(before: str, name: str) -> None:
    """As in the text of a JSON document or a URL, which is how servers answer."""
    text, found = redact(f"my key{before}{SECRETS[name]}")
    assert SECRETS[name] not in text
    assert found


@pytest.mark.parametrize("between", ["\\n", "%20", "\\u0020", "\\r\\n"])
def test_a_seed_is_found_between_what_escapes_a_space(between: str) -> None:
    assert redact(f"words:{between}{between.join(SEED.split())}")[1] == {"seed phrase"}


def test_a_key_in_capitals_is_one_too() -> None:
    assert redact(SECRETS["nsec"].upper())[1] == {"nostr secret key"}


def test_a_seed_in_a_list_of_words_is_refused_in_arguments() -> None:
    verdict = SecretsGuard().check(GuardStage.TOOL_ARGUMENTS, {"words": [*SEED.split()]}, CONTEXT)
    assert (verdict.verdict, verdict.reason) == ("fail", "contains a secret: seed phrase")


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ({"result": SEED.split()}, {"result": ["[redacted seed phrase]"] * 12}),
        (
            {"words": [[str(at), word] for at, word in enumerate(SEED.split())]},
            {"words": [[str(at), "[redacted seed phrase]"] for at in range(12)]},
        ),
        (
            [f"It is {SEED[:36]}", SEED[37:], "or so"],
            ["It is [redacted seed phrase]", "[redacted seed phrase]", "or so"],
        ),
        (
            ["the key:", *PEM.split("\n"), "and no more"],
            ["the key:", *["[redacted private key]"] * 4, "and no more"],
        ),
        ([f"it is {SEED}", "zebra"], ["it is [redacted seed phrase]", "zebra"]),
        (
            ["-----BEGIN PRIVATE KEY-----", "MIIEvQIBADAN" * 5, "and so on"],
            ["[redacted private key]", "[redacted private key]", "[redacted private key] so on"],
        ),
    ],
    ids=["list", "numbered", "two", "lines", "one of two", "no end"],
)
def test_a_secret_in_parts_does_not_get_out_of_a_result(content: Json, left: Json) -> None:
    verdict = SecretsGuard().check(GuardStage.TOOL_RESULT, content, CONTEXT)
    assert (verdict.verdict, verdict.value) == ("rewrite", left)


def test_words_in_a_list_are_no_seed_with_a_wrong_checksum() -> None:
    words = SEED.replace("yellow", "winner").split()
    assert SecretsGuard().check(GuardStage.TOOL_RESULT, words, CONTEXT).verdict == "pass"


def test_secrets_kept_later_are_found_too(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    guard = SecretsGuard(HttpSecrets(tmp_path / "keys").values)
    text = "the password is hunter2-hunter2"
    assert guard.check(GuardStage.ANSWER, text, CONTEXT).verdict == "pass"
    kept = HttpSecret("https://a.org/*", "Authorization", "Bearer hunter2-hunter2", ("clerk",))
    store.set("db", kept.encode())
    assert guard.check(GuardStage.ANSWER, text, CONTEXT).verdict == "rewrite"
    store.remove("db")
    assert guard.check(GuardStage.ANSWER, text, CONTEXT).verdict == "pass"


@pytest.mark.parametrize("stage", GuardStage)
def test_arguments_are_refused_and_all_else_rewritten(stage: GuardStage) -> None:
    content = {"text": ["a", SECRETS["nsec"]], SECRETS["aws"]: 1}
    verdict = SecretsGuard().check(stage, content, CONTEXT)
    assert verdict.reason == "contains a secret: api key, nostr secret key"
    if stage is GuardStage.TOOL_ARGUMENTS:
        assert (verdict.verdict, verdict.value) == ("fail", None)
    else:
        assert verdict.verdict == "rewrite"
        assert verdict.value == {
            "text": ["a", "[redacted nostr secret key]"],
            "[redacted api key]": 1,
        }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(content=json_values, stage=st.sampled_from(GuardStage))
@settings(max_examples=150, deadline=None)
def test_it_never_raises(content: object, stage: GuardStage) -> None:
    verdict = SecretsGuard(lambda: ["password1"]).check(stage, content, CONTEXT)  # type: ignore[arg-type]
    assert verdict.verdict in ("pass", "fail", "rewrite")


fragments = st.lists(
    st.sampled_from(
        [
            "nsec1",
            "eyJ",
            ".",
            "-",
            "_",
            " ",
            "\n",
            "abandon ",
            "zoo",
            "sk-",
            "-----BEGIN ",
            "PRIVATE KEY-----",
            "-----END ",
            "cashuA",
            "xprv",
            "q",
            "9",
            "nostrwalletconnect:",
            "?",
        ]
    ),
    max_size=60,
).map("".join)


@given(text=fragments)
@settings(max_examples=200, deadline=None)
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once, _ = redact(text)
    assert redact(once)[0] == once


@pytest.mark.parametrize(
    "unit",
    [
        "eyJ",
        "eyJa-",
        "eyJaaaaaaaaaa.",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY----- " + "aB3" * 10,
        "-----BEGIN PRIVATE KEY----- " + "aB3" * 11,
        "sk-",
        "cashuA",
        "nsec1",
        "nostrwalletconnect:",
        "nostr+walletconnect://" + "a" * 64 + "?",
        "a ",
        "github_pat_",
        "xprv9",
    ],
)
def test_time_grows_with_length_and_no_faster(unit: str) -> None:
    """Ten times the text takes about ten times as long; quadratic work would take a hundred."""

    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        best = 9.0
        for _ in range(3):
            started = time.thread_time()
            redact(text)
            best = min(best, time.thread_time() - started)
        return best

    assert seconds(100_000) <= 25 * seconds(10_000) + 0.05
