"""Commands that need no daemon, run in this process."""

from __future__ import annotations

import errno
import os

from click.testing import CliRunner, Result

from node.cli.main import root
from node.errors import FreeholdError
from node.home import Home


def run(*words: str, stdin: str | bytes | None = None) -> Result:
    """`freehold WORDS`."""
    return CliRunner().invoke(root, list(words), input=stdin, prog_name="freehold")


def made(home: Home) -> Home:
    """The home that FREEHOLD_HOME names, made by `init`."""
    assert run("init", "--name", "test-node").exit_code == 0
    return home


def error_of(result: Result) -> FreeholdError:
    """What a command failed with."""
    assert isinstance(result.exception, FreeholdError), result.output
    return result.exception


def full_disk(_fd: int) -> None:
    """In the place of `os.fsync`."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
