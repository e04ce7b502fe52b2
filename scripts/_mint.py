"""A Nutshell mint as a process, run by scripts/mint: for tests, benches and the demo.

with Nutshell(fee_ppk=0) as mint:
    MintClient(mint.url, HttpTransport(mint.url))
    mint.outstanding()  # what wallets hold between them, by the mint's own database
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 120.0  # to end; a busy machine takes seconds


def venv() -> Path:
    """Where Nutshell is installed: `$FREEHOLD_TEST_MINT_VENV`, or `.venv-mint` of the checkout."""
    return Path(os.environ.get("FREEHOLD_TEST_MINT_VENV") or ROOT / ".venv-mint").absolute()


def missing() -> str:
    """Why there is no mint to run; "" where there is."""
    if (venv() / "installed").is_file():
        return ""
    return f"Nutshell is not set up in {venv()}: run scripts/mint --setup-only"


class Nutshell:
    """A mint on a free port of loopback. It starts at once; `url` waits until it answers.

    Args:
        fee_ppk: input fee per 1,000 proofs, in sat.
        folder: its database, to start it again with; None: one for its life only.
        port: 0 takes a free one.
        payments: `settled`, `pending` or `failed`: what becomes of invoices it is to pay.
    """

    def __init__(
        self,
        *,
        fee_ppk: int = 100,
        folder: Path | None = None,
        port: int = 0,
        payments: str = "settled",
    ) -> None:
        self._stack = contextlib.ExitStack()
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="mint-", ignore_cleanup_errors=True)
            folder = Path(self._stack.enter_context(made))
        self.folder = folder
        self._url = ""
        command = [sys.executable, str(ROOT / "scripts" / "mint"), "--port", str(port)]
        command += ["--fee-ppk", str(fee_ppk), "--database", str(folder), "--payments", payments]
        with open(folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )

    @property
    def url(self) -> str:
        """Where it answers."""
        if not self._url:
            assert self.process.stdout is not None
            word, _, url = self.process.stdout.readline().decode().strip().partition(" ")
            if word != "ready":
                raise RuntimeError(f"the mint did not start:\n{(self.folder / 'log').read_text()}")
            self._url = url
        return self._url

    def issued(self) -> int:
        """The sum of all it ever signed, in sat."""
        return self._sum("SELECT SUM(amount) FROM promises WHERE c_ IS NOT NULL")

    def redeemed(self) -> int:
        """The sum of all that was ever spent, in sat."""
        return self._sum("SELECT SUM(amount) FROM proofs_used")

    def outstanding(self) -> int:
        """What wallets hold between them, in sat."""
        return self.issued() - self.redeemed()

    def end(self) -> None:
        """Stops it and waits until it is gone."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(LIMIT_S)
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
            self._stack.close()

    def __enter__(self) -> Nutshell:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _sum(self, query: str) -> int:
        file = self.folder / "mint" / "mint.sqlite3"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as books:
            books.execute("PRAGMA busy_timeout = 30000")
            return int(books.execute(query).fetchone()[0] or 0)
