"""A process with two wallets is killed, again and again, and no sat is missing or doubled.

The whole trial is `scripts/bench_wallet --kill`; here it is short, `$FREEHOLD_WALLET_KILLS` deaths
at a real Nutshell, or at a mint in memory where Nutshell is not set up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from wallet.errors import WalletError
from wallet.wallet import Wallet

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
DEATHS = int(os.environ.get("FREEHOLD_WALLET_KILLS", "12"))


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """`wallet_bench` is a package of scripts/."""
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.mark.timeout(60 + 30 * DEATHS)
async def test_nothing_is_lost_however_often_the_process_is_killed(tmp_path: Path) -> None:
    from wallet_bench.kills import Trial
    from wallet_bench.mints import place

    async with place(tmp_path / "mint") as mint:
        trial = Trial(tmp_path, mint, seed=20)
        tally = await trial.run(DEATHS, mint_kills=1 if mint.kill else 0)
    assert tally.problems == []
    assert tally.deaths == DEATHS
    assert tally.finished.total() > DEATHS // 2
    assert len(tally.killed) > 3
    assert set(tally.differences) == {0}
    assert tally.restored[0] == tally.restored[1] > 0


async def test_a_book_that_is_a_sat_short_is_noticed(tmp_path: Path) -> None:
    """The oracle can say no: it is not the wallets' own sums that it compares."""
    import random

    from wallet_bench.audit import Audit
    from wallet_bench.books import MemoryBooks
    from wallet_bench.tally import Tally

    from wallet.mint.testing import ServedMint

    tally = Tally()
    with ServedMint() as served:
        books = MemoryBooks(served)
        audit = Audit(tmp_path, served.url, books, random.Random(1), tally)
        await audit.after(())
        assert tally.problems == []
        served.mint.ledger.issued["sat"] += 1
        await audit.after(())
    assert tally.differences == [0, 1]
    assert tally.problems == [
        "after 0 deaths: 1 sat are outstanding, and 0 are held",
    ]


def test_of_quotes_that_a_killed_mint_held_those_it_signed_for_were_issued(tmp_path: Path) -> None:
    import sqlite3

    from wallet_bench.books import NutshellBooks

    (tmp_path / "mint").mkdir()
    file = tmp_path / "mint" / "mint.sqlite3"
    quotes = {"one": 5, "first": 8, "none": 9, "second": 16, "third": 4}
    with contextlib.closing(sqlite3.connect(file)) as books, books:
        books.execute("CREATE TABLE proofs_pending (melt_quote)")
        books.execute("CREATE TABLE promises (amount, c_, mint_quote, melt_quote)")
        books.execute("CREATE TABLE mint_quotes (quote, amount, state DEFAULT 'PENDING')")
        books.executemany("INSERT INTO mint_quotes (quote, amount) VALUES (?, ?)", quotes.items())
        signed = [(4, "c", "one"), (1, "c", "one"), (28, "c", "first"), (9, None, "none")]
        books.executemany("INSERT INTO promises (amount, c_, mint_quote) VALUES (?, ?, ?)", signed)
    NutshellBooks(tmp_path).repair()
    with contextlib.closing(sqlite3.connect(file)) as books:
        states = dict(books.execute("SELECT quote, state FROM mint_quotes").fetchall())
    assert states.pop("none") == "PAID"
    assert set(states.values()) == {"ISSUED"}, "one alone, and three at once"


@pytest.mark.timeout(300)
async def test_the_mint_is_killed_in_the_middle_and_comes_back(tmp_path: Path) -> None:
    import random

    from wallet_bench.audit import Audit
    from wallet_bench.life import KEY
    from wallet_bench.mints import place
    from wallet_bench.tally import Tally

    tally = Tally()
    async with place(tmp_path / "mint") as mint:
        if mint.kill is None:
            pytest.skip("a mint in memory has no database to come back with")
        audit = Audit(tmp_path, mint.url, mint.books, random.Random(1), tally)
        await audit.after(())
        async with await Wallet.open(tmp_path / "ann.db", key=KEY) as wallet:
            invoice = await wallet.request_invoice(500)
            await wallet.claim_invoice(invoice.operation, wait=60)
            bills = [mint.books.invoice(amount) for amount in range(20, 28)]
            to = wallet.address()
            payments = [wallet.pay_invoice(bill, key=bill) for bill in bills]
            sends = [wallet.send(amount, to=to) for amount in range(10, 18)]
            under_way = [asyncio.ensure_future(each) for each in (*payments, *sends)]
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            await mint.kill(False)
            tally.mint_kills += 1  # it may have forgotten the change of what it paid just then
            results = await asyncio.gather(*under_way, return_exceptions=True)
            wrong = [each for each in results if isinstance(each, Exception)]
            assert all(isinstance(each, WalletError) for each in wrong), wrong
            await wallet.recover()
            assert all(each.error for each in wallet.pending())  # not guessed, and it says why
            mint.books.repair()
        await audit.after(())
        assert tally.problems == []
        assert tally.differences == [0, 0]
        async with await Wallet.open(tmp_path / "ann.db", key=KEY) as wallet:
            states = {bill: wallet.operation(bill) for bill in bills}
            done = {bill for bill, operation in states.items() if operation and not operation.error}
            assert done == set(mint.books.paid())
