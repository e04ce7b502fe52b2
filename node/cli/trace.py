"""`freehold trace RUN`: the run as a tree of its steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from node.cli._shared import clean, connect, in_a_line, json_option, number, print_json, span
from node.types import JsonObject

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

WIDTH = 100
NO_WRAP = 1_000_000
MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("…", "yellow")}


@click.command()
@click.argument("run")
@click.option("--full", is_flag=True, help="Do not shorten arguments and results.")
@json_option
def trace(run: str, full: bool, as_json: bool) -> None:
    """Show a run as a tree of its steps, with durations, tokens, costs and verdicts."""
    with connect() as client:
        found = client.trace(run)
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    console = Console(highlight=False)
    if full or not (console.is_terminal and console.width):  # COLUMNS=0 would show nothing
        console = Console(highlight=False, width=NO_WRAP)
    console.print(tree(found, None if full else WIDTH))


def tree(found: JsonObject, width: int | None) -> Tree:
    """The trace for a terminal; `width` cuts arguments and results to so many characters."""
    from rich.tree import Tree

    root = Tree(_head(found))
    prompt = found.get("prompt")
    said = "(erased, or cannot be read)" if prompt is None else _short(prompt, width)
    root.add(_text("prompt ", "bold", said))
    _grow_all(root, _list(found, "steps"), width)
    for event in _list(found, "events"):
        if event["type"] != "run.started":
            root.add(_text(f"{event['type']} ", "yellow", _event(event)))
    if found.get("text"):
        root.add(_text("answer ", "bold", _short(found.get("text"), width)))
    return root


def _head(found: JsonObject) -> Text:
    status = str(found.get("status"))
    color = {"completed": "green", "unfinished": "yellow"}.get(status, "red")
    text = _text(f"{found.get('run')} {found.get('agent')} ", "bold", "")
    text.append(status, color)
    parts = [span(_number(found.get("seconds"))), *_usage(found.get("usage"))]
    if reason := found.get("reason"):
        parts.append(f"({in_a_line(str(reason))})")
    return text.append("  " + "  ".join(parts))


def _grow_all(parent: Tree, steps: list[JsonObject], width: int | None) -> None:
    """The steps in order; guards that let something pass share a line, unless all is shown."""
    for stage, group in groupby(steps, _stage):
        together = list(group)
        if stage and width is not None:
            names = ", ".join(str(step["name"]) for step in together)
            parent.add(_text("✓ ", "green", clean(f"{stage} passed {names}"), "dim"))
        else:
            for step in together:
                _grow(parent, step, width)


def _stage(step: JsonObject) -> str:
    """`4.tool_result` for a verdict of that stage that is a pass; empty for all else."""
    value = step.get("value")
    passed = isinstance(value, dict) and value.get("verdict") == "pass"
    return str(step["path"]).rpartition(".")[0] if passed and step.get("kind") == "guard" else ""


def _grow(parent: Tree, step: JsonObject, width: int | None) -> None:
    mark, color = MARKS.get(step.get("ok"), MARKS[None])  # type: ignore[arg-type]
    line = _text(f"{mark} ", color, f"{step['path']} ")
    line.append(clean(f"{step['kind']} {step['name']}"), "bold")
    line.append("  " + "  ".join(_facts(step)), "dim")
    branch = parent.add(line)
    if step.get("kind") not in ("model", "guard") and step.get("args") not in (None, {}, ""):
        branch.add(_text("→ ", "dim", _short(step["args"], width)))
    error = step.get("error")
    if isinstance(error, dict):
        branch.add(_text("✗ ", "red", in_a_line(str(error.get("message")))))
    elif step.get("value") is not None and step.get("kind") != "guard":
        branch.add(_text("← ", "dim", _short(_said(step), width)))
    _grow_all(branch, _list(step, "steps"), width)


def _said(step: JsonObject) -> Any:
    """A model step's own text where it has one; else its whole value."""
    value = step.get("value")
    if isinstance(value, dict) and step.get("kind") == "model":
        return value.get("tool_calls") or value.get("text") or value
    return value


def _facts(step: JsonObject) -> Iterator[str]:
    if step.get("seconds") is not None:
        yield span(_number(step["seconds"]))
    yield from _usage(step.get("usage"))
    policy = step.get("policy")
    if isinstance(policy, dict) and policy.get("verdict") != "allow":
        yield clean(f"{policy.get('verdict')} by {policy.get('rule')}")
    value = step.get("value")
    if step.get("kind") == "guard" and isinstance(value, dict):
        yield clean(f"{value.get('verdict')} {value.get('reason') or ''}".strip())
    labels = step.get("labels")
    if isinstance(labels, list):
        yield from (f"[{label}]" for label in labels)


def _usage(usage: object) -> Iterator[str]:
    """Tokens and money; what is zero is left out."""
    if not isinstance(usage, dict):
        return
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    if prompt or completion:
        yield f"{prompt}+{completion} tokens"
    if usage.get("egress_bytes"):
        yield f"{usage['egress_bytes']} bytes out"
    if usage.get("msat"):
        yield f"{number(usage['msat'] / 1000)} sat"


def _event(event: JsonObject) -> str:
    data = event.get("data")
    said = data.get("reason") or data.get("verdict") or "" if isinstance(data, dict) else ""
    return clean(f"{event.get('path') or ''} {said} by {event.get('actor')}".strip())


def _short(value: object, width: int | None) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = clean(text, lines=width is None)
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def _text(lead: str, style: str, rest: str, after: str = "default") -> Text:
    from rich.text import Text

    return Text().append(lead, style).append(rest, after)


def _list(found: JsonObject, key: str) -> list[JsonObject]:
    value = found.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
