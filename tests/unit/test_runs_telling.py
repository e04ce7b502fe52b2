"""Each end of an operation of the wallet is on the log once, wherever the process ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.clock import ManualClock
from node.errors import JournalWriteError
from node.journal import Draft, MemoryLog
from node.money import Keeper
from node.runs.telling import Telling
from wallet import Rules
from wallet.mint import MintClient
from wallet.mint.testing import MemoryLightning, MemoryMint, Purse
from wallet.operations.book import must
from wallet.protocol import tokens
from wallet.store import State
from wallet.types import Token
from wallet.wallet import Wallet

NOW = 1_800_000_000.0
URLS = ("https://mint.example", "https://other.example")


class Node:
    """A wallet and a log, without a daemon over them."""

    def __init__(self, folder: Path) -> None:
        self.lightning = MemoryLightning(now=lambda: NOW)
        self.mints = {url: MemoryMint(url, lightning=self.lightning) for url in URLS}
        self.folder = folder
        self.log = MemoryLog(clock=ManualClock())
        self.keeper = self._keeper()
        self.telling = Telling(self.keeper, self.log)

    @property
    def wallet(self) -> Wallet:
        return self.keeper.wallet()

    async def again(self) -> None:
        """The process ended, and another one catches up."""
        await self.keeper.aclose()
        self.keeper = self._keeper()
        await self.keeper.start()
        self.telling = Telling(self.keeper, self.log)
        await self.telling.catch_up()

    async def token(self, amount: int, url: str = URLS[0]) -> str:
        purse = Purse(MintClient(url, self.mints[url]), pay=self.lightning.pay)
        return tokens.encode(Token(url, "sat", await purse.fill(amount)))

    def lines(self) -> list[tuple[str, object, object]]:
        found = self.log.entries(types=("wallet.received", "wallet.settled", "wallet.reclaimed"))
        return [(e.type, e.data["operation"], e.data["state"]) for e in found]

    def _keeper(self) -> Keeper:
        return Keeper(
            self.folder / "wallet.db",
            self.folder / "keys",
            rules=Rules(swap_foreign=True),
            connect=lambda url: MintClient(url, self.mints[url]),
        )


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    wallet = await made.keeper.make()
    await wallet.add_mint(URLS[0])
    yield made
    await made.keeper.aclose()


async def test_what_is_told_is_told_once(node: Node) -> None:
    await node.wallet.receive(await node.token(5), key="in-1")
    for _ in range(2):
        await node.telling.tell("in-1", kind="wallet.received", actor="uid:1")
    await node.again()
    assert node.lines() == [("wallet.received", "in-1", "done")]


async def test_ended_before_its_entry_was_written(node: Node) -> None:
    await node.wallet.receive(await node.token(5), key="in-1")
    for _ in range(2):
        await node.again()
        assert node.lines() == [("wallet.settled", "in-1", "done")]
    assert next(node.log.newest("wallet.settled")).data["amount"] == 5


async def test_ended_after_its_entry_was_written(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry is durable, and the wallet was not told so."""

    async def dies(*_: object) -> None:
        raise KeyboardInterrupt

    await node.wallet.receive(await node.token(5), key="in-1")
    await node.wallet.receive(await node.token(6), key="in-2")
    with monkeypatch.context() as patched:
        patched.setattr(node.wallet, "tell", dies)
        with pytest.raises(KeyboardInterrupt):
            await node.telling.tell("in-1", kind="wallet.received")
    await node.again()
    expected = [("wallet.received", "in-1", "done"), ("wallet.settled", "in-2", "done")]
    assert node.lines() == expected
    await node.again()
    assert node.lines() == expected


async def test_a_log_that_cannot_be_written_leaves_it_to_be_told(node: Node) -> None:
    await node.wallet.receive(await node.token(5), key="in-1")
    whole = node.log
    node.telling = Telling(node.keeper, MemoryLog(clock=ManualClock(), fail_at=0))
    with pytest.raises(JournalWriteError):
        await node.telling.tell("in-1")
    node.log = whole
    await node.again()
    assert node.lines() == [("wallet.settled", "in-1", "done")]


async def test_what_is_under_way_is_left_to_who_is_at_it(node: Node) -> None:
    await node.wallet.receive(await node.token(5), key="in-1")
    await node.telling.catch_up(over_s=60)
    assert node.lines() == []


async def test_what_ended_before_the_clock_was_set_back_is_told(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.wallet.receive(await node.token(5), key="in-1")
    monkeypatch.setattr(Wallet, "now", lambda _wallet: 0.0)
    await node.again()
    assert node.lines() == [("wallet.settled", "in-1", "done")]


async def test_an_invoice_that_was_given_up_and_paid_is_told_twice(node: Node) -> None:
    await node.wallet.request_invoice(9, key="in-1")
    book = node.wallet._book
    await book.keep(book.changed(must(book.record("in-1"), "in-1"), state=State.FAILED))
    await node.again()
    book = node.wallet._book
    await book.keep(book.changed(must(book.record("in-1"), "in-1"), state=State.DONE))
    await node.again()
    assert node.lines() == [
        ("wallet.settled", "in-1", "failed"),
        ("wallet.settled", "in-1", "done"),
    ]


async def test_a_foreign_token_is_told_with_what_it_took(node: Node) -> None:
    await node.wallet.receive(await node.token(50, URLS[1]), key="in-1")
    await node.telling.tell("in-1", kind="wallet.received")
    told = {key: kind for kind, key, _ in node.lines()}
    assert told.pop("in-1") == "wallet.received"
    assert set(told) == {"in-1/receive", "in-1/invoice0", "in-1/pay"}
    await node.again()
    assert len(node.lines()) == 4


async def test_a_foreign_token_that_fails_half_way_is_on_the_log(node: Node) -> None:
    """Its ecash is at the foreign mint then: money moved."""
    node.mints[URLS[1]].quotes.reserve = lambda amount: 5_000
    with pytest.raises(Exception, match="fees"):
        await node.wallet.receive(await node.token(50, URLS[1]), key="in-1")
    await node.telling.tell("in-1", kind="wallet.received")
    assert ("wallet.settled", "in-1/receive", "done") in node.lines()
    assert ("wallet.settled", "in-1", "failed") in node.lines()


# ── payments, which are steps ───────────────────────────────────────────────────────────────


async def paid(node: Node, *drafts: Draft) -> None:
    """A payment whose process ended, when so much was on the log."""
    await node.wallet.receive(await node.token(64), key="in-1")
    await node.telling.tell("in-1")
    await node.log.append(Draft("run.started", run="r1"))
    await node.wallet.send(7, key="r1:0.pay")
    await node.log.append(*drafts)
    await node.again()


RESULT = Draft("step.result", run="r1", path="0.pay", data={"ok": True, "value": {}})
UNKNOWN = Draft("step.result", run="r1", path="0.pay", data={"ok": False, "error": {"type": "X"}})
END = Draft("run.finished", run="r1")


@pytest.mark.parametrize(
    ("drafts", "written"),
    [((RESULT, END), False), ((), False), ((UNKNOWN,), False), ((UNKNOWN, END), True)],
    ids=["its result", "its run goes on", "unknown, and goes on", "nobody knew, and it is over"],
)
async def test_a_step_tells_its_payment(
    node: Node, drafts: tuple[Draft, ...], written: bool
) -> None:
    await paid(node, *drafts)
    expected = [("wallet.settled", "r1:0.pay", "done")] if written else []
    assert node.lines()[1:] == expected
    await node.again()
    assert node.lines()[1:] == expected


async def test_the_result_that_comes_when_the_run_goes_on_is_found(node: Node) -> None:
    await paid(node)
    assert [each.key for each in node.wallet.untold()] == ["r1:0.pay"]
    await node.log.append(RESULT, END)
    await node.telling.catch_up(over_s=60)
    assert node.wallet.untold() == ()
    await node.again()
    assert len(node.lines()) == 1


async def test_another_log_is_read_from_its_beginning(node: Node) -> None:
    await paid(node, RESULT, END)
    await node.wallet.send(3, key="r2:0.pay")
    node.log = MemoryLog(clock=ManualClock())
    await node.log.append(
        Draft("run.started", run="r2"),
        Draft("step.result", run="r2", path="0.pay", data={"ok": True}),
    )
    await node.again()
    assert node.wallet.untold() == ()
    assert node.lines() == []
