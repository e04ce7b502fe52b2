"""`freehold ask`: one question to an agent, its steps as they happen, its answer.

The answer alone goes to standard output, so that it can be piped; what the agent does meanwhile
goes to standard error. With --stream the model's words appear at a terminal as they are made; what
turns out not to be the answer is said to be taken back. Where nothing can be taken back, in a pipe
or a file, words are written once they are the answer.
"""

from __future__ import annotations

import json
import sys
import termios
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from node.cli._shared import (
    INTERRUPTED,
    clean,
    connect,
    in_a_line,
    json_option,
    leave,
    note,
    print_json,
    print_line,
    span,
    standard_input,
)
from node.errors import ApprovalError, ControlError, NoAnswerError, RequestError

if TYPE_CHECKING:
    from node.client import Client
    from node.gateway.replies import ApprovalReply, Event, RunReply

# how a run ended -> exit status; docs/cli.md has the same table
EXIT = {"completed": 0, "failed": 1, "stopped": 4, "could_not": 6}
PARKED = 4  # by an emergency stop or a shutdown; it goes on after that
WAITING = 5
# the loop opens a run with a look at the model; nothing a person waits for
HIDDEN = ("model open", None)


@click.command()
@click.argument("agent")
@click.argument("prompt")
@click.option("--stream", is_flag=True, help="Show the model's words as they come.")
@click.option("--key", default="", help="Yours for this question: with it again, the same run.")
@json_option
def ask(agent: str, prompt: str, stream: bool, key: str, as_json: bool) -> None:
    """Ask an agent something and wait for its answer.

    PROMPT - is read from standard input. Ctrl-C cancels the run. With --json the result is one
    object; with --json --stream every event is a line and the result is the last one.
    """
    if prompt == "-":
        prompt = standard_input()
    if not prompt.strip():
        raise RequestError("the prompt is empty", hint="Say what the agent is to do.")
    with connect() as client:
        run_id = _started(client, agent, prompt, key)
        watcher = Watcher(client, run_id, stream=stream, as_json=as_json)
        leave(watcher.follow())


def _started(client: Client, agent: str, prompt: str, key: str) -> str:
    """The run. Raises NoAnswerError, and says how not to ask twice, where it may have begun."""
    try:
        return client.start(agent, prompt, key=key)
    except NoAnswerError as error:
        same = "with the same --key it is asked once" if key else "`freehold runs list` tells"
        hint = f"The run may have begun: {same}. {error.hint}"
        raise NoAnswerError(error.message, hint=hint) from error


class Watcher:
    """Shows one run until it ends, waits for a person who is not here, or is cancelled."""

    def __init__(self, client: Client, run_id: str, *, stream: bool, as_json: bool) -> None:
        self._client = client
        self._run = run_id
        self._stream = stream
        self._json = as_json
        self._seen = 0
        self._names: dict[str, str] = {}
        self._words = Words()

    def follow(self) -> int:
        """The exit status the command ends with."""
        try:
            waiting = self._watch()
            if waiting:
                return self._left_waiting(waiting)
            return self._finish(self._client.run(self._run))
        except KeyboardInterrupt:
            return self._cancel()
        except ControlError as error:
            self._words.end_line()
            hint = f"The run is on the log and goes on when the daemon does: see run {self._run}."
            raise type(error)(error.message, hint=hint) from error

    def _watch(self) -> ApprovalReply | None:
        """Shows events until the run is over; the question that nobody here can answer, if any."""
        while True:
            asked = False
            for event in self._client.watch(self._run, self._seen):
                self._seen = event["id"]
                self._show(event)
                if event["type"] == "approval.asked":
                    asked = True
                    break
            if not asked:
                return None
            for question in self._client.approvals():
                if question["run"] == self._run and not self._answer(question):
                    return question

    def _show(self, event: Event) -> None:
        if self._json:
            if self._stream:
                print_line(event)
        elif event["type"] == "token":
            if self._stream and sys.stdout.isatty():
                self._words.add(str(event["data"].get("path")), str(event["data"].get("text", "")))
        elif event["type"] == "token.reset":
            self._take_back(str(event["data"].get("reason") or "it begins again"))
        else:
            self._show_step(event)

    def _take_back(self, why: str) -> None:
        if self._words.take_back():
            note(f"↑ not the answer: {why}", lines=False)

    def _show_step(self, event: Event) -> None:
        data = event["data"]
        path = str(data.get("path"))
        if event["type"] == "step.intent":
            self._names[path] = f"{data.get('kind')} {data.get('name')}"
        elif event["type"] == "step.result" and self._names.get(path) not in HIDDEN:
            self._words.end_line()
            took = data.get("ms")
            spent = span(took / 1000) if isinstance(took, int | float) else ""
            problem = f": {data['error']}" if data.get("error") else ""
            mark = "✓" if data.get("ok") else "✗"
            note(f"{mark} {path} {self._names.get(path, '')}  {spent}{problem}", lines=False)

    def _answer(self, question: ApprovalReply) -> bool:
        """Asks the person at this terminal, if there is one."""
        if self._json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        self._words.end_line()
        args = json.dumps(question["args"], ensure_ascii=False)
        note(f"{question['agent']}: {question['name']} {args}", lines=False)
        note(f"asked because: {question['reason'] or question['rule']}", lines=False)
        unknown = question["kind"] == "outcome_unknown"
        _forget_typed()
        try:
            said = click.confirm("Did it happen?" if unknown else "Let it happen?", err=True)
        except click.Abort as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            click.echo(err=True)
            return False  # the terminal has gone: nobody is here
        try:
            if said:
                self._client.approve(question["id"])
            else:
                self._client.deny(question["id"], "refused at the terminal")
        except ApprovalError as error:  # answered elsewhere, or too late; the run goes on
            note(error.message)
        return True

    def _left_waiting(self, question: ApprovalReply) -> int:
        why = question["reason"] or question["rule"]
        note(f"run {self._run} waits for a person: {question['name']} ({why})", lines=False)
        note(f"`freehold approvals approve {question['id']}` or `... deny {question['id']}`")
        if self._json:
            self._print({"run": self._client.run(self._run), "approval": question})
        return WAITING

    def _print(self, result: object) -> None:
        """The result for a program: one document, or the last of the lines."""
        (print_line if self._stream else print_json)(result)

    def _cancel(self) -> int:
        """Cancels the run and waits until it has ended; a second Ctrl-C does not wait."""
        self._take_back("it was cancelled")
        note(f"cancelling run {self._run}")
        try:
            self._client.cancel(self._run, "cancelled at the terminal")
            for _ in self._client.watch(self._run, self._seen):
                pass
        except KeyboardInterrupt:
            note("not waiting; the run stops by itself")
        return INTERRUPTED

    def _finish(self, run: RunReply) -> int:
        self._words.end_line()
        if self._json:
            self._print(run)
        elif run["status"] == "completed":
            if self._words.shown.strip() != run["text"].strip():
                self._take_back("it is this")
                click.echo(clean(run["text"]))
        else:
            self._take_back("the run did not get that far")
            if run["text"]:
                click.echo(clean(run["text"]))
            note(f"{run['status']}: {in_a_line(run['reason'])}")
            note(f"`freehold trace {self._run}` shows what it did")
        return EXIT.get(run["status"], PARKED)


def _forget_typed() -> None:
    """Drops what was typed before a question was shown, which is no answer to it: another one was
    asked then, or a model's words looked like one."""
    with suppress(OSError, termios.error):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


class Words:
    """A model's words on the terminal as they come, but not its calls of tools.

    Which reply is a call is known for sure only at its end; one that begins like a call in any
    family's format is held back, and shown at the end should it have been the answer after all.
    """

    def __init__(self) -> None:
        self.shown = ""
        self._path = ""
        self._held = False
        self._open = False

    def add(self, path: str, text: str) -> None:
        """The next piece of the reply that step `path` is making."""
        if path != self._path or not (self.shown or self._held):
            if not text.strip():
                return
            self.end_line()
            self._path, self.shown = path, ""
            text = text.lstrip()
            self._held = text.startswith(("<", "{", "["))
        if not self._held:
            self.shown += text
            sys.stdout.write(clean(text))
            sys.stdout.flush()
            self._open = not text.endswith("\n")

    def take_back(self) -> bool:
        """The words so far are not the answer; whether any were shown."""
        self.end_line()
        taken, self.shown, self._held = bool(self.shown), "", False
        return taken

    def end_line(self) -> None:
        """So that what comes next begins on a line of its own."""
        if self._open:
            click.echo()
            self._open = False
