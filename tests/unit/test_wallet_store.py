"""The wallet's file: one writer, nothing readable in it, and no state that loses money."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from wallet.errors import (
    MintMisbehavedError,
    RefusedError,
    StoreError,
    WalletBusyError,
)
from wallet.operations.results import Rules
from wallet.protocol import tokens
from wallet.protocol.derivation import Seed
from wallet.store import (
    Coin,
    Hold,
    Kind,
    MintRow,
    Operation,
    Outbox,
    Record,
    State,
    Store,
    Tables,
    codec,
)
from wallet.store.proofs import MOST_ALIKE, Proofs
from wallet.store.vault import Vault
from wallet.testing import KEY, WORDS, World
from wallet.types import Dleq, KeysetInfo, Proof
from wallet.wallet import Wallet

URL = "https://mint.example"
KEYSET = "01" + "ab" * 32


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store(tmp_path / "w.db", key=KEY)
    await opened.unlock(lambda: b"words")
    await opened.write("mint", _with_keyset)
    yield opened
    await opened.aclose()


def _with_keyset(tables: Tables) -> None:
    tables.keysets.put_mint(MintRow(URL, "a mint", True, True, 0))
    tables.keysets.put(URL, [KeysetInfo(KEYSET, "sat")], 0)


def proof(number: int, amount: int = 4) -> Proof:
    secret = f"{number:064x}"
    dleq = Dleq(b"e" * 32, b"s" * 32, b"r" * 32)
    return Proof(amount, KEYSET, secret, bytes([2]) + bytes(32), dleq, "witness", b"\3" * 33)


def operation(key: str = "k", state: State = State.PREPARED) -> Operation:
    return Operation(key, Kind.SEND, state, URL, "sat", 4, 0, 1, 1)


# ── who may open it ─────────────────────────────────────────────────────────────────────────


async def test_a_second_opener_is_told(tmp_path: Path, store: Store) -> None:
    with pytest.raises(WalletBusyError, match="in use"):
        Store(tmp_path / "w.db", key=KEY)
    await store.aclose()
    again = Store(tmp_path / "w.db", key=KEY)
    assert await again.unlock(lambda: b"others") == b"words"
    await again.aclose()


async def test_closing_frees_the_file_though_who_closes_it_is_cancelled(
    tmp_path: Path, store: Store, cancelled_at: Callable[..., Awaitable[bool]]
) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    assert await cancelled_at(0, store.aclose())
    await asyncio.to_thread(lambda: None)  # comes after what is under way there
    await Store(tmp_path / "w.db", key=KEY).aclose()


async def test_what_is_written_is_on_the_disk_and_whole(store: Store) -> None:
    """As SQLite promises with these, also where the power fails."""
    wanted = {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "foreign_keys": 1}

    def work(tables: Tables) -> dict[str, object]:
        run = tables.connection.execute
        return {name: run(f"PRAGMA {name}").fetchone()[0] for name in wanted}

    assert await store.write("x", work) == wanted


async def test_what_waits_when_it_is_closed_is_written(tmp_path: Path, store: Store) -> None:
    begun, go_on = threading.Event(), threading.Event()
    first = asyncio.create_task(store.write("x", lambda _: (begun.set(), go_on.wait())))
    await asyncio.to_thread(begun.wait)
    second = asyncio.create_task(store.write("x", lambda t: t.put_sealed("name", b"value")))
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.aclose())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, second, closing)
    again = Store(tmp_path / "w.db", key=KEY)
    assert again.read(lambda tables: tables.sealed("name")) == b"value"
    await again.aclose()


async def test_a_wrong_key_says_so_and_changes_nothing(tmp_path: Path, store: Store) -> None:
    await store.aclose()
    other = Store(tmp_path / "w.db", key=b"x" * 32)
    with pytest.raises(StoreError, match="the key does not open this wallet"):
        await other.unlock(lambda: b"others")
    await other.aclose()
    with pytest.raises(StoreError, match="32 bytes"):
        Store(tmp_path / "w.db", key=b"short")
    again = Store(tmp_path / "w.db", key=KEY)
    assert await again.unlock(lambda: b"others") == b"words"
    await again.aclose()


async def test_other_words_are_refused_and_the_lock_is_freed(tmp_path: Path) -> None:
    path = tmp_path / "home" / "w.db"
    first = await Wallet.open(path, key=KEY, words=WORDS["ann"])
    assert first.words() == WORDS["ann"]
    await first.aclose()
    with pytest.raises(RefusedError, match="another seed"):
        await Wallet.open(path, key=KEY, words=WORDS["bob"])
    async with await Wallet.open(path, key=KEY) as again:
        assert again.words() == WORDS["ann"]
    async with await Wallet.open(tmp_path / "new.db", key=KEY) as fresh:
        assert len(fresh.words().split()) == 12
        assert fresh.rules == Rules()
        assert fresh.now() > 1_700_000_000


async def test_files_are_for_their_owner_only(tmp_path: Path, store: Store) -> None:
    await store.write("x", lambda tables: tables.put_sealed("x", b"y"))
    for name in ("w.db", "w.db-wal", "w.db-shm", "w.db.lock"):
        assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600, name


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="folder cannot be written"):
        Store(tmp_path / "file" / "w.db", key=KEY)


# ── what is in it ───────────────────────────────────────────────────────────────────────────


async def test_nothing_that_is_money_can_be_read_in_the_file(tmp_path: Path) -> None:
    world = World(tmp_path)
    wallet = await world.funded("ann", 100)
    bob = await world.funded("bob", 10)
    token = (await wallet.send(5, memo="a memo for the payee")).token
    await wallet.send(9, to=bob.address())
    await wallet.receive((await bob.send(3)).token)
    await wallet.request_invoice(7)
    private = wallet._book.seed.p2pk_key(0)
    words = wallet.words()
    quoted = [record for record in _records(wallet) if record.operation.kind == Kind.MINT]
    secrets = [word for word in words.split() if len(word) > 5]
    secrets += [words, wallet._book.seed.value.hex(), private.hex(), token, "a memo for the payee"]
    for held in _all_proofs(wallet):
        secrets += [held.secret, held.c.hex()]
    for spent in tokens.decode(token).proofs:
        secrets += [spent.secret]
    secrets += [record.body["quote"]["request"] for record in quoted]
    await world.close()
    raw = b"".join((tmp_path / name).read_bytes() for name in os.listdir(tmp_path))
    assert len(raw) > 50_000
    assert b"https://mint0.example" in raw, "columns in the clear are found, so the rest would be"
    for secret in secrets:
        assert secret.encode() not in raw
        if len(secret) % 2 == 0 and all(letter in "0123456789abcdef" for letter in secret):
            assert bytes.fromhex(secret) not in raw


def _all_proofs(wallet: Wallet) -> list[Proof]:
    held: list[Proof] = []
    for hold in Hold:
        held += [
            h.proof for _, h in wallet._book.store.read(lambda t, h=hold: t.proofs.all_held(h))
        ]
    return held


def _records(wallet: Wallet) -> list[Record]:
    def work(tables: Tables) -> list[Record]:
        found = (tables.operations.get(key) for key in tables.operations.keys())  # noqa: SIM118
        return [record for record in found if record is not None]

    return wallet._book.store.read(work)


async def test_records_come_back_as_they_were(store: Store) -> None:
    kept = [proof(1, 1), replace(proof(2, 2), dleq=None, witness=None, ephemeral=None)]
    record = Record(operation(), {"list": [1, "two"], "proofs": codec.from_proofs(kept)})

    def work(tables: Tables) -> None:
        tables.proofs.add(URL, "sat", kept)
        tables.operations.insert(record)

    await store.write("x", work)
    found = store.read(lambda tables: tables.operations.get("k"))
    assert found is not None
    assert found.operation == record.operation
    assert list(codec.proofs_of(found.body, "proofs")) == kept
    held = store.read(lambda tables: tables.proofs.all_held(Hold.FREE))
    assert sorted((h.proof for _, h in held), key=lambda p: p.amount) == kept


async def test_reading_shows_no_secret() -> None:
    assert "secret" not in repr(Record(operation(), {"x": "secret"}))
    assert "00000000" not in repr(proof(1))
    assert WORDS["ann"] not in repr(Seed.from_words(WORDS["ann"]))


# ── damage ──────────────────────────────────────────────────────────────────────────────────


async def test_a_changed_amount_is_found(tmp_path: Path, store: Store) -> None:
    await store.write("x", lambda tables: tables.proofs.add(URL, "sat", [proof(1)]))
    await store.aclose()
    _edit(tmp_path / "w.db", "UPDATE proofs SET amount = 4000")
    again = Store(tmp_path / "w.db", key=KEY)
    with pytest.raises(StoreError, match="damaged"):
        again.read(lambda tables: tables.proofs.all_held(Hold.FREE))
    await again.aclose()


async def test_a_changed_operation_is_found_by_check(tmp_path: Path) -> None:
    world = World(tmp_path)
    wallet = await world.funded("ann", 10)
    await wallet.send(2, key="k")
    assert (await wallet.check()).ok
    await world.stop()
    _edit(tmp_path / "ann.db", "UPDATE operations SET fee = 7 WHERE key = 'k'")
    _edit(tmp_path / "ann.db", "UPDATE proofs SET sealed = zeroblob(200) WHERE state = 0")
    wallet = await world.wallet()
    report = await wallet.check()
    assert not report.ok
    assert any("operation k" in each for each in report.damage)
    assert any("a proof" in each for each in report.damage)
    await world.close()


async def test_a_file_with_torn_pages_is_refused(tmp_path: Path, store: Store) -> None:
    await store.write("x", lambda t: t.proofs.add(URL, "sat", [proof(n) for n in range(200)]))
    await store.aclose()
    path = tmp_path / "w.db"
    whole = path.read_bytes()
    path.write_bytes(whole[: 4096 * 3] + os.urandom(4096 * 8) + whole[4096 * 11 :])
    for _ in range(2):
        with pytest.raises(StoreError) as told:
            Store(path, key=KEY)
        assert not isinstance(told.value, WalletBusyError), "the lock is free again"


@pytest.mark.parametrize(
    ("content", "says"), [(b"no database" * 100, "cannot be used"), (None, "version 77")]
)
async def test_what_is_no_wallet_is_refused(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)
    else:
        _edit(path, "PRAGMA user_version = 77")
    with pytest.raises(StoreError, match=says) as told:
        Store(path, key=KEY)
    assert told.tb, "which holds all that was made"
    assert str(path) not in {file.path for file in psutil.Process().open_files()}


async def test_a_library_that_cannot_read_the_file_does_not_have_it_moved_away(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To SQLite 3.34, which some systems still have, a STRICT table is a damaged one."""
    await store.aclose()
    with monkeypatch.context() as older:
        older.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
        with pytest.raises(StoreError, match=r"needs SQLite 3\.37") as told:
            Store(tmp_path / "w.db", key=KEY)
        assert "move" not in told.value.hint
    again = Store(tmp_path / "w.db", key=KEY)
    await again.aclose()


async def test_a_file_of_before_is_brought_up_to_date(tmp_path: Path, store: Store) -> None:
    await store.write("x", lambda t: t.operations.insert(Record(operation("a", State.DONE))))
    await store.write("x", lambda t: t.operations.insert(Record(operation("b"))))
    await store.aclose()
    _edit(tmp_path / "w.db", "DROP TABLE untold")
    _edit(tmp_path / "w.db", "PRAGMA user_version = 1")
    again = Store(tmp_path / "w.db", key=KEY)
    try:
        assert again.read(lambda t: (t.operations.untold(), t.operations.told_to())) == ((), 0)
        ended = Record(operation("b", State.FAILED))
        await again.write("x", lambda t: t.operations.update(ended))
        assert again.read(lambda t: t.operations.untold()) == (ended.operation,)
    finally:
        await again.aclose()


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (lambda proofs, _: proofs.release("k"), 1),
        (lambda proofs, _: proofs.spend("k"), 1),
        (lambda proofs, tags: proofs.drop(tags), 2),
        (lambda proofs, tags: proofs.set_aside(tags, "other", hold=Hold.RESERVED), 1),
        (lambda proofs, tags: proofs.bring_back(tags), 3),
    ],
)
async def test_a_proof_changes_from_the_state_that_is_named_only(
    store: Store, change: Callable[[Proofs, list[bytes]], int], changed: int
) -> None:
    """Whatever an operation believes: what it does not hold so, it does not touch."""

    def work(tables: Tables) -> list[int]:
        tables.proofs.add(URL, "sat", [proof(0)])
        for number, hold in ((1, Hold.RESERVED), (2, Hold.SENT), (3, Hold.ASIDE)):
            tables.proofs.add(URL, "sat", [proof(number)], hold=hold, operation="k")
        assert tables.proofs.kept(URL) == 3
        tags = [tables.vault.tag(proof(number).secret) for number in range(4)]
        before = [tables.proofs.state(tag) for tag in tags]
        assert change(tables.proofs, tags) == 1
        return [at for at, tag in enumerate(tags) if tables.proofs.state(tag) != before[at]]

    assert await store.write("x", work) == [changed]


async def test_an_end_is_untold_until_it_was_told(store: Store) -> None:
    for key in ("a", "b"):
        await store.write("x", lambda t, k=key: t.operations.insert(Record(operation(k))))
    done = Record(operation("a", State.DONE))
    for _ in range(2):
        await store.write("x", lambda t: t.operations.update(done))
        assert store.read(lambda t: t.operations.untold()) == (done.operation,)
    await store.write("x", lambda t: t.operations.tell([("a", State.FAILED), ("b", State.DONE)], 7))
    assert store.read(lambda t: t.operations.untold()) == (done.operation,)
    await store.write("x", lambda t: t.operations.tell([("a", State.DONE)], 9))
    await store.write("x", lambda t: t.operations.update(done))
    assert store.read(lambda t: (t.operations.untold(), t.operations.told_to())) == ((), 9)


def test_sealed_values_are_bound_to_their_place() -> None:
    vault = Vault(KEY)
    sealed = vault.seal(b"value", "here")
    assert vault.open(sealed, "here") == b"value"
    for wrong, place in ((sealed, "there"), (sealed[:-1] + b"x", "here"), (b"", "here")):
        with pytest.raises(StoreError, match="damaged"):
            vault.open(wrong, place)
    assert vault.seal(b"value", "here") != sealed
    assert vault.tag("a") != Vault(b"y" * 32).tag("a")


def test_records_that_are_none() -> None:
    for broken in ([], [1, 2], ["id", 1, "s", "zz", None, None, None]):
        with pytest.raises(StoreError):
            codec.to_proof(broken)
    for broken in ([], ["id", 1, "s", "zz", "zz", None]):
        with pytest.raises(StoreError):
            codec.to_output(broken)
    with pytest.raises(StoreError):
        codec.load(b"{")


def _edit(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


# ── its rules ───────────────────────────────────────────────────────────────────────────────


async def test_a_counter_never_goes_down(store: Store) -> None:
    assert await store.write("x", lambda tables: tables.keysets.use(KEYSET, 5)) == 0
    assert await store.write("x", lambda tables: tables.keysets.use(KEYSET, 2)) == 5
    await store.write("x", lambda tables: tables.keysets.raise_to(KEYSET, 3))
    assert store.read(lambda tables: tables.keysets.counter(KEYSET)) == 7
    await store.write("x", lambda tables: tables.keysets.raise_to(KEYSET, 30))
    assert store.read(lambda tables: tables.keysets.counter(KEYSET)) == 30
    for statement in ("UPDATE keysets SET counter = 1", "DELETE FROM keysets"):
        with pytest.raises(StoreError, match="a counter"):
            await store.write("x", lambda t, s=statement: t.connection.execute(s) and None)
    with pytest.raises(StoreError, match="not in the wallet"):
        await store.write("x", lambda tables: tables.keysets.use("00" * 8, 1))
    assert store.read(lambda tables: tables.keysets.counter("00" * 8)) == 0


async def test_keysets_that_collide_are_refused(store: Store) -> None:
    other = MintRow("https://other.example", "another", True, True, 0)
    await store.write("mint", lambda tables: tables.keysets.put_mint(other))
    with pytest.raises(MintMisbehavedError, match="collides"):
        await store.write("x", lambda t: t.keysets.put(other.url, [KeysetInfo(KEYSET, "sat")], 0))
    same_path = [KeysetInfo(f"00{number:014x}", "sat") for number in (5, 5 + 2**31 - 1)]
    with pytest.raises(MintMisbehavedError, match="collides"):
        await store.write("x", lambda tables: tables.keysets.put(other.url, same_path, 0))
    assert list(store.read(lambda tables: tables.keysets.infos(other.url))) == []


async def test_keys_that_were_shown_by_a_mint_that_is_gone_go_to_whose_they_are(
    store: Store,
) -> None:
    other, met = (MintRow(f"https://{name}.example", name, True, True, 0) for name in ("b", "c"))
    met = replace(met, met=True)
    info = KeysetInfo(KEYSET, "sat")

    async def shows(url: str) -> str:
        await store.write("x", lambda tables: tables.keysets.put(url, [info], 0))
        return store.read(lambda tables: tables.keysets.infos()[KEYSET][0])

    await store.write("x", lambda tables: tables.keysets.use(KEYSET, 5))
    for row in (other, met):
        await store.write("mint", lambda tables, row=row: tables.keysets.put_mint(row))
    with pytest.raises(MintMisbehavedError, match=f"already known, of {URL}"):
        await shows(other.url)
    await store.write("gone", lambda tables: tables.keysets.remove_mint(URL))
    with pytest.raises(MintMisbehavedError, match="collides"):
        await shows(met.url)  # nobody but a token named it
    assert await shows(other.url) == other.url
    assert store.read(lambda tables: tables.keysets.counter(KEYSET)) == 5
    with pytest.raises(MintMisbehavedError, match=f"already known, of {other.url}"):
        await shows(URL)


@pytest.mark.parametrize(
    "what",
    [
        lambda tables: tables.proofs.add(URL, "sat", [proof(1)]),
        lambda tables: tables.operations.insert(Record(operation("k"))),
    ],
    ids=["ecash", "operation"],
)
async def test_keys_by_which_something_is_open_stay_with_their_mint(
    store: Store, what: Callable[[Tables], object]
) -> None:
    other = MintRow("https://b.example", "b", True, True, 0)
    await store.write("x", lambda tables: tables.keysets.put_mint(other))
    await store.write("x", what)
    await store.write("x", lambda tables: tables.keysets.remove_mint(URL))
    with pytest.raises(MintMisbehavedError, match="collides"):
        await store.write("x", lambda t: t.keysets.put(other.url, [KeysetInfo(KEYSET, "sat")], 0))


async def test_what_the_id_of_a_keyset_names_does_not_change(store: Store) -> None:
    others = ({"unit": "msat"}, {"input_fee_ppk": 900}, {"final_expiry": 900})
    for change in others:
        info = replace(KeysetInfo(KEYSET, "sat"), **change)
        with pytest.raises(MintMisbehavedError, match="fee changed where it cannot"):
            await store.write("x", lambda tables, i=info: tables.keysets.put(URL, [i], 0))
    old = KeysetInfo("00" * 8, "sat")  # names its keys only
    for info in (old, replace(old, active=False, input_fee_ppk=900, final_expiry=900)):
        infos = [KeysetInfo(KEYSET, "sat"), info]
        await store.write("x", lambda tables, i=infos: tables.keysets.put(URL, i, 0))
        assert store.read(lambda tables: tables.keysets.infos(URL))[old.id][1] == info


async def test_proofs_held_by_what_is_over_are_told(store: Store) -> None:
    def begin(tables: Tables) -> None:
        tables.operations.insert(Record(operation("k")))
        tables.proofs.add(URL, "sat", [proof(1)], hold=Hold.RESERVED, operation="k")

    await store.write("x", begin)
    assert store.read(lambda tables: tables.proofs.orphans()) == ()
    over = Record(operation("k", State.FAILED))
    await store.write("x", lambda tables: tables.operations.update(over))
    assert store.read(lambda tables: tables.proofs.orphans()) == ("k",)


async def test_pieces_are_counted_without_reading_them(store: Store) -> None:
    some = [proof(number, (1, 4, 16)[number % 3]) for number in range(9)]
    await store.write("x", lambda tables: tables.proofs.add(URL, "sat", some))
    coins = store.read(lambda tables: tables.proofs.coins(URL, "sat", most=4))
    await store.write("x", lambda tables: tables.proofs.take(coins[:1], "a", hold=Hold.RESERVED))
    assert store.read(lambda tables: tables.proofs.counts(URL, "sat")) == {1: 2, 4: 3, 16: 3}
    assert store.read(lambda tables: tables.proofs.counts("https://other.example", "sat")) == {}


async def test_a_mint_that_signs_absurd_sums_leaves_the_others_countable(store: Store) -> None:
    def add(tables: Tables) -> None:
        tables.proofs.add(URL, "sat", [proof(number, 2**62) for number in range(3)])
        tables.proofs.add("https://other.example", "sat", [proof(9), proof(10), proof(11, 1)])

    await store.write("x", add)
    balances = store.read(lambda tables: tables.proofs.balances())
    assert balances == {(URL, "sat"): 3 * 2**62, ("https://other.example", "sat"): 9}


async def test_of_many_alike_only_some_are_read(store: Store) -> None:
    def fill(tables: Tables, count: int) -> None:
        made = [proof(count * 10 + n, amount=2 ** (n % 4)) for n in range(count)]
        tables.proofs.add(URL, "sat", made)

    def steps(tables: Tables) -> tuple[list[tuple[int, int]], int]:
        done = list[int]()
        tables.connection.set_progress_handler(lambda: done.append(1), 10)  # type: ignore[arg-type]
        coins = tables.proofs.coins(URL, "sat", most=7, alike=3)
        tables.connection.set_progress_handler(None, 0)
        return sorted(Counter(coin.amount for coin in coins).items()), len(done)

    await store.write("x", lambda t: fill(t, 40))
    few, before = store.read(steps)
    await store.write("x", lambda t: fill(t, 4_000))
    many, after = store.read(steps)
    assert few == many == [(1, 3), (2, 3), (4, 1)]  # of 4, one is all that 7 can need
    assert after <= before + 2
    assert len(store.read(lambda t: t.proofs.coins(URL, "sat"))) == 4 * MOST_ALIKE


async def test_a_name_is_claimed_by_one(store: Store) -> None:
    told = [
        await store.write("x", lambda t, o=owner: t.operations.claim("invoice 1", o))
        for owner in ("a", "b", "a")
    ]
    assert told == [None, "a", None]
    assert store.read(lambda t: t.operations.seen(["invoice 1"])) is None
    await store.write("x", lambda t: t.operations.forget("a"))
    assert await store.write("x", lambda t: t.operations.claim("invoice 1", "b")) is None


async def test_one_proof_is_held_by_one(store: Store) -> None:
    await store.write("x", lambda tables: tables.proofs.add(URL, "sat", [proof(1), proof(1)]))
    coins = store.read(lambda tables: tables.proofs.coins(URL, "sat"))
    assert len(coins) == 1
    await store.write("x", lambda tables: tables.proofs.take(coins, "a", hold=Hold.RESERVED))
    with pytest.raises(StoreError, match="not free"):
        await store.write("x", lambda tables: tables.proofs.take(coins, "b", hold=Hold.SENT))
    gone = [Coin(b"nowhere", 4, KEYSET)]
    with pytest.raises(StoreError, match="not free"):
        await store.write("x", lambda tables: tables.proofs.take(gone, "b", hold=Hold.SENT))
    assert store.read(lambda tables: tables.proofs.state(coins[0].tag)) == (Hold.RESERVED, "a")
    assert store.read(lambda tables: tables.proofs.state(b"nowhere")) is None


async def test_what_is_final_stays_final(store: Store) -> None:
    def begin(tables: Tables) -> None:
        tables.operations.insert(Record(operation("k")))
        tables.operations.update(Record(operation("k", State.DONE)))

    await store.write("x", begin)
    for state in (State.PENDING, State.FAILED, State.PREPARED):
        with pytest.raises(StoreError, match="cannot become"):
            await store.write(
                "x", lambda t, s=state: t.operations.update(Record(operation("k", s)))
            )
    delivered = replace(operation("k", State.DONE), outbox=Outbox.DELIVERED)
    await store.write("x", lambda tables: tables.operations.update(Record(delivered)))
    with pytest.raises(StoreError, match="already there"):
        await store.write("x", lambda tables: tables.operations.insert(Record(operation("k"))))
    assert store.read(lambda tables: tables.operations.operation("none")) is None
    assert store.read(lambda tables: tables.operations.get("none")) is None


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("state", [State.DONE, State.FAILED])
async def test_only_an_invoice_that_was_given_up_is_taken_up_again(
    store: Store, kind: Kind, state: State
) -> None:
    ended = replace(operation("k", state), kind=kind)
    await store.write("x", lambda tables: tables.operations.insert(Record(ended)))
    again = replace(ended, state=State.PENDING)
    taken = store.write("x", lambda tables: tables.operations.update(Record(again)))
    if (kind, state) == (Kind.MINT, State.FAILED):
        await taken
    else:
        with pytest.raises(StoreError, match="cannot become"):
            await taken


async def test_ends_are_told_of_whole_payments(store: Store) -> None:
    """A part of a payment, or of a batch, is told with the whole."""
    kinds = {"whole": Kind.MULTIPATH, "part": Kind.MELT, "batch": Kind.BATCH, "alone": Kind.MELT}
    for key, kind in kinds.items():
        made = replace(operation(key), kind=kind, parent="whole" if key == "part" else "")
        await store.write("x", lambda t, one=made: t.operations.insert(Record(one)))
        over = replace(made, state=State.DONE)
        await store.write("x", lambda t, one=over: t.operations.update(Record(one)))
    at_once = operation("at once", State.DONE)
    await store.write("x", lambda t: t.operations.insert(Record(at_once)))
    told = store.read(lambda t: [each.key for each in t.operations.untold()])
    assert told == ["whole", "alone", "at once"]


async def test_history_is_newest_first_and_in_pages(store: Store) -> None:
    def begin(tables: Tables) -> None:
        for number in range(5):  # the clock stands still, and is set back
            tables.operations.insert(Record(replace(operation(f"k{number}"), when=9 - number // 2)))

    await store.write("x", begin)
    names = [each.key for each in store.read(lambda t: t.operations.history(3, None))]
    assert names == ["k4", "k3", "k2"]
    names = [each.key for each in store.read(lambda t: t.operations.history(9, "k2"))]
    assert names == ["k1", "k0"]
    assert store.read(lambda t: t.operations.history(9, "none")) == ()
    assert len(store.read(lambda tables: tables.operations.pending())) == 5


@pytest.mark.parametrize("what", ["end", "untold", "tell", "pending", "out", "history"])
async def test_a_long_history_makes_no_work(store: Store, what: str) -> None:
    """Instructions of SQLite's machine, of which a look at every operation takes some each."""
    works: dict[str, Callable[[Tables], object]] = {
        "end": lambda t: t.operations.update(Record(operation("last", State.DONE))),
        "untold": lambda t: t.operations.untold(),
        "tell": lambda t: t.operations.tell([("k1", State.DONE)], 7),
        "pending": lambda t: t.operations.pending(),
        "out": lambda t: t.operations.out(),
        "history": lambda t: t.operations.history(3, None),
    }

    def begin(numbers: range) -> Callable[[Tables], None]:
        def work(tables: Tables) -> None:
            for number in numbers:
                tables.operations.insert(Record(operation(f"k{number}", State.DONE)))
            told = [(f"k{number}", State.DONE) for number in numbers if number > 1]
            tables.operations.tell(told, 0)

        return work

    def count(tables: Tables) -> int:
        ticks = [0]
        tables.connection.set_progress_handler(lambda: ticks.append(0), 1)
        works[what](tables)
        tables.connection.set_progress_handler(None, 1)
        tables.connection.execute("UPDATE operations SET state = 'pending' WHERE key = 'last'")
        return len(ticks)

    await store.write("x", begin(range(10)))
    await store.write("x", lambda t: t.operations.insert(Record(operation("last"))))
    few = await store.write("count", count)
    await store.write("x", begin(range(10, 300)))
    assert await store.write("count", count) < few + 50


async def test_what_all_mints_hold_is_one_look_at_the_proofs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, mints=3)
    wallet = await world.funded()
    for mint in world.mints[1:]:
        await wallet.add_mint(mint.url)
    looks: list[int] = []
    balances = Proofs.balances

    def counted(self: Proofs, now: int = 0) -> dict[tuple[str, str], int]:
        looks.append(now)
        return balances(self, now)

    monkeypatch.setattr(Proofs, "balances", counted)
    assert [each.balance for each in wallet.mints()] == [{"sat": 100}, {}, {}]
    assert len(looks) == 1
    await world.stop()


# ── transactions ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("database or disk is full", "Free some space"),
        ("[Errno 28] No space left on device", "Free some space"),
        ("database is locked", "Another program has it open"),
        ("disk I/O error", "Check the file"),
    ],
)
async def test_a_file_that_cannot_be_used_says_what_to_do(
    said: str, hint: str, tmp_path: Path
) -> None:
    def fails(_tables: Tables) -> None:
        raise sqlite3.OperationalError(said)

    store = Store(tmp_path / "w.db", key=KEY)
    with pytest.raises(StoreError, match=re.escape(said)) as told:
        store.read(fails)
    assert hint in told.value.hint
    await store.aclose()


async def test_writes_that_wait_share_a_commit_and_fail_alone(tmp_path: Path) -> None:
    begun: list[str] = []
    store = Store(tmp_path / "w.db", key=KEY, probe=begun.append)
    await store.unlock(lambda: b"words")
    await store.write("mint", _with_keyset)
    commits = _commits(store)

    async def add(number: int) -> None:
        def work(tables: Tables) -> None:
            tables.proofs.add(URL, "sat", [proof(number, 1)])
            if number % 5 == 0:
                raise RefusedError("not this one")

        await store.write(f"add {number}", work)

    done = await asyncio.gather(*(add(number) for number in range(40)), return_exceptions=True)
    assert sum(isinstance(each, RefusedError) for each in done) == 8
    assert store.read(lambda tables: tables.proofs.balances()) == {(URL, "sat"): 32}
    assert commits() < 20, "they were committed together"
    assert "commit add 1" in begun
    assert "commit add 5" not in begun
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreError, match="closed"):
        await store.write("x", lambda tables: None)


def _commits(store: Store) -> Callable[[], int]:
    seen: list[str] = []
    store._database._writer.set_trace_callback(
        lambda statement: seen.append(statement) if statement == "COMMIT" else None
    )
    return lambda: len(seen)


async def test_a_disk_that_is_full_takes_back_the_whole_group(store: Store) -> None:
    await store.write("x", lambda t: t.connection.execute("PRAGMA max_page_count = 30") and None)
    blob = os.urandom(3_000)

    async def put(number: int) -> None:
        await store.write("x", lambda tables: tables.put_sealed(f"n{number}", blob))

    done = await asyncio.gather(*(put(number) for number in range(60)), return_exceptions=True)
    failed = [each for each in done if each is not None]
    assert failed
    assert all(isinstance(each, StoreError) and "space" in each.hint for each in failed)
    for number, each in enumerate(done):
        kept = store.read(lambda tables, n=number: tables.sealed(f"n{n}"))
        assert (kept == blob) == (each is None), "told is what is"


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = "httpx pydantic cryptography websockets bolt11 mnemonic wallet.mint wallet.nwc"
    code = (
        "import sys; from wallet import Wallet; "
        f"print([name for name in {heavy.split()} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


async def test_reads_do_not_write(store: Store) -> None:
    with pytest.raises(StoreError, match="readonly"):
        store.read(lambda tables: tables.keysets.use(KEYSET, 1))
