"""A progress bar for bytes: on a terminal, for what takes a while; elsewhere silence."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from node.cli._shared import clean

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_WORTH_SHOWING_BYTES = 64 << 20


class Bar:
    """Shows bytes done of bytes in all on standard error; use it as a context manager.

    Args:
        label: what is being done; made safe to show.
        quiet: never draw, as for `--json`.
        always: draw small ones too (a fetch, whose speed nobody knows before).
    """

    def __init__(self, label: str, *, quiet: bool, always: bool = False) -> None:
        self._label = clean(label, lines=False)
        self._quiet = quiet or not sys.stderr.isatty()
        self._always = always
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        return self

    def show(self, done: int, total: int) -> None:
        """Moves the bar; `total` 0 is not known."""
        if self._quiet or not (self._always or total > _WORTH_SHOWING_BYTES):
            return
        if self._bar is None or self._task is None:
            self._bar = _bar()
            self._task = self._bar.add_task(self._label, total=None)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total or None)

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
