"""What a log that grew for years costs who asks about a few of its runs: counted, not timed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from node.cli.audit import audit
from node.clock import ManualClock
from node.errors import UnknownRunError
from node.journal import Draft, Entry, Journal, MemoryLog
from node.journal.blobs import BlobReader
from node.journal.entry import parse
from node.journal.reader import LogReader
from node.runs import NoGuards, Runs
from node.runs.agent import ToolGrant
from node.runs.testing import MemoryAgents, PlainEffect, ScriptedProgram, agent

RUNS = 120
END = {"status": "completed", "reason": "", "citations": [], "usage": {}, "spent": {}}


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """A log of runs of `clerk`, every fortieth of `other`, in three segments."""
    journal = await Journal.open(tmp_path / "journal", origin="example.org/log", segment_entries=80)
    for number in range(RUNS):
        run, agent = f"r-{number:03d}", "clerk" if number % 40 else "other"
        prompt, text = (journal.put_blob(b"said", role) for role in ("prompt", "text"))
        await journal.append(
            Draft("run.started", run=run, agent=agent, blobs=(prompt,)),
            Draft("run.finished", run=run, agent=agent, blobs=(text,), data={**END}),
        )
    yield journal
    await journal.aclose()


@pytest.fixture
def runs(journal: Journal) -> Runs:
    """Those of a daemon that has just been started."""
    return Runs(
        log=journal,
        program=ScriptedProgram(lambda _: ()),
        agents=MemoryAgents(),
        clock=ManualClock(),
        guards=NoGuards(),
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, runs: Runs) -> Callable[[], int]:
    """How many entries were read since it was last asked."""
    runs.list(limit=1)  # the index is caught up
    count, entry = [0], LogReader.entry

    def counted(self: LogReader, index: int) -> object:
        count[0] += 1
        return entry(self, index)

    def so_far() -> int:
        count[0], found = 0, count[0]
        return found

    monkeypatch.setattr(LogReader, "entry", counted)
    return so_far


def test_runs_of_one_agent_are_listed_without_reading_those_of_others(
    runs: Runs, read: Callable[[], int]
) -> None:
    found = [run.id for run in runs.list(agent="other")]
    assert (found, read()) == (["r-080", "r-040", "r-000"], 6)
    assert (runs.list(agent="nobody"), read()) == ([], 0)


def test_a_run_is_found_by_how_it_begins_without_reading_the_others(
    runs: Runs, read: Callable[[], int]
) -> None:
    assert (runs.find("r-007"), read()) == ("r-007", 2), "its own entries"
    with pytest.raises(UnknownRunError, match="10 runs begin with r-11: r-119, r-118, r-117, …"):
        runs.find("r-11")
    assert read() == 10
    with pytest.raises(UnknownRunError, match="there is no run 'r-9'"):
        runs.find("r-9")
    assert read() == 0
    assert (runs.find("last"), read()) == ("r-119", 1)


def test_the_content_of_an_old_run_is_looked_for_where_some_of_it_was(
    monkeypatch: pytest.MonkeyPatch, journal: Journal, runs: Runs
) -> None:
    """Each piece would else be looked for in all that was written since."""
    looked: list[str] = []
    read_bytes = Path.read_bytes

    def counted(self: Path) -> bytes:
        looked.append(self.name)
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", counted)
    runs.show("r-000")
    oldest, *newer = [
        f"{first:012d}.keys" for first in BlobReader(journal.folder / "blobs").segments()
    ]
    assert len(newer) == 2
    assert looked == [*reversed(newer), oldest]


async def test_what_runs_wait_for_is_counted_without_reading_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`status` asks so, and so does who looks every few seconds whether a payment is in doubt."""
    log, wants = MemoryLog(), agent("clerk", tools=(ToolGrant("plain", approval="ask"),))
    program = ScriptedProgram(lambda _: (PlainEffect(),))
    runs = Runs(
        log=log,
        program=program,
        agents=MemoryAgents(wants),
        clock=ManualClock(),
        guards=NoGuards(),
    )
    started = [await runs.start("clerk", "go", actor="uid:1") for _ in range(3)]
    for run in started:
        async for event in runs.watch(run):
            if event.type == "approval.asked":
                break

    def refused(*_: object) -> NoReturn:
        raise AssertionError("it was read")

    with monkeypatch.context() as patch:
        patch.setattr(log, "blob", refused)
        patch.setattr(log, "run_entries", refused)
        assert runs.active() == dict.fromkeys(started, "clerk")
        assert (runs.waiting, runs.approvals("outcome_unknown")) == (3, [])
    assert [question.run for question in runs.approvals()] == started
    await runs.drain(0)


@pytest.mark.parametrize("words", [["log"], ["spend", "--by", "tool"]], ids=lambda words: words[0])
def test_the_audit_of_one_run_parses_no_other(
    monkeypatch: pytest.MonkeyPatch, journal: Journal, words: list[str]
) -> None:
    parsed: list[int | None] = []

    def counted(raw: bytes, index: int | None = None) -> Entry:
        parsed.append(index)
        return parse(raw, index)

    monkeypatch.setattr("node.journal.reader.parse", counted)
    asked = [*words, "--run", "r-100", "--dir", str(journal.folder)]
    assert CliRunner().invoke(audit, asked).exit_code == 0
    assert parsed == [200, 201] * 2, "once to find the run"
