"""The one folder all state lives in, and who may hold it.

One home makes one backup, and one process at a time works on it: the lock is an flock, so it goes
away with the process however that died, and the pid written in it is only for the message.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import escape
from itertools import chain
from pathlib import Path

from node.disk import is_unfinished, listed, lock
from node.errors import ConfigError, DaemonRunningError

# sun_path is 108 bytes on Linux and 104 on macOS, its closing NUL among them
SOCKET_PATH_MAX = 103
LEFT_AFTER_S = 3600.0
LOST_AND_FOUND = "lost+found"  # of the file system, where a home is all of one, and root's alone
NO_DISK = (
    "Is the disk full? Else it may be one without locks, modes and sockets, as FAT sticks and many "
    "network shares are: set FREEHOLD_HOME to a folder on another."
)


@dataclass(frozen=True)
class Home:
    """`$FREEHOLD_HOME`, or `~/.freehold`. Every path below it is named here and nowhere else."""

    root: Path

    @classmethod
    def locate(cls, env: Mapping[str, str] | None = None) -> Home:
        """The home the environment names; it need not exist. Raises ConfigError if none is."""
        named = (os.environ if env is None else env).get("FREEHOLD_HOME") or "~/.freehold"
        try:
            return cls(Path(named).expanduser().absolute())
        except (RuntimeError, OSError) as error:  # of a user without a home; of a deleted folder
            raise ConfigError(
                f"cannot tell where {named} is: {error}",
                hint="Set FREEHOLD_HOME to a folder, by its whole path.",
            ) from error

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def agents(self) -> Path:
        return self.root / "agents"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def tools(self) -> Path:
        return self.root / "tools"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def workspaces(self) -> Path:
        return self.root / "workspaces"

    @property
    def stores(self) -> Path:
        """What agents' tools keep between calls."""
        return self.root / "stores"

    @property
    def wallet(self) -> Path:
        """The wallet's file, made with the first mint, or the connection of another wallet."""
        return self.root / "wallet.db"

    @property
    def cache(self) -> Path:
        """Compiled tools, kept contexts: made again when missing, so left out of backups."""
        return self.root / "cache"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def lock(self) -> Path:
        return self.run / "daemon.lock"

    @property
    def log(self) -> Path:
        """The daemon's own diagnostics; what agents did is in the journal."""
        return self.run / "daemon.log"

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders a home has, the root first; each is 0700."""
        return (
            self.root,
            self.agents,
            self.models,
            self.tools,
            self.keys,
            self.journal,
            self.workspaces,
            self.stores,
            self.cache,
            self.run,
        )

    @property
    def manifests(self) -> list[Path]:
        """The agents' files, by name; hidden ones are of editors and file systems.

        Raises:
            ConfigError: the folder cannot be read.
        """
        try:
            return listed(self.agents, "[!.]*.toml")
        except OSError as error:
            raise ConfigError(
                f"{self.agents} cannot be read: {error.strerror}", hint="Check who owns it."
            ) from error

    def create(self) -> None:
        """A home to run in. Raises ConfigError as `check_path`, `check_owner`, `make_folders`."""
        self.check_path()
        self.check_owner()
        self.make_folders()

    def check_owner(self) -> None:
        """Raises ConfigError in another user's home: what root makes there is closed to them."""
        owner = self.run.stat().st_uid if self.run.exists() else os.geteuid()
        if owner != os.geteuid():
            raise ConfigError(
                f"{self.root} is the home of user {owner}, and this is user {os.geteuid()}",
                hint="Run this as that user, or set FREEHOLD_HOME.",
            )

    def check_path(self) -> None:
        """Raises ConfigError where the path is not UTF-8, or too long for a UNIX socket."""
        try:
            str(self.root).encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"the path {self.root} is not UTF-8", hint="Set FREEHOLD_HOME to one that is."
            ) from None
        if len(os.fsencode(self.socket)) > SOCKET_PATH_MAX:
            raise ConfigError(
                f"{self.socket} is longer than a UNIX socket's path may be "
                f"({SOCKET_PATH_MAX} bytes)",
                hint="Set FREEHOLD_HOME to a shorter path.",
            )

    def make_folders(self) -> None:
        """Makes what is missing, 0700. Folders that are there keep their mode.

        Raises:
            ConfigError: a folder cannot be made.
        """
        for folder in self.folders:
            try:
                folder.mkdir(mode=0o700, parents=folder == self.root, exist_ok=True)
            except OSError as error:
                raise ConfigError(
                    f"cannot make {folder}: {error.strerror}",
                    hint="Set FREEHOLD_HOME to a folder you may write.",
                ) from error

    def require(self) -> None:
        """Raises ConfigError if `freehold init` has not been run here."""
        if not self.config.is_file():
            raise ConfigError(f"there is no node at {self.root}", hint=self._hint())

    def _hint(self) -> str:
        """A restore that was killed between its two last steps leaves a home beside its place."""
        beside = self.root.parent.glob(f"{escape(self.root.name)}.before-*")
        if not self.root.exists() and (newest := max(beside, default=None)):
            return f"A restore was cut off: move {newest} back to {self.root}, then restore again."
        return "Run `freehold init` first, or set FREEHOLD_HOME."

    def sweep(self) -> None:
        """Deletes what writers that were killed left, once no living one can be at it."""
        beside = (self.root, self.agents, self.models, self.models / ".partial")
        for path in chain(self.keys.rglob(".*.tmp"), *(each.glob(".*.tmp") for each in beside)):
            with contextlib.suppress(OSError):
                if is_unfinished(path) and time.time() - path.lstat().st_mtime > LEFT_AFTER_S:
                    path.unlink()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Holds the home until the block ends.

        Raises:
            DaemonRunningError: another process holds it; the message has its pid.
            ConfigError: it cannot be written.
        """
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"cannot write {self.lock}: {error.strerror}",
                hint="Is the disk read-only, or the home another user's? A whole copy of it can be "
                "backed up and run elsewhere: set FREEHOLD_HOME.",
            ) from error
        try:
            if not _locked(self.lock, descriptor):
                raise self.taken()
            with contextlib.suppress(OSError):  # on a full disk: the lock holds all the same
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def held(self) -> bool:
        """Whether some process holds the home. Raises ConfigError where that cannot be told."""
        try:
            with open(self.lock, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except OSError as error:
            raise _unlockable(self.lock, error) from error
        return False

    def taken(self) -> DaemonRunningError:
        """The error for a home that another process holds; says which."""
        try:
            pid = self.lock.read_text(errors="replace").strip()[:20]
        except OSError:
            pid = ""
        return DaemonRunningError(
            f"a process (pid {pid or 'unknown'}) already works on {self.root}",
            hint="`freehold status` shows the daemon, `freehold down` stops it.",
        )

    def wait_until_free(self) -> None:
        """Returns when no process holds the home; the kernel wakes us, however the holder ends."""
        with contextlib.suppress(FileNotFoundError), open(self.lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)


def _locked(path: Path, descriptor: int) -> bool:
    try:
        return lock(descriptor)
    except OSError as error:
        raise _unlockable(path, error) from error


def _unlockable(path: Path, error: OSError) -> ConfigError:
    """The system's error, which does not say of what file it is."""
    return ConfigError(f"cannot lock {path}: {error.strerror}", hint=NO_DISK)
