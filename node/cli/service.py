"""`freehold service`: a systemd user unit, or a launchd agent on macOS.

A user's service, not the system's: the node's home, its socket and its uid are that user's. The
unit is told of readiness by sd_notify, so what is ordered after it finds a node that answers.
systemd.service(5), systemd.exec(5), launchd.plist(5).
"""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
import time
from pathlib import Path
from xml.sax.saxutils import escape

import click

from node.cli._shared import home, json_option, leave, note, print_json
from node.disk import write_private
from node.errors import ConfigError, FreeholdError
from node.home import Home

UNIT = "freehold.service"
LABEL = "org.freehold.node"
STOP_MARGIN_S = 40
_PATIENCE_S = 120.0
_LOOK_S = 0.2


@click.group()
def service() -> None:
    """Run the daemon as a service of your user."""


@service.command()
@click.option("--print", "only_print", is_flag=True, help="Print the file; install nothing.")
@click.option("--replace", is_flag=True, help="In place of the service of another home.")
def install(only_print: bool, replace: bool) -> None:
    """Install, enable and start the service."""
    where = home()
    where.require()
    content = definition(where)
    if only_print:
        click.echo(content, nl=False)
        return
    path = _path()
    if not replace:
        _check_ours(path, "`freehold service install --replace` ends that and runs this one")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, content.encode())
    note(f"wrote {path}")
    if sys.platform == "darwin":
        _boot_out()
    for command in _start_commands(path):
        _manage(command)
    if sys.platform == "linux":
        note("To keep it running when you are logged out: loginctl enable-linger")
    elif sys.platform == "darwin":
        note("It runs while you are logged in; for after a restart, turn on automatic login")


@service.command()
def remove() -> None:
    """Stop the service and remove its file."""
    path = _path()
    if not path.exists():
        raise FreeholdError(f"there is no {path}", hint="`freehold service install` makes it.")
    _check_ours(path, "set FREEHOLD_HOME to that home to remove it")
    try:
        if sys.platform == "darwin":
            _boot_out()
        else:
            _manage(["systemctl", "--user", "disable", "--now", UNIT])
    finally:  # without a manager the file is all there is to remove
        path.unlink()
        note(f"removed {path}")


@service.command()
@json_option
def status(as_json: bool) -> None:
    """Show whether the service is installed.

    Exit status 1 if it is not. `freehold status` shows whether the daemon runs.
    """
    path = _path()
    there, other = path.exists(), differs(home())
    if as_json:
        print_json({"installed": there, "current": there and not other, "path": str(path)})
    else:
        note(other or f"{path} is installed" if there else f"not installed (no {path})")
    leave(0 if there else 1)


def _check_ours(path: Path, what_else: str) -> None:
    """Raises FreeholdError where the service runs another home: there is one a user."""
    if path.exists() and not installed(home()):
        raise FreeholdError(
            f"{path} runs the node of another home than {home().root}",
            hint=f"The file names that home; {what_else}.",
        )


def installed(where: Home) -> bool:
    """Whether a service runs the daemon of this home."""
    try:
        path = _path()
    except ConfigError:  # a user without a home, as in a container, has no services either
        return False
    named = _quoted(f"FREEHOLD_HOME={where.root}", dollar="$")
    if sys.platform == "darwin":
        named = f"<string>{escape(str(where.root))}</string>"
    return path.is_file() and named in path.read_text("utf-8", errors="replace")


def differs(where: Home) -> str:
    """What to say of a service that is not as it would be installed now, as one that names a Python
    of before an upgrade; empty where there is none, or it is."""
    path = _path()
    if not path.is_file() or path.read_bytes() == definition(where).encode():
        return ""
    return f"{path} differs from what `freehold service install` writes now"


def definition(where: Home) -> str:
    """The unit or property list for a home."""
    from node.config import load

    command = [sys.executable, "-P", "-m", "node.cli", "up"]
    write = plist if sys.platform == "darwin" else unit
    return write(where, command, load(where.config, os.environ).daemon.drain_s)


def unit(where: Home, command: list[str], drain_s: float) -> str:
    """The systemd unit. It waits longer than runs get to finish before it kills."""
    return f"""\
[Unit]
Description=Freehold agent node
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={" ".join(map(_quoted, command))}
Environment={_quoted(f"FREEHOLD_HOME={where.root}", dollar="$")}
Restart=always
RestartSec=10s
TimeoutStartSec=infinity
TimeoutStopSec={drain_s + STOP_MARGIN_S:.0f}s
KillMode=mixed
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def _quoted(text: str, *, dollar: str = "$$") -> str:
    """A word as systemd.syntax(7) reads it: quotes, specifiers and variables taken literally."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    escaped = escaped.replace("\n", "\\n")
    return '"' + escaped.replace("$", dollar) + '"'


def plist(where: Home, command: list[str], drain_s: float) -> str:
    """The launchd property list. A job of no type is throttled, processor and disk; a person waits
    for this one's answers."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": command,
            "EnvironmentVariables": {"FREEHOLD_HOME": str(where.root)},
            "RunAtLoad": True,
            "KeepAlive": True,
            "ProcessType": "Interactive",
            "ExitTimeOut": round(drain_s + STOP_MARGIN_S),
            "Umask": 0o077,
            "StandardErrorPath": str(where.log),
        },
        sort_keys=False,
    ).decode()


def _path() -> Path:
    if sys.platform == "darwin":
        return _of_user("Library") / "LaunchAgents" / f"{LABEL}.plist"
    configured = os.environ.get("XDG_CONFIG_HOME")
    folder = Path(configured) if configured else _of_user(".config")
    return folder / "systemd" / "user" / UNIT


def _of_user(folder: str) -> Path:
    try:
        return Path.home() / folder
    except RuntimeError as error:
        raise ConfigError(
            "cannot tell where a service of this user would be: the user has no home",
            hint="Set HOME; `freehold up --detach` needs none.",
        ) from error


def _start_commands(path: Path) -> list[list[str]]:
    if sys.platform == "darwin":
        return [["launchctl", "bootstrap", _domain(), str(path)]]
    return [
        ["systemctl", "--user", "daemon-reload"],
        ["systemctl", "--user", "enable", UNIT],
        ["systemctl", "--user", "restart", UNIT],  # one that runs already takes the new unit
    ]


def _domain() -> str:
    return f"gui/{os.getuid()}"


def _boot_out() -> None:
    """Has launchd end the service, if it has it; its command returns before the daemon has ended,
    and the label cannot be loaded again until then. Raises FreeholdError where that takes too long.
    """
    job, said = f"{_domain()}/{LABEL}", ""
    until = time.monotonic() + _PATIENCE_S
    while _call(["launchctl", "print", job])[0] == 0:
        if time.monotonic() > until:
            raise FreeholdError(
                f"launchd has not ended {job} in {_PATIENCE_S:.0f} s: {said}",
                hint="`freehold logs --daemon` says what the daemon does. Try again.",
            )
        said = said or _call(["launchctl", "bootout", job])[1] or "it was told to"
        time.sleep(_LOOK_S)


def _manage(command: list[str]) -> None:
    """Runs the service manager. Raises FreeholdError with what it said."""
    code, said = _call(command)
    if code:
        raise FreeholdError(
            f"`{' '.join(command)}` failed: {said}",
            hint="Is a service manager running for this user? `freehold up --detach` needs none. "
            "If it is: `freehold up` says what keeps the node from starting.",
        )


def _call(command: list[str]) -> tuple[int, str]:
    """The exit status of a command, and what it said."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, (done.stderr or done.stdout).strip()
