"""The command line as a person and a script use it, against a real daemon."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from helpers.node import Node

from node.cli.ask import Watcher


def asking(node: Node) -> None:
    path = node.root / "agents" / "clerk.toml"
    path.write_text(path.read_text().replace('name = "calc"', 'name = "calc"\napproval = "ask"'))


def test_ask_prints_the_answer_alone(running: Node) -> None:
    done = running.cli("ask", "clerk", "calc 12*34")
    assert done.returncode == 0
    assert done.stdout == 'It came to {"value":"408"}.\n'
    assert "tool calc" in done.stderr
    piped = running.cli("ask", "clerk", "-", stdin="say grüße\n".encode())
    assert piped.stdout == "grüße\n"
    assert running.cli("ask", "clerk", "-", stdin=b"\xff").returncode == 1


def test_a_question_with_its_key_is_asked_once(running: Node) -> None:
    ask = ("ask", "clerk", "calc 12*34", "--json", "--key", "a-question-of-mine")
    first, before = running.cli(*ask), running.cli("runs", "list", "--json").stdout
    assert (first.returncode, running.cli(*ask).stdout) == (0, first.stdout)
    other = running.cli("ask", "clerk", "say it", "--key", "a-question-of-mine")
    assert (other.returncode, "was asked something else" in other.stderr) == (2, True)
    assert running.cli("runs", "list", "--json").stdout == before


def test_what_is_no_prompt_is_said_so(running: Node) -> None:
    before = running.cli("runs", "list", "--json").stdout
    for words, stdin in ((["  "], b""), ([b"\xff\xfe".decode(errors="surrogateescape")], b"")):
        done = running.cli("ask", "clerk", *words, stdin=stdin)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert done.stderr.startswith("error: ")
    assert running.cli("ask", "clerk", "-", stdin=b"\n").returncode == 2
    done = running.cli("replay", "last", "--from", "2", "--edit", "-", stdin=b"\xff")
    assert (done.returncode, "not UTF-8" in done.stderr) == (1, True)
    assert running.cli("runs", "list", "--json").stdout == before


def test_commands_say_what_they_did_not_do(running: Node) -> None:
    running.cli("ask", "clerk", "say x")
    assert "had ended already: completed" in running.cli("runs", "cancel", "last").stderr
    assert "no emergency stop was in force" in running.cli("resume").stderr
    entries = running.cli("audit", "log", "--type", "node.resumed")
    assert (entries.returncode, entries.stdout) == (0, "")
    for command in ("log", "diff"):
        assert "no agent 'nobody'" in running.cli("workspace", command, "nobody").stderr
    assert not (running.root / "workspaces" / ".git-nobody").exists()
    assert running.cli("runs", "list", "-n", "-1").returncode == 2
    assert running.cli("logs", "-n", "-1").returncode == 2


def test_what_a_run_handled_is_erased(running: Node) -> None:
    running.cli("ask", "clerk", "say the word swordfish")
    run = json.loads(running.cli("runs", "show", "last", "--json").stdout)
    assert run["prompt"] == "say the word swordfish"
    assert running.cli("runs", "erase", "last", stdin=b"n\n").returncode == 1
    assert json.loads(running.cli("runs", "show", "last", "--json").stdout) == run
    done = running.cli("runs", "erase", run["id"][:10], "--yes")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"pieces of content of {run['id']}" in done.stderr
    after = json.loads(running.cli("runs", "show", run["id"], "--json").stdout)
    assert (after["prompt"], after["text"], after["status"]) == ("", "", "completed")
    shown = running.cli("runs", "show", "last").stdout
    assert ("prompt   (erased)" in shown, "answer   (erased)" in shown) == (True, True)
    assert "(erased)" in running.cli("runs", "list").stdout
    shown = running.cli("trace", run["id"], "--full").stdout
    assert ("swordfish" in shown, "prompt (erased" in shown) == (False, True)
    assert "erased" in running.cli("replay", run["id"]).stderr
    verified = running.cli("audit", "verify")
    assert (verified.returncode, "erased" in verified.stdout) == (0, True)


def test_what_a_model_keeps_of_an_erased_run_is_removed(node: Node) -> None:
    kept = node.root / "cache" / "states"
    assert node.cli("up", "--detach").returncode == 0
    try:
        node.cli("ask", "clerk", "what is 12 * 34?")
        assert node.cli("down").returncode == 0
        assert list(kept.iterdir())
        assert node.cli("up", "--detach").returncode == 0
        assert node.cli("runs", "erase", "last", "--yes").returncode == 0
        assert not list(kept.iterdir())
    finally:
        node.cli("down")


def test_a_daemon_takes_no_code_from_the_folder_it_was_started_in(node: Node) -> None:
    (node.root.parent / "jsonschema.py").write_text("raise SystemExit('not mine')")
    words = [sys.executable, "-P", "-m", "node.cli"]
    env = {**node.environment(), "PYTHONWARNINGS": "always::ResourceWarning"}
    where: dict[str, Any] = {"cwd": node.root.parent, "env": env}
    up = subprocess.run([*words, "up", "--detach"], capture_output=True, check=False, **where)
    node.cli("down")
    assert (up.returncode, b"Warning" in up.stderr) == (0, False), up.stderr
    unit = subprocess.check_output([*words, "service", "install", "--print"], **where)
    assert b'" "-P" "-m" "node.cli" "up"' in unit or b"<string>-P</string>" in unit


def test_ask_streams_words_but_no_calls(running: Node) -> None:
    done = running.cli("ask", "clerk", "--stream", "calc 2+2")
    assert done.stdout == 'It came to {"value":"4"}.\n'
    assert running.cli("ask", "clerk", "--stream", "say {held}").stdout == "{held}\n"


class Scripted:
    """A client whose run makes these events and then ends as `run`."""

    def __init__(self, events: list[tuple[str, dict[str, Any]]], **run: str) -> None:
        self.events = events
        self.end = {"status": "completed", "text": "", "reason": "", **run}

    def watch(self, run_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
        for number, (kind, data) in enumerate(self.events, 1):
            yield {"id": number, "type": kind, "data": data}

    def run(self, run_id: str) -> dict[str, str]:
        return self.end


def said(path: str, text: str) -> tuple[str, dict[str, Any]]:
    return "token", {"path": path, "text": text}


BACK = ("token.reset", {"path": "3", "reason": "no tool result holds 51"})


@pytest.mark.parametrize(
    ("events", "run", "told"),
    [
        ([said("3", "It "), said("3", "is 4.")], {"text": "It is 4."}, ("It is 4.\n", "")),
        ([said("3", "\n It is 4.\n")], {"text": "It is 4."}, ("It is 4.\n", "")),
        (
            [said("3", "It is 51."), BACK, said("5", "It is 50.")],
            {"text": "It is 50."},
            ("It is 51.\nIt is 50.\n", "↑ not the answer: no tool result holds 51\n"),
        ),
        (
            [said("3", "It is"), ("token.reset", {"path": "3"}), said("3", "It is 50.")],
            {"text": "It is 50."},
            ("It is\nIt is 50.\n", "↑ not the answer: it begins again\n"),
        ),
        ([said("3", "One.")], {"text": "Two."}, ("One.\nTwo.\n", "↑ not the answer: it is this\n")),
        ([said("3", "{held}")], {"text": "{held}"}, ("{held}\n", "")),
        ([said("3", '{"name":'), said("3", '"calc"}'), said("5", "4")], {"text": "4"}, ("4\n", "")),
    ],
)
def test_streamed_words_never_contradict_the_answer(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    events: list[tuple[str, dict[str, Any]]],
    run: dict[str, str],
    told: tuple[str, str],
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    client: Any = Scripted(events, **run)
    assert Watcher(client, "r-1", stream=True, as_json=False).follow() == 0
    assert capsys.readouterr() == told
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert Watcher(client, "r-1", stream=True, as_json=False).follow() == 0
    assert capsys.readouterr() == (f"{run['text']}\n", "")


def test_words_of_a_run_that_failed_are_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    reason = "tokens\nRaise them."
    client: Any = Scripted([said("3", "It is")], status="stopped", reason=reason)
    assert Watcher(client, "r-1", stream=True, as_json=False).follow() == 4
    out, err = capsys.readouterr()
    assert out == "It is\n"
    told = "↑ not the answer: the run did not get that far\nstopped: tokens; Raise them.\n"
    assert err.startswith(told)


def test_ask_for_programs(running: Node) -> None:
    found = json.loads(running.cli("ask", "clerk", "--json", "say hi").stdout)
    assert (found["status"], found["text"]) == ("completed", "hi")
    lines = running.cli("ask", "clerk", "--json", "--stream", "words 5").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    said = "".join(e["data"]["text"] for e in events[:-1] if e["type"] == "token")
    assert said == " ".join(f"word{n}" for n in range(5))
    assert events[-1]["status"] == "completed"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["ask", "clerk", "fail"], 1),
        (["ask", "nobody", "say x"], 1),
        (["ask", "clerk"], 2),
        (["nonsense"], 2),
        (["runs", "show", "r-none"], 1),
        (["ask", "clerk", "words 20000"], 1),
    ],
)
def test_exit_codes(running: Node, words: list[str], code: int) -> None:
    done = running.cli(*words)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_a_budget_that_is_spent_is_4(node: Node) -> None:
    path = node.root / "agents" / "clerk.toml"
    path.write_text(path.read_text().replace("[[tools]]", "[budget]\nsteps = 2\n[[tools]]", 1))
    node.up()
    done = node.cli("ask", "clerk", "calc 1+1")
    assert done.returncode == 4, done.stderr
    assert "steps" in done.stderr


@pytest.mark.parametrize("words", [["ask", "clerk", "say x"], ["runs", "list"], ["down"]])
def test_without_a_daemon_it_is_3(node: Node, words: list[str]) -> None:
    done = node.cli(*words)
    assert done.returncode == 3
    assert "freehold up" in done.stderr


def test_a_question_nobody_here_can_answer_is_5(node: Node) -> None:
    asking(node)
    node.up()
    done = node.cli("ask", "clerk", "calc 6*7")
    assert done.returncode == 5
    (question,) = json.loads(node.cli("approvals", "list", "--json").stdout)
    assert f"freehold approvals approve {question['id']}" in done.stderr
    lines = node.cli("ask", "clerk", "--json", "--stream", "calc 6*7").stdout.splitlines()
    assert json.loads(lines[-1])["approval"]["run"] == json.loads(lines[-1])["run"]["id"]
    node.cli("runs", "cancel", "last")
    assert "6*7" in node.cli("approvals", "list").stdout
    assert node.cli("approvals", "approve", question["id"]).returncode == 0
    run = json.loads(node.cli("runs", "list", "--json").stdout)[0]["id"]
    assert node.cli("approvals", "approve", question["id"]).returncode == 1
    shown = node.cli("trace", run).stdout
    assert "approval.asked" in shown


def test_a_person_at_a_terminal_is_asked(node: Node) -> None:
    asking(node)
    node.up()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "node.cli", "ask", "clerk", "calc 6*7"],
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        env=node.environment(),
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(ours, 1000)
    os.write(ours, b"y\n")
    with process:
        assert process.stdout is not None
        assert process.stdout.read() == b'It came to {"value":"42"}.\n'
    os.close(ours)
    assert process.returncode == 0
    assert b'{"expression": "6*7"}' in said


@contextmanager
def begun(
    node: Node, interruptible: Callable[..., subprocess.Popen[str]]
) -> Iterator[subprocess.Popen[str]]:
    """An `ask` whose run is under way."""
    node.up()
    words = ("ask", "clerk", "--json", "--stream", "wait x")
    with interruptible(*words, env=node.environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def test_ctrl_c_cancels_the_run(
    node: Node, interruptible: Callable[..., subprocess.Popen[str]]
) -> None:
    with begun(node, interruptible) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    (run,) = json.loads(node.cli("runs", "list", "--json").stdout)
    assert run["status"] == "stopped"
    assert "terminal" in run["reason"]


def test_a_run_that_is_stopped_under_ask_waits_for_no_answer(
    node: Node, interruptible: Callable[..., subprocess.Popen[str]]
) -> None:
    """5 is for a question, which a program then finds beside the run."""
    with begun(node, interruptible) as process:
        node.cli("estop")
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 4
    assert json.loads(said.splitlines()[-1])["status"] == "parked"


def test_runs_trace_logs_and_replay(running: Node) -> None:
    running.cli("ask", "clerk", "calc 12*34")
    run = json.loads(running.cli("runs", "list", "--json").stdout)[0]["id"]
    assert run in running.cli("runs", "list").stdout
    assert "408" in running.cli("runs", "show", run[:6]).stdout
    shown = running.cli("trace", "last").stdout
    for part in (run, "completed", "tool calc", '{"expression": "12*34"}', "tokens", "passed"):
        assert part in shown
    assert len(running.cli("trace", "last", "--full").stdout.splitlines()) > len(shown.splitlines())
    ours, theirs = pty.openpty()
    narrow = {**running.environment(), "COLUMNS": "0", "TERM": "xterm"}
    subprocess.run(
        [sys.executable, "-m", "node.cli", "trace", "last"], stdout=theirs, env=narrow, check=True
    )
    os.close(theirs)
    assert run.encode() in os.read(ours, 4096)
    os.close(ours)
    tree = json.loads(running.cli("trace", "last", "--json").stdout)
    (tool,) = [step for step in tree["steps"] if step["kind"] == "tool"]
    assert tool["value"] == {"value": "408"}
    assert tool["policy"]["verdict"] == "allow"
    assert {step["kind"] for step in tool["steps"]} == {"guard"}
    assert "run.finished" in running.cli("logs").stdout
    entries = [json.loads(line) for line in running.cli("logs", "--json").stdout.splitlines()]
    assert entries[-1]["type"] == "run.finished"
    assert "the same" in running.cli("replay", run).stdout
    fork = running.cli("replay", run, "--from", tool["path"], "--edit", "calc 1+1")
    assert fork.returncode == 0, fork.stderr
    assert running.cli("replay", run, "--edit", "x").returncode == 2


def test_logs_follow_until_the_daemon_stops(node: Node) -> None:
    node.up()
    process = subprocess.Popen(
        [sys.executable, "-m", "node.cli", "logs", "-f", "-n", "1"],
        stdout=subprocess.PIPE,
        env=node.environment(),
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        node.cli("ask", "clerk", "say hello")
        assert node.down() == 0
        rest = process.stdout.read().decode()
    assert "run.started" in rest
    assert rest.splitlines()[-1].split()[2] == "node.stopped"
    assert process.returncode == 0


def test_estop_resume_and_cancel(running: Node) -> None:
    assert running.cli("estop").returncode == 0
    assert "EMERGENCY STOP" in running.cli("status").stdout
    refused = running.cli("ask", "clerk", "say x")
    assert refused.returncode == 4
    assert "resume" in refused.stderr
    assert running.cli("resume").returncode == 0
    assert running.cli("ask", "clerk", "say x").returncode == 0
    state = json.loads(running.cli("status", "--json").stdout)
    assert (state["running"], state["estop"]) == (True, False)


def test_workspace_commands(running: Node) -> None:
    running.cli("ask", "clerk", "write note.txt one")
    running.cli("ask", "clerk", "write note.txt two")
    newest, oldest = json.loads(running.cli("workspace", "log", "clerk", "--json").stdout)
    assert "note.txt" in running.cli("workspace", "log", "clerk").stdout
    assert "+two" in running.cli("workspace", "diff", "clerk", oldest["id"], newest["id"]).stdout
    assert running.cli("workspace", "rollback", "clerk", oldest["id"], "--yes").returncode == 0
    assert (running.root / "workspaces" / "clerk" / "note.txt").read_text() == "one"
    none = running.cli("workspace", "rollback", "clerk", "HEAD", "--yes")
    assert (none.returncode, "`freehold workspace log clerk` lists" in none.stderr) == (1, True)
    assert running.cli("workspace", "log", "clerk", "-n", "-1").returncode == 2


def test_a_paused_agent_takes_no_runs(node: Node) -> None:
    node.up()
    assert node.cli("agent", "pause", "clerk").returncode == 0
    assert "paused" in node.cli("ask", "clerk", "say x").stderr
    assert node.cli("agent", "pause", "clerk", "--off").returncode == 0
    assert node.cli("ask", "clerk", "say x").returncode == 0
    warned = node.cli("agent", "new", "poet", "--tool", "nonsense")
    assert "nonsense" in warned.stderr
    states = {a["name"]: a["state"] for a in json.loads(node.cli("agent", "list", "--json").stdout)}
    assert states == {"clerk": "ready", "poet": "broken"}


def test_an_agents_file_is_judged_as_it_is_now(running: Node) -> None:
    """A person writes it with an editor; nothing tells the daemon."""
    path = running.root / "agents" / "poet.toml"
    for tool, state in (("clac", "broken"), ("calc", "ready"), ("clac", "broken")):
        path.write_text(f'name = "poet"\ninstructions = "Rhyme."\n[[tools]]\nname = "{tool}"\n')
        listed = json.loads(running.cli("agent", "list", "--json").stdout)
        assert {each["name"]: each["state"] for each in listed}["poet"] == state
        assert ("clac" in running.cli("doctor").stdout) == (state == "broken")
    path.unlink()
    assert "clac" not in running.cli("doctor").stdout


def test_a_daemon_that_dies_under_ask_is_said(node: Node) -> None:
    node.up()
    process = subprocess.Popen(
        [sys.executable, "-m", "node.cli", "ask", "clerk", "--json", "--stream", "wait x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=node.environment(),
    )
    with process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        node.down(signal.SIGKILL)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"Traceback" not in said
    assert started["data"]["run"].encode() in said
