"""`freehold audit` as a person uses it, on a folder and a key alone."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
from contextlib import chdir, closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from node.cli.main import root
from node.clock import ManualClock, SystemClock
from node.errors import FreeholdError, UnknownRunError
from node.journal import Draft, Journal, OfflineLog, PolicyVerdict

ORIGIN = "test.example/log"


def freehold(*words: str, cwd: Path, code: int = 0) -> str:
    """Runs the command in this process; its standard output."""
    with chdir(cwd):
        done = CliRunner().invoke(root, ["audit", *words], env={"HOME": "/nonexistent"})
    error = done.exception
    known = error is None or isinstance(error, FreeholdError | SystemExit)
    assert known, repr(error)
    found = error.exit_code if isinstance(error, FreeholdError) else done.exit_code
    assert found == code, done.output
    return done.stdout


def alone(*words: str, cwd: Path, code: int = 0, **environment: str) -> str:
    """Runs the command as a process with no home, config or daemon; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "node.cli", "audit", *words],
        cwd=cwd,
        env={
            "HOME": "/nonexistent",
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(_ROOT),
            **environment,
        },
        capture_output=True,
        check=False,
        timeout=60,
    )
    text = done.stdout.decode()
    assert done.returncode == code, f"{text}\n{done.stderr.decode()}"
    assert "Traceback" not in done.stderr.decode()
    return text


_ROOT = Path(__file__).parents[2]


def step(run: str, path: str, name: str, ok: bool, **usage: float) -> tuple[Draft, Draft]:
    intent = Draft(
        "step.intent", run=run, path=path, agent="clerk", policy=PolicyVerdict("tools", "allow"),
        data={"kind": "tool", "name": name, "digest": f"{name}-{ok}", "needs": {}},
    )  # fmt: skip
    result = Draft(
        "step.result", run=run, path=path, agent="clerk", cause=(-1,),
        data={"ok": ok, "value": 4 if ok else None, "usage": dict(usage), "labels": []},
    )  # fmt: skip
    return intent, result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs of one agent; the second is refused something."""
    journal = Journal.open_sync(tmp_path / "journal", origin=ORIGIN)
    for run in ("r1", "r2"):
        prompt = journal.put_blob(b"what is 2 + 2?", "prompt")
        started = Draft("run.started", run=run, agent="clerk", actor="uid:1000", blobs=(prompt,))
        journal.append_sync(started)
        journal.append_sync(*step(run, "1", "calc", run == "r1", tool_calls=1, msat=5))
    denied = PolicyVerdict("tools.web", "deny")
    journal.append_sync(Draft("step.intent", run="r2", path="2", agent="clerk", policy=denied))
    for run, status, cause in (("r1", "completed", 2), ("r2", "stopped", 6)):
        data = {"status": status}
        journal.append_sync(Draft("run.finished", run=run, cause=(cause,), data=dict(data)))
    asyncio.run(journal.rotate())
    journal.close()
    return tmp_path / "journal"


def test_verify_says_what_it_can_say(folder: Path) -> None:
    home = folder.parent
    text = alone("verify", "journal", "--vkey", "journal/log.vkey", "--thorough", cwd=home)
    assert "internal  consistent" in text
    assert "outside   consistent with the kept head at 9" in text
    (home / "mine").write_text(freehold("checkpoint", "--dir", "journal", cwd=home))
    report = json.loads(freehold("verify", "journal", "--since", "mine", "--json", cwd=home))
    assert (report["verdict"], report["size"], report["epochs"]) == ("verified", 9, 2)
    assert report["against"][0] == {
        "source": "mine", "size": 9, "verdict": "verified", "reason": "",
    }  # fmt: skip

    segment = folder / "000000000000.jsonl"
    good = segment.read_bytes()
    segment.write_bytes(good.replace(b"calc", b"calk", 1))
    text = alone("verify", "journal", cwd=home, code=1)
    assert "damaged at entry 1" in text
    assert "verdict   failed" in text

    segment.write_bytes(good)
    alone("verify", "nowhere", cwd=home, code=2)
    for key in ("nowhere", "x+y", "x" * 300 + "+y"):
        freehold("verify", "journal", "--vkey", key, cwd=home, code=2)
    (home / "garbage").write_text("no checkpoint")
    freehold("verify", "journal", "--since", "garbage", cwd=home, code=2)
    for head in ("nowhere", "garbage"):
        freehold("verify", "journal", "--head", head, cwd=home, code=2)
    freehold("verify", "journal", "--head", "mine", cwd=home)


def test_a_folder_is_verified_with_its_kept_head_however_it_is_named(folder: Path) -> None:
    """A log that was cut after a commit: the head beside the folder is all that knows."""
    segment = sorted(folder.glob("*.jsonl"))[0]
    (folder / "000000000009.jsonl").unlink()
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:3]))
    (folder.parent / "other").symlink_to(folder)
    for name, cwd in ((".", folder), ("..", folder / "keys")):
        text = alone("verify", name, cwd=cwd, code=1)
        assert "NOT consistent with the kept head at 9" in text
    (folder.parent / "journal.head").rename(folder.parent / "other.head")
    alone("verify", "other", cwd=folder.parent, code=1)


def test_log_lists_and_filters(folder: Path) -> None:
    def shown(*words: str) -> list[int]:
        text = freehold("log", "--dir", str(folder), "--json", *words, cwd=folder)
        return [json.loads(line)["i"] for line in text.splitlines()]

    assert shown() == list(range(9))
    assert shown("--run", "r2") == [3, 4, 5, 6, 8]
    assert shown("--type", "step", "--run", "r1") == [1, 2]
    assert shown("--denied") == [6]
    assert shown("--agent", "nobody") == []
    assert shown("--since", "2000-01-01") == list(range(9))
    assert shown("--since", "2999-01-01") == []
    text = freehold("log", "--dir", str(folder), cwd=folder)
    assert "[deny: tools.web] REFUSED" in text
    freehold("log", "--dir", str(folder), "--since", "yesterday", cwd=folder, code=1)


def test_a_run_is_named_by_its_beginning_or_last_everywhere(folder: Path) -> None:
    def shown(*words: str, code: int = 0) -> str:
        return freehold(*words, "--dir", str(folder), cwd=folder, code=code)

    assert shown("log", "--run", "last") == shown("log", "--run", "r2") != ""
    assert json.loads(shown("show", "last"))["i"] == 8
    assert json.loads(shown("show", "r1:1"))["type"] == "step.result"
    assert shown("why", "r1") == shown("why", "7")
    assert shown("diff", "r1", "last") == shown("diff", "r1", "r2")
    assert [one["steps"] for one in json.loads(shown("spend", "--run", "r1", "--json"))] == [1]
    for words in (
        ("log", "--run", "x"),
        ("log", "--run", "r"),
        ("log", "--run", ""),
        ("show", "x"),
        ("show", "r"),
        ("show", "r1:7"),
        ("show", "99"),
        ("show", "-1"),
        ("show", "9" * 30),
        ("show", "\u0663"),
        ("why", "r"),
        ("diff", "r1", "x"),
        ("spend", "--run", "x"),
    ):
        shown(*words, code=2 if words[-1] == "-1" else 1)


def test_an_unknown_or_ambiguous_run_says_what_to_do(folder: Path) -> None:
    log = OfflineLog.open(folder)
    with pytest.raises(UnknownRunError, match="there is no run 'x'") as none:
        log.find_run("x")
    assert "last" in none.value.hint
    with pytest.raises(UnknownRunError, match="2 runs begin with r: r2, r1") as many:
        log.find_run("r")
    assert "more characters" in many.value.hint


def test_show_and_why_lead_back_to_the_prompt(folder: Path) -> None:
    entry = json.loads(freehold("show", "1", "--dir", str(folder), cwd=folder))
    assert (entry["type"], entry["data"]["name"]) == ("step.intent", "calc")
    words = ("show", "0", "--blob", "prompt", "--dir", str(folder))
    assert freehold(*words, cwd=folder) == "what is 2 + 2?"
    freehold("show", "0", "--blob", "none", "--dir", str(folder), cwd=folder, code=1)
    freehold("show", "99", "--dir", str(folder), cwd=folder, code=1)

    text = freehold("why", "7", "--dir", str(folder), cwd=folder)
    for found in ("run.finished", "step.result", "[allow: tools]", "uid:1000", "what is 2 + 2?"):
        assert found in text
    reasons = json.loads(freehold("why", "7", "--dir", str(folder), "--json", cwd=folder))
    assert [reason["entry"]["i"] for reason in reasons] == [7, 2, 1, 0]


def test_diff_and_spend(folder: Path) -> None:
    found = json.loads(freehold("diff", "r1", "r2", "--dir", str(folder), "--json", cwd=folder))
    assert {(one["path"], one["what"]) for one in found} == {
        ("1", "digest"), ("1", "ok"), ("1", "value"), ("2", "step"), ("", "status"),
    }  # fmt: skip
    assert "same steps" in freehold("diff", "r1", "r1", "--dir", str(folder), cwd=folder)
    freehold("diff", "r1", "r9", "--dir", str(folder), cwd=folder, code=1)
    (spent,) = json.loads(
        freehold("spend", "--by", "tool", "--dir", str(folder), "--json", cwd=folder)
    )
    assert spent == {
        "name": "calc", "steps": 2, "failed": 1, "totals": {"tool_calls": 2, "msat": 10},
    }  # fmt: skip
    assert "clerk" in freehold("spend", "--dir", str(folder), cwd=folder)


def test_a_proof_stands_alone(folder: Path, tmp_path: Path) -> None:
    vkey = (folder / "log.vkey").read_text().strip()
    away = tmp_path / "away"
    away.mkdir()
    proof = freehold("prove", "2", "--dir", str(folder), cwd=away)
    assert proof.startswith("c2sp.org/tlog-proof@v1\n")
    (away / "p").write_text(proof)
    assert "verified: entry 2" in alone("prove", "--check", "p", "--vkey", vkey, cwd=away)
    (away / "p").write_text(proof.replace("index 2", "index 1"))
    freehold("prove", "--check", "p", "--vkey", vkey, cwd=away, code=1)
    freehold("prove", "--check", "gone", "--vkey", vkey, cwd=away, code=2)
    for key in ("nowhere", "x+y", "x" * 300 + "+y"):
        freehold("prove", "--check", "p", "--vkey", key, cwd=away, code=2)
    assert freehold("prove", "--from", "3", "--dir", str(folder), cwd=away).startswith("old 3\n")
    for words in (
        ("2", "--json"),
        ("2", "--vkey", vkey),
        ("2", "--check", "p", "--vkey", vkey),
        ("--check", "p", "--vkey", vkey),
    ):
        freehold("prove", *words, "--dir", str(folder), cwd=away, code=2)


def test_export(folder: Path, tmp_path: Path) -> None:
    lines = freehold("export", "--dir", str(folder), cwd=tmp_path).splitlines()
    assert [json.loads(line)["i"] for line in lines] == list(range(9))
    words = ("export", "--format", "csv", "--out", "log.csv", "--dir", str(folder))
    freehold(*words, cwd=tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "log.csv").read_text())))
    assert [row["i"] for row in rows] == [str(number) for number in range(9)]
    assert rows[6]["verdict"] == "deny"
    words = ("export", "--format", "tiles", "--out", "t", "--dir", str(folder))
    freehold(*words, cwd=tmp_path)
    assert len((tmp_path / "t" / "tile" / "0" / "000.p" / "9").read_bytes()) == 9 * 32


def test_a_table_is_utf_8_wherever_it_is_written(tmp_path: Path) -> None:
    journal = Journal.open_sync(tmp_path / "journal", origin=ORIGIN)
    journal.append_sync(Draft("run.finished", data={"reason": "müde, 疲れた"}))
    journal.close()
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = ("export", "--format", "csv", "--dir", "journal")
    printed = alone(*words, cwd=tmp_path, **ascii_only)
    alone(*words, "--out", "log.csv", cwd=tmp_path, **ascii_only)
    assert printed.encode() == (tmp_path / "log.csv").read_bytes()
    (row,) = csv.DictReader(io.StringIO(printed))
    assert json.loads(row["data"]) == {"reason": "müde, 疲れた"}


def test_relink_sets_a_log_aside(folder: Path) -> None:
    words = ("relink", "--dir", str(folder), "--yes", "--origin")
    freehold(*words, ORIGIN, cwd=folder.parent, code=1)
    assert f"{ORIGIN}-2+" in freehold(*words, f"{ORIGIN}-2", cwd=folder.parent)
    assert freehold("verify", "journal", cwd=folder.parent)
    assert freehold("verify", "journal.old-1", cwd=folder.parent)


def test_a_nodes_log_is_linked_under_a_name_that_it_can_have(tmp_path: Path) -> None:
    """The daemon opens no other: its log is called freehold/NAME."""
    home = tmp_path / "h"
    env = {**os.environ, "FREEHOLD_HOME": str(home)}

    def cli(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "node.cli", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    cli("init", "--name", "n")
    with closing(Journal.open_sync(home / "journal", origin="freehold/n")) as log:
        log.append_sync(Draft("node.started"))
    refused = cli("audit", "relink", "--yes", "--origin", "Other Log")
    assert (refused.returncode, "cannot be a node's name" in refused.stderr) == (1, True)
    done = cli("audit", "relink", "--yes", "--origin", "n-2")
    assert done.stdout.startswith("new log freehold/n-2+")
    assert 'name = "n-2"' in done.stderr
    with closing(Journal.open_sync(home / "journal", origin="freehold/n-2")) as log:
        assert log.entry(0).type == "log.linked"


DAY_S = 24 * 3600


def test_prune_deletes_what_is_old_and_over(tmp_path: Path) -> None:
    """Segments end after a week; the run of the second week is not over, nor is the stop."""
    folder, clock = tmp_path / "journal", ManualClock()

    def ended(run: str) -> Draft:
        return Draft("run.finished", run=run, data={"status": "completed", "usage": {}})

    def prune(before: str = "2030-01-01", code: int = 0) -> str:
        words = ("prune", "--dir", "journal", "--yes", "--before", before)
        return alone(*words, cwd=tmp_path, code=code)

    with closing(Journal.open_sync(folder, origin=ORIGIN, clock=clock)) as log:
        log.append_sync(Draft("run.started", run="r-0"), ended("r-0"))
        clock.advance(8 * DAY_S)
        log.append_sync(Draft("run.started", run="r-1"))
        clock.advance(8 * DAY_S)
        log.append_sync(Draft("run.started", run="r-2", data={"oldest": 2}), ended("r-2"))
        clock.advance(8 * DAY_S)
        log.append_sync(Draft("node.estop"))
        assert prune(code=1) == "", "it is open"
    assert prune("2023-11-14") == ""
    assert prune() == "deleted entries 0 to 1, from 2023-11-14 to 2023-11-14\n"
    after = ((ended("r-1"), 5, "runs cancel r-1"), (Draft("node.resumed"), 6, "freehold resume"))
    for draft, first, advice in after:
        words = ["audit", "prune", "--dir", str(folder), "--before", "2030-01-01"]
        assert advice in CliRunner().invoke(root, words).stderr
        with closing(Journal.open_sync(folder, origin=ORIGIN)) as log:
            log.append_sync(draft)
        assert prune().startswith("deleted entries ")
        with closing(Journal.open_sync(folder, origin=ORIGIN)) as log:
            assert (log.start, log.entry(log.size - 1).data) == (first, {"size": first})
    assert "entries before 6, known only" in alone("verify", "journal", cwd=tmp_path)


@pytest.mark.parametrize(
    "words", [["prune", "--before", "2030-01-01"], ["relink", "--origin", f"{ORIGIN}-2"]]
)
def test_who_is_asked_and_says_no_keeps_the_log(tmp_path: Path, words: list[str]) -> None:
    folder = tmp_path / "log"
    with closing(Journal.open_sync(folder, origin=ORIGIN, clock=ManualClock())) as log:
        log.append_sync(Draft("node.started"))
        asyncio.run(log.rotate())
    command = ["audit", *words, "--dir", str(folder)]
    assert CliRunner().invoke(root, command, input="n\n").exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.head"]
    assert len(list(folder.glob("*.jsonl"))) == 2
    assert CliRunner().invoke(root, command, input="y\n").exit_code == 0
    assert len(list(folder.glob("*.jsonl"))) == 1


def test_prune_leaves_what_today_needs(tmp_path: Path) -> None:
    """Whatever the date that is named: budgets of a day are counted from the log."""
    clock = ManualClock(wall_s=SystemClock().wall() + 3600)
    with closing(Journal.open_sync(tmp_path / "log", origin=ORIGIN, clock=clock)) as log:
        log.append_sync(Draft("node.started"))
        asyncio.run(log.rotate())
    words = ("prune", "--dir", "log", "--yes", "--before", "2999-01-01")
    assert freehold(*words, cwd=tmp_path) == ""
    assert (tmp_path / "log" / "000000000000.jsonl").exists()


def test_prune_takes_nothing_younger_where_the_clock_was_wrong(tmp_path: Path) -> None:
    """A machine without a battery begins in 1970 after a power cut; its own log has such times."""
    began = ManualClock().wall()
    for wall_s in (began, began + 8 * DAY_S, *(0.0,) * 5, began + 16 * DAY_S):
        clock = ManualClock(wall_s=wall_s)
        with closing(Journal.open_sync(tmp_path / "log", origin=ORIGIN, clock=clock)) as log:
            log.append_sync(Draft("node.started"))
    words = ("prune", "--dir", "log", "--yes", "--before", "2023-11-18")
    assert (
        freehold(*words, cwd=tmp_path) == "deleted entries 0 to 0, from 2023-11-14 to 2023-11-14\n"
    )
