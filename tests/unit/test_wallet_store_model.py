"""The file's tables against dictionaries: any method in any order, and reopened in between."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wallet.errors import StoreError
from wallet.store import Coin, Hold, Kind, MintRow, Operation, Outbox, Record, State, Tables, schema
from wallet.store.vault import Vault
from wallet.testing import KEY
from wallet.types import KeysetInfo, Proof

ONE, TWO = "https://one.example", "https://two.example"
EXPIRY = 1_000
KEYSETS = {  # id: mint, unit, when it expires
    "00" + "1" * 14: (ONE, "sat", None),
    "00" + "2" * 14: (ONE, "sat", EXPIRY),
    "00" + "3" * 14: (ONE, "msat", None),
    "00" + "4" * 14: (TWO, "sat", None),
}
PROOFS = tuple(  # two alike of each amount and keyset
    Proof(amount, keyset, f"{keyset}:{amount}:{copy}", b"\2" * 33)
    for keyset in KEYSETS
    for amount in (1, 4)
    for copy in range(2)
)
KEYS = ("a", "b", "c")
PLACES = [(mint, unit) for mint in (ONE, TWO) for unit in ("sat", "msat")]
SMALL = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

some_proofs = st.sets(st.sampled_from(PROOFS), max_size=6)
keys, holds, places = st.sampled_from(KEYS), st.sampled_from(Hold), st.sampled_from(PLACES)


class File(RuleBasedStateMachine):
    """A file that may be closed and opened again between any two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.vault = Vault(KEY)
        self.open()

    def open(self) -> None:
        path = Path(self.folder.name) / "w.db"
        self.connection = sqlite3.connect(path, isolation_level=None)
        schema.prepare(self.connection)
        self.connection.execute("PRAGMA synchronous = OFF")  # nothing is to survive here
        self.tables = Tables.on(self.connection, self.vault)

    @rule()
    def reopen(self) -> None:
        self.connection.close()
        self.open()

    def teardown(self) -> None:
        self.connection.close()
        self.folder.cleanup()


@dataclass(frozen=True)
class Row:
    proof: Proof
    hold: Hold
    operation: str | None


class ProofsInAnyOrder(File):
    """`rows`: by tag, what the table should hold. `over`: the operations that ended."""

    @initialize()
    def begin(self) -> None:
        for url in (ONE, TWO):
            self.tables.keysets.put_mint(MintRow(url, url, True, True, 0))
            infos = [
                KeysetInfo(key, unit, final_expiry=end)
                for key, (mint, unit, end) in KEYSETS.items()
                if mint == url
            ]
            self.tables.keysets.put(url, infos, 0)
        for key in KEYS:
            self.tables.operations.insert(record(key))
        self.rows: dict[bytes, Row] = {}
        self.over: set[str] = set()

    @rule(proofs=some_proofs, hold=holds, key=keys)
    def add(self, proofs: Collection[Proof], hold: Hold, key: str) -> None:
        operation = None if hold == Hold.FREE else key
        added = 0
        for keyset, (mint, unit, _) in KEYSETS.items():
            its = [proof for proof in proofs if proof.id == keyset]
            added += self.tables.proofs.add(mint, unit, its, hold=hold, operation=operation)
        new = {
            tag: Row(proof, hold, operation)
            for proof in proofs
            if (tag := self.vault.tag(proof.secret)) not in self.rows
            or (self.rows[tag].hold == Hold.FREE and hold != Hold.FREE)
        }
        self.rows |= new
        assert added == len(new)

    @rule(place=places, most=st.integers(0, 9), hold=holds.filter(bool), key=keys)
    def take(self, place: tuple[str, str], most: int, hold: Hold, key: str) -> None:
        """What a selection may give; `coins` themselves are looked at after every step."""
        coins = self.tables.proofs.coins(*place, most=most)[::2]
        taken = self.tables.proofs.take(coins, key, hold=hold)
        assert taken == tuple(self.rows[coin.tag].proof for coin in coins)
        for coin in coins:
            self.rows[coin.tag] = replace(self.rows[coin.tag], hold=hold, operation=key)

    @rule(proof=st.sampled_from(PROOFS), key=keys)
    def take_what_is_not_free(self, proof: Proof, key: str) -> None:
        tag = self.vault.tag(proof.secret)
        if tag not in self.rows or self.rows[tag].hold != Hold.FREE:
            coin = Coin(tag, proof.amount, proof.id)
            with pytest.raises(StoreError, match="not free"):
                self.tables.proofs.take([coin], key, hold=Hold.RESERVED)

    @rule(key=keys, spent=st.booleans())
    def let_go(self, key: str, spent: bool) -> None:
        reserved = self.where(Hold.RESERVED, key)
        if spent:
            assert self.tables.proofs.spend(key) == len(reserved)
            self.rows = {tag: row for tag, row in self.rows.items() if tag not in reserved}
        else:
            assert self.tables.proofs.release(key) == len(reserved)
            self.change(reserved, Hold.FREE, None)

    @rule(proofs=some_proofs, hold=holds)
    def drop(self, proofs: Collection[Proof], hold: Hold) -> None:
        tags = {self.vault.tag(proof.secret) for proof in proofs}
        gone = tags & self.where(hold).keys()
        assert self.tables.proofs.drop(tags, hold=hold) == len(gone)
        self.rows = {tag: row for tag, row in self.rows.items() if tag not in gone}

    @rule(proofs=some_proofs, hold=holds, key=keys)
    def set_aside(self, proofs: Collection[Proof], hold: Hold, key: str) -> None:
        tags = {self.vault.tag(proof.secret) for proof in proofs}
        found = tags & self.where(hold).keys()
        assert self.tables.proofs.set_aside(tags, key, hold=hold) == len(found)
        self.change(found, Hold.ASIDE, key)

    @rule(proofs=some_proofs)
    def bring_back(self, proofs: Collection[Proof]) -> None:
        tags = {self.vault.tag(proof.secret) for proof in proofs}
        found = tags & self.where(Hold.ASIDE).keys()
        assert self.tables.proofs.bring_back(tags) == len(found)
        self.change(found, Hold.FREE, None)

    @rule(key=keys)
    def end(self, key: str) -> None:
        self.tables.operations.update(record(key, State.FAILED))
        self.over.add(key)

    @invariant()
    def one_by_one(self) -> None:
        for proof in PROOFS:
            tag = self.vault.tag(proof.secret)
            row = self.rows.get(tag)
            assert self.tables.proofs.state(tag) == (row and (row.hold, row.operation))
        for hold in Hold:
            told = self.tables.proofs.all_held(hold)
            assert len(told) == len(self.where(hold))
            assert {(mint, held.tag): held.proof for mint, held in told} == {
                (KEYSETS[row.proof.id][0], tag): row.proof for tag, row in self.where(hold).items()
            }
        for key in KEYS:
            held = [(row.proof.amount, tag, row.proof) for tag, row in self.whose(key).items()]
            told = self.tables.proofs.held(key)
            assert [(each.proof.amount, each.tag, each.proof) for each in told] == sorted(held)

    @invariant()
    def counted(self) -> None:
        free = [row.proof for row in self.where(Hold.FREE).values()]
        for mint, unit in PLACES:
            its = [proof for proof in free if KEYSETS[proof.id][:2] == (mint, unit)]
            amounts = Counter(proof.amount for proof in its)
            assert self.tables.proofs.counts(mint, unit) == amounts
        for now in (EXPIRY - 1, EXPIRY):
            sums = Counter[tuple[str, str]]()
            for proof in free:
                mint, unit, end = KEYSETS[proof.id]
                if end is None or end > now:
                    sums[mint, unit] += proof.amount
            assert self.tables.proofs.balances(now) == sums
        for url in (ONE, TWO):
            here = [row for row in self.rows.values() if KEYSETS[row.proof.id][0] == url]
            kept = [row for row in here if row.hold != Hold.ASIDE]
            assert self.tables.proofs.kept(url) == len(kept)
        lost = {row.operation for row in self.where(Hold.RESERVED).values()} & self.over
        orphans = self.tables.proofs.orphans()
        assert (set(orphans), len(orphans)) == (lost, len(lost))

    @invariant()
    def chosen_from(self) -> None:
        for (mint, unit), most, alike in [(place, n, k) for place in PLACES for n, k in SIZES]:
            coins = self.tables.proofs.coins(mint, unit, most=most, alike=alike)
            its = Counter(
                (row.proof.amount, row.proof.id)
                for row in self.where(Hold.FREE).values()
                if KEYSETS[row.proof.id][:2] == (mint, unit)
            )
            wanted = {kind: min(n, alike, most // kind[0]) for kind, n in its.items()}
            kinds = [(coin.amount, coin.keyset) for coin in coins]
            assert kinds == sorted(Counter(wanted).elements())
            assert len({coin.tag for coin in coins}) == len(coins)
            for coin in coins:
                row = self.rows[coin.tag]
                assert (row.hold, row.proof.amount, row.proof.id) == (0, coin.amount, coin.keyset)

    def where(self, hold: Hold, key: str | None = None) -> dict[bytes, Row]:
        return {
            tag: row
            for tag, row in self.rows.items()
            if row.hold == hold and key in (None, row.operation)
        }

    def whose(self, key: str) -> dict[bytes, Row]:
        return {tag: row for tag, row in self.rows.items() if row.operation == key}

    def change(self, tags: Collection[bytes], hold: Hold, operation: str | None) -> None:
        for tag in tags:
            self.rows[tag] = replace(self.rows[tag], hold=hold, operation=operation)


SIZES = ((9, 9), (7, 1), (3, 9), (4, 2))


def record(
    key: str,
    state: State = State.PREPARED,
    kind: Kind = Kind.SEND,
    *,
    outbox: Outbox = Outbox.NONE,
    parent: str = "",
    when: int = 0,
) -> Record:
    return Record(
        Operation(key, kind, state, ONE, "sat", 4, 0, when, when, outbox, "", parent),
        {"state": state.value},
    )


class OperationsInAnyOrder(File):
    """`rows`: by key, oldest first. `untold`: ends that nobody's log has."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Record] = {}
        self.untold: set[str] = set()
        self.names: dict[str, str] = {}
        self.place = 0

    @rule(
        kind=st.sampled_from([Kind.SEND, Kind.MINT, Kind.BATCH, Kind.MULTIPATH, Kind.RECLAIM]),
        state=st.sampled_from(State),
        outbox=st.sampled_from(Outbox),
        parent=st.integers(0, 5),
    )
    def insert(self, kind: Kind, state: State, outbox: Outbox, parent: int) -> None:
        number = len(self.rows)
        of = f"k{parent}" if parent < number else ""
        new = record(f"k{number}", state, kind, outbox=outbox, parent=of, when=number // 2)
        self.tables.operations.insert(new)
        self.rows[new.key] = new
        self.ended(new)
        with pytest.raises(StoreError, match="already"):
            self.tables.operations.insert(new)

    @rule(number=st.integers(0, 9), state=st.sampled_from(State), outbox=st.sampled_from(Outbox))
    def update(self, number: int, state: State, outbox: Outbox) -> None:
        found = self.rows.get(f"k{number}")
        if found is None:
            with pytest.raises(StoreError, match="cannot become"):
                self.tables.operations.update(record(f"k{number}", state))
            return
        was = found.operation
        changed = replace(
            found,
            operation=replace(
                was, state=state, outbox=outbox, mint=TWO, amount=5, fee=1, updated=9, error="e"
            ),
            body={"state": state.value},
        )
        again = was.kind == Kind.MINT and was.state == State.FAILED
        if was.state.final and state != was.state and not again:
            self.connection.execute("BEGIN")
            with pytest.raises(StoreError, match="cannot become"):
                self.tables.operations.update(changed)
            self.connection.execute("ROLLBACK")
            return
        self.tables.operations.update(changed)
        self.rows[found.key] = changed
        if was.state != state:
            self.ended(changed)

    def ended(self, each: Record) -> None:
        parent = self.rows.get(each.operation.parent)
        is_part = parent is not None and parent.operation.kind == Kind.MULTIPATH
        if each.operation.state.final and each.operation.kind != Kind.BATCH and not is_part:
            self.untold.add(each.key)

    @rule(numbers=st.sets(st.integers(0, 9), max_size=4), state=st.sampled_from(State))
    def tell(self, numbers: Collection[int], state: State) -> None:
        ends = [f"k{number}" for number in numbers]
        self.place += 1
        self.tables.operations.tell([(key, state) for key in ends], self.place)
        for key in ends:
            if key in self.rows and self.rows[key].operation.state == state:
                self.untold.discard(key)

    @rule(name=st.sampled_from("xyz"), owner=keys)
    def claim(self, name: str, owner: str) -> None:
        holder = self.names.setdefault(name, owner)
        told = self.tables.operations.claim(name, owner)
        assert told == (None if holder == owner else holder)

    @rule(secrets=st.sets(st.sampled_from("xyz")), owner=keys)
    def see(self, secrets: Collection[str], owner: str) -> None:
        """A secret is no name, whatever it is called."""
        self.tables.operations.see(secrets, owner)
        self.names |= {f"secret {secret}": owner for secret in secrets}

    @rule(owner=keys)
    def forget(self, owner: str) -> None:
        self.tables.operations.forget(owner)
        self.names = {name: key for name, key in self.names.items() if key != owner}

    @invariant()
    def listed(self) -> None:
        table, all_of = self.tables.operations, [each.operation for each in self.rows.values()]
        assert table.keys() == tuple(self.rows)
        assert table.pending() == tuple(each for each in all_of if not each.state.final)
        assert table.out() == tuple(each for each in all_of if each.outbox == Outbox.OPEN)
        assert table.untold() == tuple(each for each in all_of if each.key in self.untold)
        assert table.told_to() == self.place
        assert table.history(3, None) == tuple(all_of[:-4:-1])
        for place, each in enumerate(all_of):
            assert table.history(3, each.key) == tuple(all_of[:place][:-4:-1])
        for secret in "xyz":
            assert table.seen([secret]) == self.names.get(f"secret {secret}")

    @invariant()
    def read(self) -> None:
        table = self.tables.operations
        for number in range(10):
            found = self.rows.get(f"k{number}")
            assert table.get(f"k{number}") == found
            assert table.operation(f"k{number}") == (found and found.operation)
            backs = [
                each.operation
                for each in self.rows.values()
                if each.operation.parent == f"k{number}"
                and (each.operation.kind, each.operation.state) == (Kind.RECLAIM, State.DONE)
            ]
            back = table.reclaimed(f"k{number}")
            assert back in backs if backs else back is None


TestProofs = ProofsInAnyOrder.TestCase
TestProofs.settings = SMALL
TestOperations = OperationsInAnyOrder.TestCase
TestOperations.settings = SMALL
