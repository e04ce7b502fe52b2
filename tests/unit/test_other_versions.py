"""What another version of Freehold wrote: refused or left alone in words, and never destroyed."""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import aclosing, closing, suppress
from importlib.resources import files
from pathlib import Path

import pytest

from node.backup import MANIFEST
from node.cli.doctor_checks import Fault, _log
from node.clock import ManualClock
from node.errors import (
    ApprovalError,
    BackupError,
    IdentityError,
    InferenceError,
    JournalDamagedError,
    JournalVersionError,
    ModelError,
    RunStoppedError,
    SandboxError,
    WalletStateError,
)
from node.home import Home
from node.identity import HttpSecrets, KeyStore
from node.inference import child
from node.inference.models.partial import Note, read_note
from node.inference.models.pins import read_lock
from node.journal import (
    Draft,
    Journal,
    MemoryLog,
    Verdict,
    VerifierKey,
    check_proof,
    verify,
    writer,
)
from node.journal.entry import line
from node.money.key import FOLDER, NAME, WalletKey
from node.money.testing import MemoryPurse
from node.restore import restore
from node.runs import AgentManifest, NoGuards, Runs
from node.runs.coding import outcome_of
from node.runs.owner import NODE_MANIFEST, programs
from node.runs.started import Started
from node.runs.testing import MemoryAgents, PlainEffect, ScriptedProgram, agent
from node.runs.workspace_labels import FileLabels
from node.sandbox import Grant, Sandbox, read_manifest
from node.types import JsonObject


def runs_of(log: MemoryLog, *effects: PlainEffect) -> Runs:
    return Runs(
        log=log,
        program=ScriptedProgram(lambda _: effects),
        agents=MemoryAgents(agent()),
        clock=ManualClock(),
        guards=NoGuards(),
    )


async def begun(change: JsonObject) -> MemoryLog:
    """A log with a run that was begun under a manifest with other keys."""
    log = MemoryLog(clock=ManualClock())
    first = Started("r-1", agent(), "go", "uid:1", bytes(32)).draft(log, oldest=None)
    prompt, manifest, salt = first.blobs
    told = {**json.loads(log.blob(manifest)), **change}
    kept = log.put_blob(json.dumps(told).encode(), "manifest")
    await log.append(
        Draft(
            "run.started", "r-1", None, (), "clerk", "uid:1", None, (prompt, kept, salt), first.data
        )
    )
    return log


# ── runs ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"never_after": "18:00"}, "never_after"),
        ({"tools": [{"name": "plain", "methods": ["GET"]}]}, "tools.0.methods"),
        ({"tools": [{"name": "plain", "approval": "ask_twice"}]}, "tools.0.approval"),
        ({"guards": {"answer": ["health"]}}, "there is no guard 'health'"),
    ],
    ids=["key", "key-of-a-grant", "value", "guard"],
)
async def test_a_run_of_a_newer_version_waits_for_that_one(change: JsonObject, what: str) -> None:
    log = await begun(change)
    effect = PlainEffect()
    runs = runs_of(log, effect)
    for _start in range(2):
        assert await runs.recover() == []
        runs = runs_of(log, effect)
    assert (runs.show("r-1").status, effect.performed) == ("parked", [])
    assert what in runs.show("r-1").reason
    assert [entry.type for entry in log.entries()] == ["run.started", "run.parked"]
    with pytest.raises(JournalVersionError, match=f"another version of Freehold.*: {what}"):
        await runs.replay("r-1")


async def test_a_payment_of_a_newer_version_is_not_made_without_what_it_says_more() -> None:
    log, purse = MemoryLog(clock=ManualClock()), MemoryPurse()
    asked = json.dumps({"pay": {"to": "address|anna@example.org|5", "most_fee_sat": 0}})
    await log.append(
        Started("r-1", NODE_MANIFEST, asked, "uid:1", bytes(32)).draft(log, oldest=None)
    )
    runs = Runs(
        log=log,
        program=programs(ScriptedProgram(lambda _: ()), purse),
        agents=MemoryAgents(),
        clock=ManualClock(),
        guards=NoGuards(),
    )
    resumed = await runs.recover()
    with suppress(RunStoppedError):
        await runs.wait("r-1")
    assert (resumed, runs.show("r-1").status, purse.made) == ([], "parked", {})


async def test_a_run_of_a_newer_version_can_be_given_up() -> None:
    runs = runs_of(await begun({"never_after": "18:00"}))
    await runs.recover()
    await runs.cancel("r-1")
    assert runs.show("r-1").status == "failed"
    assert "never_after" in runs.show("r-1").reason


async def test_what_is_not_known_of_a_run_that_ended_keeps_no_node_from_starting() -> None:
    log = MemoryLog(clock=ManualClock())
    for run, end in (("r-1", {"status": "transcended", "usage": {"joules": 5}}), ("r-2", {})):
        await log.append(
            Draft("run.started", run, agent="clerk"),
            Draft("step.intent", run, "1", data={"kind": "teleport", "name": "beam"}),
            Draft("step.result", run, "1", data={"ok": "perhaps", "seconds": "long"}),
            Draft("team.joined", run, "1.x", data={"a": [1]}),
            Draft("run.finished", run, agent="clerk", data={**end}),
        )
    runs = runs_of(log)
    assert await runs.recover() == []
    assert [(run.id, run.status) for run in runs.list()] == [("r-2", ""), ("r-1", "transcended")]


async def test_a_run_of_an_older_version_goes_on() -> None:
    older = {"name": "clerk", "instructions": "Be exact.", "tools": [{"name": "plain"}]}
    log = MemoryLog(clock=ManualClock())
    first = Started("r-1", AgentManifest(**{**older, "tools": ()}), "go", "uid:1", bytes(32))
    draft = first.draft(log, oldest=None)
    kept = log.put_blob(json.dumps(older).encode(), "manifest")
    prompt, _, salt = draft.blobs
    await log.append(
        Draft(
            "run.started", "r-1", None, (), "clerk", "uid:1", None, (prompt, kept, salt), draft.data
        )
    )
    runs = runs_of(log, PlainEffect(value=7))
    assert await runs.recover() == ["r-1"]
    assert (await runs.wait("r-1")).text == "[7]"


async def test_a_question_of_a_newer_version_is_no_crash() -> None:
    """It is not answered here, and one that this version asks takes its place."""
    effect, log = PlainEffect(), MemoryLog(clock=ManualClock())
    first = Started("r-1", agent(), "go", "uid:1", bytes(32)).draft(log, oldest=None)
    asked = Draft("approval.asked", "r-1", "1", (), "clerk", data={"kind": "two_persons"})
    await log.append(first, asked)
    runs = runs_of(log, effect)
    with pytest.raises(ApprovalError, match="two_persons"):
        await asked_and_answered(runs)
    assert (await runs.wait("r-1")).status == "completed"
    settled = [entry.data["verdict"] for entry in log.entries() if entry.type == "approval.settled"]
    assert settled == ["expired"]


async def asked_and_answered(runs: Runs) -> None:
    await runs.recover()
    await runs.approve("1", "uid:1")


async def test_a_label_of_a_newer_version_counts_as_all_that_are_known() -> None:
    log = MemoryLog(clock=ManualClock())
    data: JsonObject = {"ok": True, "value": 1, "usage": {}, "labels": ["embargoed"]}
    await log.append(Draft("step.result", "r-1", "1", data=data))
    assert outcome_of(log, log.entry(0)).labels == {"untrusted", "private"}


# ── files ───────────────────────────────────────────────────────────────────────────────────


def test_the_key_of_a_newer_version_is_no_lost_one(tmp_path: Path) -> None:
    """Who takes it for one moves the wallet out of the home, as the hint of a lost one says."""
    KeyStore(tmp_path / FOLDER).set(NAME, json.dumps({"format": 2, "argon2id": {}}).encode())
    with pytest.raises(WalletStateError, match=r"format 2.* reads format 1") as caught:
        WalletKey(tmp_path).open()
    assert "Use the version that wrote it" in caught.value.hint
    assert "move" not in caught.value.hint


def test_a_secret_of_a_newer_version_goes_nowhere_that_one_may_forbid(tmp_path: Path) -> None:
    kept = {"url": "https://a.example/*", "header": "X", "value": "v", "agents": ["clerk"]}
    KeyStore(tmp_path).set("api", json.dumps({**kept, "methods": ["GET"]}).encode())
    with pytest.raises(IdentityError, match=r"secret api says .* does not know: methods"):
        HttpSecrets(tmp_path).headers("clerk")


def test_a_lock_of_a_newer_version_asks_for_that(tmp_path: Path) -> None:
    lock = tmp_path / "models.lock"
    lock.write_text("version = 2\n[models]\n")
    with pytest.raises(ModelError, match=r"not a lock of version 1, but 2") as caught:
        read_lock(lock)
    assert "Use the version of Freehold that wrote it" in caught.value.hint


def test_marks_of_a_newer_version_are_kept_beside_those_that_take_their_place(
    tmp_path: Path,
) -> None:
    newer = json.dumps({"now": {"plan.txt": ["embargoed"]}, "ever": {}})
    (tmp_path / ".labels-clerk.json").write_text(newer)
    labels = FileLabels(tmp_path)
    labels.wrote("clerk", "a.txt", frozenset({"private"}))
    assert (tmp_path / ".labels-clerk.unread").read_text() == newer
    assert labels.of("clerk", "plan.txt") == {"private", "untrusted"}


def test_what_a_newer_version_fetched_of_a_model_is_gone_on_with(tmp_path: Path) -> None:
    """Else it would come anew, all gigabytes of it."""
    note = tmp_path / "note.json"
    note.write_text(json.dumps({"source": "hf:a/b", "sha256": "ab", "durable": 7, "mirror": 2}))
    assert read_note(note) == Note("hf:a/b", sha256="ab", durable=7)


def archive_of(folder: Path, about: JsonObject, config: str) -> Path:
    path = folder / "backup.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in ((MANIFEST, json.dumps(about)), ("config.toml", config)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize(
    ("written", "config", "said"),
    [
        (2, "", "this archive is of format 2, and this version of Freehold reads format 1"),
        (1, "[limits]\nnaps = 1\n", "the archive's config.toml: limits.naps is not a known key"),
    ],
    ids=["format", "config"],
)
def test_an_archive_of_a_newer_version_says_which(
    tmp_path: Path, written: int, config: str, said: str
) -> None:
    about: JsonObject = {"format": written, "version": "7.8.9", "journal_entries": 0}
    archive = archive_of(tmp_path, about, config)
    with pytest.raises(BackupError) as caught:
        restore(archive, Home(tmp_path / "home"))
    assert caught.value.message == said
    assert "Freehold 7.8.9 wrote it" in caught.value.hint


# ── the log ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log that this version began and a later one, with other entries, went on with."""
    folder = tmp_path / "journal"
    with closing(Journal.open_sync(folder, origin="freehold/a")) as log:
        log.append_sync(Draft("node.started"))
        log.append_sync(Draft("node.stopped"))
    with monkeypatch.context() as later:
        later.setattr(writer, "line", lambda *made: line(*made).replace(b'{"v":1', b'{"v":2'))
        with closing(Journal.open_sync(folder, origin="freehold/a")) as log:
            log.append_sync(Draft("node.started"))
            (tmp_path / "proof").write_bytes(log.prove(2))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}


def test_a_log_of_a_newer_version_is_not_called_damaged(newer: Path) -> None:
    before = files_of(newer)
    with pytest.raises(JournalVersionError, match="entries from 2 on are of a newer version") as no:
        Journal.open_sync(newer, origin="freehold/a")
    assert "Use that version" in no.value.hint
    assert "relink" not in no.value.hint
    report = verify(newer)
    assert (report.internal, report.hint) == (Verdict.UNKNOWN, no.value.hint)
    assert files_of(newer) == before


@pytest.mark.parametrize("flip", [b'{"v":2', b'{"v":3'], ids=["to-2", "to-3"])
def test_an_entry_that_was_changed_passes_for_none_of_a_newer_version(
    tmp_path: Path, flip: bytes
) -> None:
    folder = tmp_path / "journal"
    with closing(Journal.open_sync(folder, origin="freehold/a")) as log:
        log.append_sync(Draft("node.started"))
        log.append_sync(Draft("node.stopped"))
    (segment,) = folder.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'{"v":1', flip, 1))
    assert verify(folder).internal is Verdict.FAILED
    with pytest.raises(JournalDamagedError):
        Journal.open_sync(folder, origin="freehold/a")


def test_doctor_does_not_have_a_newer_log_begun_anew(newer: Path) -> None:
    (fault,) = _log(Home(newer.parent))
    assert isinstance(fault, Fault)
    assert "newer version" in fault.problem
    assert "relink" not in fault.hint


def test_a_proof_of_a_newer_version_is_none_that_failed(newer: Path) -> None:
    key = VerifierKey.parse((newer / "log.vkey").read_text().strip())
    proof = (newer.parent / "proof").read_bytes()
    with pytest.raises(JournalVersionError, match="entry 2 is in the log"):
        check_proof(proof, key)
    with pytest.raises(JournalVersionError, match=r"this proof is c2sp.org/tlog-proof@v2"):
        check_proof(proof.replace(b"@v1", b"@v2", 1), key)
    with pytest.raises(JournalDamagedError, match="does not lead"):
        check_proof(proof.replace(b"index 2", b"index 1", 1), key)


# ── processes ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version was installed since this process began."""
    about = tmp_path / "site" / "freehold.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: freehold\nVersion: 9.9.9\n")
    monkeypatch.syspath_prepend(about.parents[1])


@pytest.mark.usefixtures("upgraded")
async def test_a_model_s_process_is_not_started_of_another_version() -> None:
    with pytest.raises(InferenceError, match=r"Freehold 9\.9\.9 was installed while") as caught:
        await child.start("node.inference.llama.runner")
    assert "freehold down" in caught.value.hint


@pytest.mark.usefixtures("upgraded")
async def test_a_tool_is_not_compiled_by_another_version(tmp_path: Path) -> None:
    tool = read_manifest(Path(str(files("wasm_tools"))) / "calc")
    async with aclosing(Sandbox(tmp_path / "cache")) as sandbox:
        with pytest.raises(SandboxError, match=r"Freehold 9\.9\.9 was installed while"):
            await sandbox.call(tool, "calc", {"expression": "1 + 1"}, Grant())
