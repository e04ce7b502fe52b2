"""What `freehold doctor` looks at, one check after the other.

A check yields what it finds; a FreeholdError or OSError that ends it is a finding, too.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from node.cli._model import bench_line, gpu_line, too_large, usual_context
from node.cli._shared import connect, size
from node.cli.agent import broken
from node.cli.daemon import ANEW, other_version
from node.cli.service import differs, installed
from node.errors import ConfigError, DaemonNotRunningError, FreeholdError, IdentityError
from node.home import Home
from node.identity import HttpSecrets, KeyStore

if TYPE_CHECKING:
    from node.gateway.wallet_replies import WalletReply
    from node.inference import ModelStore

DISK_LOW_BYTES = 500 * 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """Something wrong, and how to put it right where that is safe."""

    problem: str
    hint: str
    repair: Callable[[], None] | None = None


@dataclass(frozen=True)
class Note:
    """Something worth knowing that is not wrong."""

    text: str


Check = Callable[[Home], Iterator[Fault | Note]]


def _folders(where: Home) -> Iterator[Fault]:
    for folder in where.folders:
        if not folder.is_dir():
            hint = "`freehold init` makes it." if folder == where.root else "--fix makes it."
            yield Fault(
                f"{folder} is missing", hint, where.create if where.config.exists() else None
            )
            return
        yield from _open_to_others(folder, 0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            yield Fault(
                f"{folder} cannot be written", "Is the disk read-only, or the home another user's?"
            )


def _open_to_others(path: Path, mode: int) -> Iterator[Fault]:
    found = stat.S_IMODE(path.stat().st_mode)
    if found & 0o077:
        text = f"{path} is open to others (mode {found:04o})"
        yield Fault(text, "--fix closes it.", partial(path.chmod, mode))


def _restores(where: Home) -> Iterator[Note]:
    """What restores that were killed left; `docs/cli.md` says what it is."""
    for path in sorted(where.root.parent.glob(f".{escape(where.root.name)}.restoring.*")):
        yield Note(f"{path} holds a node's secrets; delete it, unless a restore is under way")


def _config(where: Home) -> Iterator[Fault]:
    from node import config

    where.require()
    config.load(where.config, os.environ)
    if where.config.stat().st_mode & 0o077:
        yield Fault(
            f"{where.config} is open to others, and may hold the control token",
            "--fix closes it.",
            partial(where.config.chmod, 0o600),
        )


def _keys(where: Home) -> Iterator[Fault]:
    store = KeyStore(where.keys)
    problems = store.problems()
    if not problems:
        HttpSecrets(where.keys).all()  # one that is broken keeps agents from the others, too
    for problem in problems:
        hint = "--fix closes what is open; others may have read it before."
        yield Fault(problem, hint, partial(_close, store, problem))


def _close(store: KeyStore, problem: str) -> None:
    """Raises IdentityError where that is no matter of permissions."""
    store.repair()
    if problem in store.problems():
        raise IdentityError(problem, hint="See to it yourself.")


def _agents(where: Home) -> Iterator[Fault]:
    for error in broken(where).values():
        yield Fault(error.message, error.hint)


def _models(where: Home) -> Iterator[Fault]:
    """That every pinned file is there and as long as its pin says; `model verify` hashes them.
    Of models on servers, that what is kept of them can be used; no server is asked."""
    from node.inference import ModelStore

    store = ModelStore(where.models)
    pins = store.list()
    _check_remotes(where, store)
    for pin in pins:
        path = store.path(pin)
        length = path.stat().st_size if path.is_file() else None
        if length != pin.size:
            said = "is missing" if length is None else f"has {length} bytes, not {pin.size}"
            yield Fault(
                f"model {pin.name}: {path} {said}",
                f"`freehold model remove {pin.name}`, then `freehold model add FILE --name "
                f"{pin.name} --sha256 {pin.sha256}` brings the very same back.",
            )


def _inference(where: Home) -> Iterator[Fault | Note]:
    """Where models run, whether they can ever fit, what their benches found."""
    from node.inference import ModelStore, unfinished

    yield Note(f"models run on: {gpu_line()}")
    store = ModelStore(where.models)
    with suppress(FreeholdError):  # the check of models tells of it
        for pin in store.list():
            header = store.header(pin.name)
            if never_fits := too_large(pin.name, header, usual_context(header)):
                yield Fault(never_fits.message, never_fits.hint)
            if header.chat_template:
                yield Note(f"{pin.name}: {bench_line(pin.name, store.bench(pin.name))}")
    for source, here in unfinished(where.models):
        yield Note(f"{size(here)} of {source} came; `freehold model add` it again to go on")


def _check_remotes(where: Home, store: ModelStore) -> None:
    """Raises FreeholdError for the first remote model that could not be used."""
    from node.inference import RemoteModels, refuse_both

    for entry in RemoteModels(where.models).list():
        refuse_both(store, entry.name)
        if entry.key:
            HttpSecrets(where.keys).header(entry.key, entry.scope)


def _wallet(where: Home) -> Iterator[Fault | Note]:
    """That the wallet's file is closed to others and has its key; of a running node, how it is."""
    from node.money import KEY_LOST, WalletKey

    if not where.wallet.exists():
        return
    for path in where.root.glob(f"{where.wallet.name}*"):
        yield from _open_to_others(path, 0o600)
    key = WalletKey(where.keys)
    if not key.exists():
        yield Fault(f"{where.wallet} is there, and its key in {where.keys} is not", KEY_LOST)
        return
    if not key.is_wrapped():
        yield Note("its key has no passphrase: `freehold wallet passphrase` gives it one")
    with suppress(DaemonNotRunningError), connect() as client:  # which its own check tells of
        yield from _money(client.wallet.show())


def _money(wallet: WalletReply) -> Iterator[Fault | Note]:
    """What a person should know of a wallet in use."""
    state = wallet["state"]
    if state == "stale":
        hint = "`freehold wallet restore` asks its mints; until then it neither pays nor takes."
        yield Fault("the wallet came out of an archive", hint)
    elif state == "locked":
        yield Note(f"{wallet['problem']}; {wallet['hint']}")
    elif state == "broken":
        yield Fault(wallet["problem"], wallet["hint"])
    for mint in wallet["mints"]:
        if mint["over_cap"]:
            yield Note(
                f"{mint['url']} holds {mint['balance_sat']} sat, more than wallet.mint_cap_sats"
            )
    if wallet["pending"]:
        yield Note(f"{wallet['pending']} operations are under way: `freehold wallet pending`")


def _log(where: Home) -> Iterator[Fault | Note]:
    """That the log is what was signed, with what belongs to it. Not of one that is written now."""
    from node import config
    from node.journal import RELINK, OfflineLog, Verdict, verify

    if not any(where.journal.glob("*.jsonl")) and not (where.journal / "log.vkey").exists():
        return
    if where.held():
        yield Note("not looked at while it is being written; `freehold audit verify` does")
        return
    report = verify(where.journal)
    problems = [*report.problems]
    for one in report.against:
        if one.verdict is Verdict.FAILED:
            problems.append(f"the log does not go on from {one.source} at {one.size}: {one.reason}")
    hint = f"`freehold audit verify` says more. Restore a backup, or {RELINK}."
    for problem in problems:
        yield Fault(problem, report.hint or hint)
    for problem in report.blobs.problems:
        yield Fault(problem, "Restore the blobs folder from a backup; the node runs without it.")
    if not problems:
        with suppress(ConfigError):  # the check of the config tells of it
            origin = config.load(where.config, os.environ).node.origin
            OfflineLog.open(where.journal).check_writable(origin)


def _disk(where: Home) -> Iterator[Fault]:
    if where.root.exists():
        free = shutil.disk_usage(where.root).free
        if free < DISK_LOW_BYTES:
            yield Fault(
                f"{size(free)} are free on the disk of {where.root}",
                "The node stops when its log cannot be written; make room.",
            )


def _daemon(where: Home) -> Iterator[Fault]:
    try:
        with connect() as client:
            if other := other_version(client.status()["version"]):
                yield Fault(other, ANEW)
    except DaemonNotRunningError as error:
        if where.socket.exists():
            yield Fault(
                f"{where.socket} is left from a daemon that died",
                "--fix removes it; so does `freehold up`.",
                partial(_remove_socket, where),
            )
        yield Fault("the daemon is not running", error.hint)


def _service(where: Home) -> Iterator[Note]:
    """That a service of this home starts the daemon as one would be installed now."""
    with suppress(ConfigError):  # the check of the config tells of it
        if installed(where) and (other := differs(where)):
            yield Note(other)


def _remove_socket(where: Home) -> None:
    """Removes a dead socket; holding the home shows that it is dead."""
    with where.hold():
        where.socket.unlink(missing_ok=True)


CHECKS: tuple[tuple[str, Check], ...] = (
    ("folders", _folders),
    ("restores", _restores),
    ("config", _config),
    ("keys", _keys),
    ("agents", _agents),
    ("models", _models),
    ("inference", _inference),
    ("wallet", _wallet),
    ("log", _log),
    ("disk", _disk),
    ("daemon", _daemon),
    ("service", _service),
)
