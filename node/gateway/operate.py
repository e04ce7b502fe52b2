"""Routes a person operates the node with: status, log, agents, approvals, stop, workspaces."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, cast

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.errors import ApprovalError, ManifestError, RequestError, WorkspaceError
from node.gateway import sse
from node.gateway.control import Control, control
from node.gateway.http import Body, Nothing, actor, query_int, read
from node.gateway.replies import AgentReply, ApprovalReply, ModelReply, StatusReply
from node.gateway.runs import Reason
from node.gateway.wallet import wallet_reply
from node.inference import resident_bytes
from node.journal import Draft, Entry
from node.runs import AgentManifest
from node.types import JsonObject
from node.version import VERSION

COMMITS_MAX = 1_000
QUESTION_MAX = 20  # digits of an index of the log, and more


class Rollback(Body):
    commit: Annotated[str, Field(max_length=64)]


# ── the node ────────────────────────────────────────────────────────────────────────────────


async def status(request: Request) -> Response:
    return JSONResponse(_status(control(request)))


def _status(node: Control) -> StatusReply:
    return StatusReply(
        version=VERSION,
        pid=os.getpid(),
        home=str(node.home.root),
        name=node.config.node.name,
        started=node.started,
        uptime_s=round(node.clock.wall() - node.started, 3),
        rss_bytes=resident_bytes(os.getpid()),
        stopping=node.stopping,
        estop=node.runs.stopped,
        journal_size=node.log.size,
        models=sorted(node.loaded()),
        engine=[cast("ModelReply", asdict(status)) for status in node.metrics()],
        agents=len(node.agents.list()),
        runs_active=len(node.runs.active()),
        approvals_waiting=node.runs.waiting,
        resumed=list(node.resumed),
        wallet=wallet_reply(node),
    )


async def shutdown(request: Request) -> Response:
    await read(request, Nothing)
    control(request).stop()
    return JSONResponse({}, 202)


async def events(request: Request) -> Response:
    node = control(request)
    seen = sse.after(request)
    start = query_int(request, "from", 0, sse.INDEX_MAX) if seen is None else seen + 1
    if start > node.log.size:  # of another log, or of this one before it was rolled back
        raise RequestError(
            f"the log has {node.log.size} entries, so none can be seen after {start - 1}",
            hint="Follow it from an index that it has.",
        )
    follow = bool(query_int(request, "follow", 1, 1))
    return sse.stream(_entries(node, start, follow=follow), node.streams_end)


async def _entries(node: Control, start: int, *, follow: bool) -> AsyncIterator[bytes]:
    if not follow:
        for entry in node.log.entries(start):
            yield _frame(entry)
        return
    async for entry in node.log.subscribe(start):
        yield _frame(entry)


def _frame(entry: Entry) -> bytes:
    return sse.frame(entry.index, entry.type, _entry_json(entry))


def _entry_json(entry: Entry) -> JsonObject:
    """An entry with the names the journal's file has (docs/journal.md), all but its version."""
    draft = entry.draft
    return {
        "i": entry.index,
        "ts": entry.ts,
        "boot": entry.boot,
        "mono": entry.mono,
        "type": draft.type,
        "run": draft.run,
        "path": draft.path,
        "cause": list(draft.cause),
        "agent": draft.agent,
        "actor": draft.actor,
        "policy": None if draft.policy is None else asdict(draft.policy),
        "blobs": [{"id": blob.id, "len": blob.size, "role": blob.role} for blob in draft.blobs],
        "data": draft.data,
    }


async def estop(request: Request) -> Response:
    """Stops, whatever the body is."""
    await control(request).runs.estop(actor(request))
    return JSONResponse({})


async def resume(request: Request) -> Response:
    await read(request, Nothing)
    await control(request).runs.resume(actor(request))
    return JSONResponse({})


# ── agents ──────────────────────────────────────────────────────────────────────────────────


async def agents(request: Request) -> Response:
    registry = control(request).agents
    found = [_agent(manifest) for manifest in registry.list()]
    found += [_broken(name, error) for name, error in registry.broken().items()]
    return JSONResponse({"agents": sorted(found, key=lambda item: item["name"])})


def _agent(manifest: AgentManifest) -> AgentReply:
    return AgentReply(
        name=manifest.name,
        about=manifest.about,
        model=manifest.model,
        paused=manifest.paused,
        digest=manifest.digest,
        tools=[tool.name for tool in manifest.tools],
        error="",
        hint="",
    )


def _broken(name: str, error: ManifestError) -> AgentReply:
    """An agent whose file cannot be used, and why."""
    return AgentReply(
        name=name,
        about="",
        model="",
        paused=False,
        digest="",
        tools=[],
        error=error.message,
        hint=error.hint,
    )


async def reload(request: Request) -> Response:
    await read(request, Nothing)
    node = control(request)
    await node.runs.refresh_agents()
    broken = {name: error.message for name, error in node.agents.broken().items()}
    return JSONResponse({"broken": broken})


# ── approvals ───────────────────────────────────────────────────────────────────────────────


async def approvals(request: Request) -> Response:
    found = [
        ApprovalReply(
            id=item.id,
            run=item.run,
            agent=item.agent,
            path=item.path,
            kind=item.kind,
            step=item.step,
            name=item.name,
            args=item.args,
            rule=item.rule,
            reason=item.reason,
            asked=item.asked,
            expires=item.expires,
        )
        for item in control(request).runs.approvals()
    ]
    return JSONResponse({"approvals": found})


def _question(request: Request) -> str:
    """The question that is meant. Raises ApprovalError where none can be named so."""
    name = str(request.path_params["approval"])
    if len(name) > QUESTION_MAX:
        raise ApprovalError(
            f"there is no open approval {name[:QUESTION_MAX]}…",
            hint="`freehold approvals list` shows what is open.",
        )
    return name


async def approve(request: Request) -> Response:
    await read(request, Nothing)
    await control(request).runs.approve(_question(request), actor(request))
    return JSONResponse({})


async def deny(request: Request) -> Response:
    body = await read(request, Reason)
    await control(request).runs.deny(_question(request), actor(request), body.reason)
    return JSONResponse({})


# ── workspaces ──────────────────────────────────────────────────────────────────────────────


def _owner(request: Request) -> str:
    """The agent whose workspace is meant; one that was removed may have left its files."""
    node, agent = control(request), request.path_params["agent"]
    if not node.workspaces.root(agent).is_dir():
        node.agents.get(agent)
    return str(agent)


async def workspace_log(request: Request) -> Response:
    limit = query_int(request, "limit", 50, COMMITS_MAX)
    found = await control(request).workspaces.log(_owner(request), limit=limit)
    return JSONResponse({"commits": [asdict(commit) for commit in found]})


async def workspace_diff(request: Request) -> Response:
    old, new = (request.query_params.get(name, "") for name in ("old", "new"))
    diff = await control(request).workspaces.diff(_owner(request), old, new)
    return JSONResponse({"diff": diff})


async def workspace_rollback(request: Request) -> Response:
    node, body = control(request), await read(request, Rollback)
    agent = _owner(request)
    if agent in node.runs.active().values():
        raise WorkspaceError(
            f"{agent} is at work on its files", hint="Cancel its runs first, or wait for them."
        )
    made = await node.workspaces.rollback(agent, body.commit)
    data: JsonObject = {"to": body.commit, "commit": made.id if made else None}
    who = actor(request)
    await node.log.append(Draft("workspace.rolled_back", agent=agent, actor=who, data=data))
    return JSONResponse(data)


ROUTES = [
    Route("/status", status, methods=["GET"]),
    Route("/shutdown", shutdown, methods=["POST"]),
    Route("/events", events, methods=["GET"]),
    Route("/estop", estop, methods=["POST"]),
    Route("/resume", resume, methods=["POST"]),
    Route("/agents", agents, methods=["GET"]),
    Route("/agents/reload", reload, methods=["POST"]),
    Route("/approvals", approvals, methods=["GET"]),
    Route("/approvals/{approval}/approve", approve, methods=["POST"]),
    Route("/approvals/{approval}/deny", deny, methods=["POST"]),
    Route("/workspaces/{agent}/log", workspace_log, methods=["GET"]),
    Route("/workspaces/{agent}/diff", workspace_diff, methods=["GET"]),
    Route("/workspaces/{agent}/rollback", workspace_rollback, methods=["POST"]),
]
