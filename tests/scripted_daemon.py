"""Runs the real daemon on a scripted engine, as a process of its own. Only for tests.

What the engine says follows from the prompt alone, so that a daemon which was killed and started
again goes on as if nothing had happened:

    say TEXT           answers TEXT
    calc EXPRESSION    calls calc, then answers with what came back
    write NAME TEXT    calls files_write, then answers
    pay WHOM [AMOUNT]  calls pay, then answers
    fetch URL          calls web_fetch, then answers
    wait TEXT          answers TEXT once the process gets SIGUSR1
    words N            answers N words
    fail               the engine fails

FREEHOLD_JOURNAL_FAULT makes the log's disk fail (node/journal).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from node import daemon
from node.errors import FreeholdError, RunnerCrashedError
from node.home import Home
from node.inference import Call, Fail, Generation, Say, ScriptedEngine, ToolCall, Wait
from node.journal import storage_from

go_on = asyncio.Event()


def script(request: Generation) -> Say | Call | Fail | Wait:
    """What to say to a request."""
    step: Say | Call | Fail | Wait
    prompt = next(m.content for m in request.messages if m.role == "user")
    verb, _, rest = prompt.partition(" ")
    results = [m.content for m in request.messages if m.role == "tool"]
    if results:
        return Say(f"It came to {results[-1]}.")
    match verb:
        case "calc":
            step = Call(ToolCall("calc", {"expression": rest}))
        case "write":
            name, _, text = rest.partition(" ")
            step = Call(ToolCall("files_write", {"path": name, "content": text}))
        case "pay":
            whom, _, amount = rest.partition(" ")
            asked: dict[str, object] = {"to": whom}
            step = Call(ToolCall("pay", asked | ({"amount_sat": int(amount)} if amount else {})))
        case "fetch":
            step = Call(ToolCall("web_fetch", {"url": rest}))
        case "wait":
            step = Wait(go_on, Say(rest))
        case "words":
            step = Say(" ".join(f"word{n}" for n in range(int(rest))))
        case "fail":
            step = Fail(RunnerCrashedError("the double fails", hint="It was told to."))
        case _:
            step = Say(rest)
    return step


def main() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: asyncio.get_running_loop().call_soon(go_on.set))
    try:
        daemon.run(Home.locate(), engine=ScriptedEngine(script), storage=storage_from(os.environ))
    except FreeholdError as error:
        sys.stderr.write(json.dumps({"error": error.message, "hint": error.hint}) + "\n")
        sys.exit(error.exit_code)


main()
