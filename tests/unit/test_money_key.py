"""The key of the wallet's file, with and without a passphrase, and where that comes from."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import FreeholdError, IdentityError, WalletLockedError, WalletStateError
from node.identity import HttpSecret, HttpSecrets, KeyStore
from node.money import Keeper, WalletKey
from node.money import key as module
from node.money.passphrase import from_environment, is_given
from wallet import Rules
from wallet.protocol.derivation import new_words

PHRASE = "eight small words"
COST = module.COST


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COST", (2**4, 8, 1))


def file_of(keys: Path) -> Path:
    return keys / "wallet" / "key.secret"


def test_a_guess_costs_what_the_page_says() -> None:
    memory_bytes = 128 * COST[0] * COST[1]
    page = (Path(__file__).parents[2] / "docs" / "wallet.md").read_text()
    assert f"scrypt ({memory_bytes >> 20} MiB)" in page


def test_a_key_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    keys = WalletKey(tmp_path / "keys")
    assert not keys.exists()
    with pytest.raises(IdentityError):
        keys.open()
    made = keys.make()
    assert (len(made), keys.open(), keys.is_wrapped()) == (32, made, False)
    assert WalletKey(tmp_path / "keys").open("whatever") == made
    assert stat.S_IMODE(file_of(tmp_path / "keys").stat().st_mode) == 0o600
    assert stat.S_IMODE(file_of(tmp_path / "keys").parent.stat().st_mode) == 0o700
    with pytest.raises(WalletStateError, match="already"):
        keys.make()


def test_under_a_passphrase_the_file_holds_no_key(tmp_path: Path) -> None:
    keys = WalletKey(tmp_path / "keys")
    made = keys.make()
    keys.set_passphrase(None, PHRASE)
    content = file_of(tmp_path / "keys").read_bytes()
    assert made.hex().encode() not in content
    assert PHRASE.encode() not in content
    assert keys.is_wrapped()
    for wrong in (None, "", "eight small word", PHRASE + " "):
        with pytest.raises(WalletLockedError):
            keys.open(wrong)
    assert keys.open(PHRASE) == made


def test_the_key_as_it_was_does_not_stay_on_the_disk(tmp_path: Path) -> None:
    keys = WalletKey(tmp_path / "keys")
    made, file = keys.make(), file_of(tmp_path / "keys")
    with file.open("rb") as plain:
        assert made.hex().encode() in plain.read()
        keys.set_passphrase(None, PHRASE)
        plain.seek(0)
        assert not plain.read().strip(b"\0")
    assert keys.open(PHRASE) == made


def test_a_passphrase_changes_and_goes_with_the_old_one_only(tmp_path: Path) -> None:
    keys = WalletKey(tmp_path / "keys")
    made = keys.make()
    keys.set_passphrase(None, PHRASE)
    with pytest.raises(WalletLockedError):
        keys.set_passphrase("wrong one", "another phrase")
    with pytest.raises(WalletStateError, match="at least 8"):
        keys.set_passphrase(PHRASE, "1234567")
    keys.set_passphrase(PHRASE, "12345678")
    keys.set_passphrase("12345678", "grüße aus überall")
    assert keys.open("grüße aus überall") == made
    keys.set_passphrase("grüße aus überall", None)
    assert keys.open() == made


async def test_a_passphrase_is_forgotten_after_a_start(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "wallet.db", tmp_path / "keys", rules=Rules(), passphrase=PHRASE)
    await keeper.start()
    assert PHRASE not in vars(keeper).values(), "also where there was no wallet to open"


async def test_where_a_file_is_gone_its_locked_key_keeps_no_seed_from_coming_back(
    tmp_path: Path,
) -> None:
    """The hint of a damaged file says to move it away; its key asks for a passphrase still."""
    keys = WalletKey(tmp_path / "keys")
    keys.make()
    keys.set_passphrase(None, PHRASE)
    keeper, seed = Keeper(tmp_path / "wallet.db", tmp_path / "keys", rules=Rules()), new_words()
    with pytest.raises(WalletLockedError) as caught:
        await keeper.make(seed)
    assert "move keys/wallet out of the home" in caught.value.hint
    assert "unlock" not in caught.value.hint, "there is nothing that it could open"
    (tmp_path / "keys" / "wallet").rename(tmp_path / "moved")
    assert (await keeper.make(seed)).words() == seed
    assert (await keeper.make(f" {seed.title()}\n")).words() == seed, "the same words, once more"
    with pytest.raises(WalletStateError, match="another seed"):
        await keeper.make(new_words())
    await keeper.aclose()


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    keys = WalletKey(tmp_path / "keys")
    keys.make()
    file_of(tmp_path / "keys").chmod(0o644)
    with pytest.raises(IdentityError, match="open to others"):
        keys.open()
    assert KeyStore(tmp_path / "keys").problems()


def test_the_secrets_of_tools_do_not_see_it(tmp_path: Path) -> None:
    WalletKey(tmp_path / "keys").make()
    kept = HttpSecret("https://a.example/*", "Authorization", "Bearer x", ("clerk",))
    KeyStore(tmp_path / "keys").set("a", kept.encode())
    secrets = HttpSecrets(tmp_path / "keys")
    assert list(secrets.all()) == ["a"]
    assert secrets.values() == ("Bearer x", "x")


@given(content=st.one_of(st.binary(max_size=200), st.dictionaries(st.text(), st.integers())))
def test_whatever_the_file_holds_the_error_is_ours(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    folder.chmod(0o700)
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    KeyStore(folder / "wallet").set("key", raw or b"{}")
    with pytest.raises(FreeholdError):
        WalletKey(folder).open(PHRASE)


@pytest.mark.parametrize(
    "change",
    [
        {"scrypt": {"n": 2**40, "r": 8, "p": 1}},
        {"scrypt": {"n": 15, "r": 8, "p": 1}},
        {"scrypt": {"n": 16, "r": 8, "p": 10**6}},
        {"scrypt": {"n": 16, "r": 8}},
        {"scrypt": {"n": 2**16, "r": 1, "p": 1}},
        {"scrypt": {"n": 2, "r": 2**20, "p": 16}},
        {"scrypt": {"n": 16.0, "r": 8, "p": 1}},
        {"scrypt": None},
        {"salt": "zz"},
        {"nonce": ""},
        {"sealed": "00"},
        {"format": 2},
    ],
)
def test_a_file_that_was_changed_opens_nothing(tmp_path: Path, change: dict[str, object]) -> None:
    keys = WalletKey(tmp_path / "keys")
    keys.make()
    keys.set_passphrase(None, PHRASE)
    file = file_of(tmp_path / "keys")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(WalletStateError):
        keys.open(PHRASE)


def test_one_bit_of_the_sealed_key_is_noticed(tmp_path: Path) -> None:
    keys = WalletKey(tmp_path / "keys")
    keys.make()
    keys.set_passphrase(None, PHRASE)
    file = file_of(tmp_path / "keys")
    found = json.loads(file.read_text())
    flipped = bytearray.fromhex(found["sealed"])
    flipped[3] ^= 1
    file.write_text(json.dumps({**found, "sealed": flipped.hex()}))
    with pytest.raises(WalletLockedError):
        keys.open(PHRASE)


# ── where a passphrase comes from ───────────────────────────────────────────────────────────


def test_the_variable_is_taken_out_of_the_environment() -> None:
    env = {"FREEHOLD_PASSPHRASE": PHRASE, "PATH": "/bin"}
    assert is_given(env)
    assert from_environment(env) == PHRASE
    assert env == {"PATH": "/bin"}
    assert from_environment(env) is None
    assert not is_given(env)


def test_a_variable_that_is_not_utf_8_is_a_wrong_passphrase(tmp_path: Path) -> None:
    """os.environ has such bytes as surrogates; the node starts, with its wallet locked."""
    key = WalletKey(tmp_path)
    key.make()
    key.set_passphrase(None, PHRASE)
    given = from_environment({"FREEHOLD_PASSPHRASE": os.fsdecode(b"stra\xdfe und berg")})
    with pytest.raises(WalletLockedError, match="not the wallet's passphrase"):
        key.open(given)


def test_a_pipe_goes_before_the_variable() -> None:
    reading, writing = os.pipe()
    os.write(writing, b" from a person \r\n")
    os.close(writing)
    env = {"FREEHOLD_PASSPHRASE_FD": str(reading), "FREEHOLD_PASSPHRASE": PHRASE}
    assert from_environment(env) == " from a person "
    assert env == {}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)


def test_an_empty_pipe_leaves_it_to_the_variable() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    env = {"FREEHOLD_PASSPHRASE_FD": str(reading), "FREEHOLD_PASSPHRASE": PHRASE}
    assert from_environment(env) == PHRASE


def test_a_systemd_credential_is_read(tmp_path: Path) -> None:
    (tmp_path / "freehold-passphrase").write_text(f"{PHRASE}\n")
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert is_given(env)
    assert from_environment(env) == PHRASE
    assert from_environment({"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}) is None
