"""The only client of the control API, shared by cli/ and tui/.

Synchronous, over the home's UNIX socket. An error the daemon answered with is raised again as the
class it was there, so that a caller (and a command's exit code) need not know what ran where.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import httpx

from node.disk import private_file
from node.errors import (
    ControlError,
    DaemonNotRunningError,
    FreeholdError,
    NoAnswerError,
    NotFoundError,
    RequestError,
)
from node.idempotency import HEADER, check_key
from node.types import JsonObject
from node.unix import UnixTransport, connected
from node.wallet_client import WalletClient
from node.wire import encoded, error_of, events_of, object_of

if TYPE_CHECKING:
    from node.gateway.replies import (
        AgentReply,
        ApprovalReply,
        Event,
        RunReply,
        StatusReply,
    )

CONNECT_S = 5.0
ANSWER_S = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Client:
    """Control of one node. Use as a context manager, or `close` it.

    Every method raises DaemonNotRunningError if nothing answers, and otherwise the daemon's own
    errors (see node/errors.py).
    """

    def __init__(
        self,
        transport: httpx.BaseTransport,
        *,
        where: str,
        token: str = "",
        url: str = "http://freehold",
    ) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._where = where
        self._http = httpx.Client(
            transport=transport,
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            trust_env=False,
        )

    @classmethod
    def unix(cls, path: Path) -> Client:
        """The node whose control socket is at `path`.

        Raises:
            DaemonNotRunningError: nothing answers there.
        """
        _knock(path)
        return cls(UnixTransport(path), where=str(path))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # ── the node ────────────────────────────────────────────────────────────────────────────

    def status(self) -> StatusReply:
        return cast("StatusReply", self._get("/status"))

    def shutdown(self) -> None:
        """Asks the daemon to finish or park its runs and end; returns before it has."""
        self._post("/shutdown")

    def estop(self) -> None:
        """Stops every run at the door."""
        self._post("/estop")

    def resume(self) -> None:
        """Lifts the emergency stop."""
        self._post("/resume")

    def events(self, start: int = 0, *, follow: bool = True) -> Iterator[Event]:
        """The journal's entries from index `start`, then new ones as they are committed."""
        query = {"from": str(start), "follow": "1" if follow else "0"}
        return self._stream("/events", query)

    def backup(self, target: Path) -> None:
        """Writes the node's archive to `target`, which must not exist; 0600."""
        with (
            self._open("GET", "/backup", timeout=None) as response,
            private_file(target, replace=False) as file,
        ):
            for chunk in response.iter_raw():
                file.write(chunk)

    @property
    def wallet(self) -> WalletClient:
        """The wallet's part of the API."""
        return WalletClient(self._get, self._post)

    # ── runs; one is named by its id, the first characters of it, or `last` ─────────────────

    def start(self, agent: str, prompt: str, *, key: str = "") -> str:
        """Starts a run; it is in the log when this returns its id. With the same `key` again it is
        the same run, which is how a program asks once more whose answer was lost."""
        return str(self._post("/runs", {"agent": agent, "prompt": prompt}, key=key)["id"])

    def runs(self, *, agent: str | None = None, limit: int = 50) -> list[RunReply]:
        """The latest runs, newest first."""
        query = {"limit": str(limit)} | ({"agent": agent} if agent else {})
        return cast("list[RunReply]", self._get("/runs", query)["runs"])

    def run(self, run_id: str) -> RunReply:
        return cast("RunReply", self._get(f"/runs/{_part(run_id)}"))

    def trace(self, run_id: str) -> JsonObject:
        """The run as a tree of steps, each with durations, usage and verdicts."""
        return self._get(f"/runs/{_part(run_id)}/trace")

    def watch(self, run_id: str, after: int = 0) -> Iterator[Event]:
        """Tokens and steps as they come, those with an id above `after`, until the run is over."""
        return self._stream(f"/runs/{_part(run_id)}/events", {"after": str(after)})

    def cancel(self, run_id: str, reason: str) -> str:
        """Ends a run; its id."""
        return str(self._post(f"/runs/{_part(run_id)}/cancel", {"reason": reason})["run"])

    def erase(self, run_id: str) -> int:
        """Erases the content of a run that is over; how many pieces there were."""
        erased = self._post(f"/runs/{_part(run_id)}/erase", timeout=None)["erased"]
        return erased if isinstance(erased, int) else 0

    def replay(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        model: str | None = None,
        edit: str | None = None,
    ) -> JsonObject:
        """Runs it again with recorded results; with `from_step`, forks a new run there."""
        body = {"from_step": from_step, "model": model, "edit": edit}
        return self._post(f"/runs/{_part(run_id)}/replay", body)

    # ── agents, approvals, workspaces ───────────────────────────────────────────────────────

    def agents(self) -> list[AgentReply]:
        return cast("list[AgentReply]", self._get("/agents")["agents"])

    def reload_agents(self) -> dict[str, str]:
        """Reads the manifests again; what is wrong with those that cannot be used, by name."""
        return cast("dict[str, str]", self._post("/agents/reload")["broken"])

    def approvals(self) -> list[ApprovalReply]:
        return cast("list[ApprovalReply]", self._get("/approvals")["approvals"])

    def approve(self, approval_id: str) -> None:
        self._post(f"/approvals/{_part(approval_id)}/approve")

    def deny(self, approval_id: str, reason: str = "") -> None:
        self._post(f"/approvals/{_part(approval_id)}/deny", {"reason": reason})

    def workspace_log(self, agent: str, limit: int = 50) -> list[JsonObject]:
        """The workspace's commits, newest first."""
        reply = self._get(f"/workspaces/{_part(agent)}/log", {"limit": str(limit)})
        return cast("list[JsonObject]", reply["commits"])

    def workspace_diff(self, agent: str, old: str = "", new: str = "") -> str:
        """A unified diff of two commits; by default from the newest to the files as they are."""
        query = {"old": old, "new": new}
        return str(self._get(f"/workspaces/{_part(agent)}/diff", query)["diff"])

    def workspace_rollback(self, agent: str, commit: str) -> str | None:
        """Puts the files back to `commit` in a new commit; its id, or None if nothing changed."""
        reply = self._post(f"/workspaces/{_part(agent)}/rollback", {"commit": commit})
        return cast("str | None", reply["commit"])

    # ── transport ───────────────────────────────────────────────────────────────────────────

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> JsonObject:
        with self._open("GET", path, query=query) as response:
            return object_of(response)

    def _post(
        self,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout: float | None = ANSWER_S,
        key: str = "",
    ) -> JsonObject:
        given = {} if body is None else body
        with self._open("POST", path, body=given, timeout=timeout, key=key) as response:
            return object_of(response)

    def _stream(self, path: str, query: Mapping[str, str]) -> Iterator[Event]:
        with self._open("GET", path, query=query, timeout=None) as response:
            yield from events_of(response.iter_bytes())

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        timeout: float | None = ANSWER_S,
        key: str = "",
    ) -> Iterator[httpx.Response]:
        content = None if body is None else encoded(body)
        headers = {} if content is None else {"content-type": "application/json"}
        try:
            with self._http.stream(
                method,
                path,
                params=dict(query or {}),
                content=content,
                headers=headers | ({HEADER: check_key(key)} if key else {}),
                timeout=httpx.Timeout(timeout, connect=CONNECT_S),
            ) as response:
                if not response.is_success:
                    raise error_of(object_of(response))
                yield response
        except httpx.InvalidURL as error:
            raise RequestError(
                f"what was given is too long to ask for: {error}", hint="Is it the right text?"
            ) from error
        except httpx.ConnectError as error:
            raise _not_running(self._where, _first_cause(error)) from error
        except httpx.TransportError as error:
            raise NoAnswerError(
                f"the daemon stopped answering: {str(error) or type(error).__name__}",
                hint="`freehold status` tells whether it is up; run/daemon.log says why not.",
            ) from error


def _knock(path: Path) -> None:
    """Raises DaemonNotRunningError or ControlError unless somebody answers."""
    try:
        connected(str(path), CONNECT_S).close()
    except OSError as error:
        raise _not_running(path, error) from error


def _first_cause(error: BaseException) -> BaseException:
    """The system's own error under those of the HTTP libraries."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _not_running(where: object, error: BaseException) -> FreeholdError:
    if isinstance(error, PermissionError):
        return ControlError(
            f"you may not use {where}", hint="Run this as the user the daemon runs as."
        )
    if isinstance(error, TimeoutError):
        return NoAnswerError(
            f"the daemon on {where} does not answer: {error}",
            hint="Try again; `freehold logs --daemon` may say what it is at.",
        )
    return DaemonNotRunningError(
        f"no daemon answers on {where}",
        hint="Start it with `freehold up` (or `freehold up --detach`).",
    )


def _part(name: str) -> str:
    """A name as one segment of a path. Raises NotFoundError where nothing can be named so."""
    if not _NAME.fullmatch(name):
        raise NotFoundError(
            f"nothing is named {name[:128]!r}",
            hint="Names are of letters, digits, `.`, `_` and `-`, at most 128.",
        )
    return name
