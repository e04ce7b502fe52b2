"""What commands share: the home, the client, output for people and for programs."""

from __future__ import annotations

import codecs
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from node.errors import ConfigError, DaemonNotRunningError, FreeholdError, RequestError
from node.home import Home

if TYPE_CHECKING:
    from node.client import Client

INTERRUPTED = 130  # the exit status of Ctrl-C
INPUT_MAX_BYTES = 4 * 1024 * 1024  # what the daemon takes in one request
LINE_MAX_BYTES = 4_095  # of a line typed at a terminal (termios(3), canonical mode)

LIST_MAX = 1_000
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
limit_option = click.option(
    "-n",
    "limit",
    type=click.IntRange(0, LIST_MAX),
    default=50,
    show_default=True,
    help="How many of the newest.",
)


def home() -> Home:
    """The home the environment names."""
    return Home.locate()


def node_home() -> Home:
    """The home, with all its folders. Raises ConfigError where there is no node."""
    where = home()
    where.require()
    where.create()
    return where


def connect() -> Client:
    """A client of this home's daemon. Raises DaemonNotRunningError, also where there is no node."""
    from node.client import Client

    where = home()
    try:
        return Client.unix(where.socket)
    except DaemonNotRunningError:
        try:
            where.require()
        except ConfigError as error:
            raise DaemonNotRunningError(error.message, hint=error.hint) from None
        raise


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(_shown(json.dumps(value, indent=2, ensure_ascii=_is_poor())))


def print_line(value: object) -> None:
    """One JSON value on one line, flushed: for streams that a program reads."""
    line = json.dumps(value, ensure_ascii=_is_poor(), separators=(",", ":"))
    sys.stdout.write(_shown(line) + "\n")
    sys.stdout.flush()


def _is_poor() -> bool:
    """Whether the output lacks letters. The escapes it has for them are not all JSON's."""
    return codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"


def _shown(document: str) -> str:
    """The same JSON with escapes for what drives terminals and for what is not Unicode."""
    if document.replace("\n", "").isprintable():
        return document
    return "".join(
        char if char == "\n" or char.isprintable() else json.dumps(char)[1:-1] for char in document
    )


def note(text: str, *, lines: bool = True) -> None:
    """Something for the person at the terminal: standard error, so that answers stay clean.

    Without `lines` it stays one: for words of a model, a tool or a mint, which must not look like
    the node's own.
    """
    click.echo(clean(text, lines=lines), err=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns on standard output; nothing is cut off, so `grep` finds what is there."""
    lines = [[clean(cell, lines=False) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def clean(text: str, *, lines: bool = True) -> str:
    """Text from outside made safe for a terminal: control characters are shown, not obeyed."""
    keep = "\n\t" if lines else ""
    return "".join(
        char if char in keep or char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )


def indented(text: str, by: int = 2) -> str:
    """Text from outside whose lines after the first begin with blanks: none of them looks like a
    line of the node's own, a hint for one."""
    return clean(text).replace("\n", "\n" + " " * by)


def in_a_line(text: str) -> str:
    """Text from outside of whatever many lines as one."""
    return clean("; ".join(text.splitlines()), lines=False)


def ago(seconds: float) -> str:
    """How long ago a moment of wall time was: `12s`, `5m`, `3h`, `8d`."""
    passed = max(0.0, time.time() - seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if passed >= size:
            return f"{passed / size:.0f}{unit}"
    return f"{passed:.0f}s"


def span(seconds: float) -> str:
    """A duration as people read it: `850 µs`, `12 ms`, `3.2 s`, `4 min`."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def number(value: float) -> str:
    """Whole to its last digit, with up to three behind the point: it may be money."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def standard_input() -> str:
    """All of standard input as text. Raises FreeholdError if it is not UTF-8, or has no end."""
    content = sys.stdin.buffer.read(INPUT_MAX_BYTES + 1)
    if len(content) > INPUT_MAX_BYTES:
        raise RequestError(
            f"standard input is larger than {INPUT_MAX_BYTES} bytes", hint="Is it the right file?"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise FreeholdError(
            f"standard input is not UTF-8 at byte {error.start}", hint="Convert it first."
        ) from error


def hidden(what: str, *, twice: bool = False) -> str:
    """Something typed unseen. Raises RequestError if it is not UTF-8, or was cut off."""
    try:
        typed = str(click.prompt(what, hide_input=True, confirmation_prompt=twice))
        is_cut = len(typed.encode()) >= LINE_MAX_BYTES
    except UnicodeError:
        raise RequestError(
            "what you typed is not UTF-8", hint="Check the terminal's encoding, or use a pipe."
        ) from None
    if is_cut:
        raise RequestError(
            f"a terminal takes {LINE_MAX_BYTES} bytes a line, and what came after them is lost",
            hint="Give it on standard input, from a file or a pipe.",
        )
    return typed


def secret(what: str) -> str:
    """Something that must not be on the command line: typed unseen, or from standard input.

    Spaces at its ends stay, since a passphrase may have them.
    """
    if sys.stdin.isatty():
        return hidden(what)
    found = standard_input().rstrip("\r\n")
    if not found.strip():
        raise RequestError(f"nothing was given: {what}", hint="Give it on standard input.")
    return found


def confirm(question: str) -> None:
    """Goes on only if the person at the terminal says yes."""
    if not sys.stdin.isatty():
        raise RequestError(
            "nobody is at a terminal to say yes", hint="Say --yes where a program asks for it."
        )
    click.confirm(question, abort=True, err=True)


def leave(code: int) -> NoReturn:
    """Ends the command with an exit code that docs/cli.md lists."""
    raise click.exceptions.Exit(code)
