"""Routes about runs: start, look, follow, cancel, erase, replay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, cast

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.errors import JournalError
from node.gateway import sse
from node.gateway.control import control
from node.gateway.http import Body, Nothing, actor, idempotency_key, query_int, read
from node.gateway.replies import RunReply, UsageReply
from node.gateway.trace import trace
from node.runs import Runs, RunSummary

LIST_MAX = 1_000


class Start(Body):
    agent: Annotated[str, Field(min_length=1, max_length=128)]
    prompt: Annotated[str, Field(min_length=1, max_length=2_000_000)]


class Reason(Body):
    reason: Annotated[str, Field(max_length=500)] = ""


class Replay(Body):
    from_step: Annotated[str, Field(max_length=200)] | None = None
    model: Annotated[str, Field(max_length=128)] | None = None
    edit: Annotated[str, Field(min_length=1, max_length=2_000_000)] | None = None


async def start(request: Request) -> Response:
    node, body = control(request), await read(request, Start)
    node.accept()
    who, key = actor(request), idempotency_key(request)
    run_id = await node.runs.start(body.agent, body.prompt, actor=who, key=key)
    return JSONResponse({"id": run_id}, 201)


async def list_(request: Request) -> Response:
    limit, agent = query_int(request, "limit", 50, LIST_MAX), request.query_params.get("agent")
    listing = asyncio.to_thread(control(request).runs.list, agent=agent, limit=limit)
    found = await listing  # a thousand take half a second, in which all else goes on
    return JSONResponse({"runs": [reply(item) for item in found]})


def _named(request: Request) -> str:
    """The run a request is about: `last`, an id or its first characters."""
    return control(request).runs.find(request.path_params["run"])


async def show(request: Request) -> Response:
    return JSONResponse(reply(control(request).runs.show(_named(request))))


async def trace_(request: Request) -> Response:
    return JSONResponse(trace(control(request).log, _named(request)))


async def events(request: Request) -> Response:
    node, run_id = control(request), _named(request)
    return sse.stream(_frames(node.runs, run_id, sse.after(request) or 0), node.streams_end)


async def _frames(runs: Runs, run_id: str, after: int) -> AsyncIterator[bytes]:
    async for event in runs.watch(run_id, after):
        yield sse.frame(event.id, event.type, event.data)


async def cancel(request: Request) -> Response:
    body = await read(request, Reason)
    reason = body.reason or "cancelled"
    run_id = _named(request)
    await control(request).runs.cancel(run_id, reason, actor=actor(request))
    return JSONResponse({"run": run_id})


async def erase(request: Request) -> Response:
    await read(request, Nothing)
    node, run_id = control(request), _named(request)
    try:
        erased = await node.runs.erase(run_id, actor=actor(request))
    except JournalError:  # of some of it, as damaged content; the rest is erased
        await node.engine.forget()
        raise
    await node.engine.forget()
    return JSONResponse({"run": run_id, "erased": erased})


async def replay(request: Request) -> Response:
    node, body = control(request), await read(request, Replay)
    node.accept()
    found = await node.runs.replay(
        _named(request),
        from_step=body.from_step,
        model=body.model,
        edit=body.edit,
        actor=actor(request),
    )
    return JSONResponse({"run": found} if isinstance(found, str) else asdict(found))


def reply(run: RunSummary) -> RunReply:
    """A run as clients get it."""
    return RunReply(
        id=run.id,
        agent=run.agent,
        actor=run.actor,
        status=run.status,
        prompt=run.prompt,
        text=run.text,
        reason=run.reason,
        citations=list(run.citations),
        started=run.started,
        finished=run.finished,
        forked_from=None if run.forked_from is None else list(run.forked_from),
        erased=run.erased,
        lost=list(run.lost),
        usage=cast(UsageReply, asdict(run.usage)),
    )


ROUTES = [
    Route("/runs", start, methods=["POST"]),
    Route("/runs", list_, methods=["GET"]),
    Route("/runs/{run}", show, methods=["GET"]),
    Route("/runs/{run}/trace", trace_, methods=["GET"]),
    Route("/runs/{run}/events", events, methods=["GET"]),
    Route("/runs/{run}/cancel", cancel, methods=["POST"]),
    Route("/runs/{run}/erase", erase, methods=["POST"]),
    Route("/runs/{run}/replay", replay, methods=["POST"]),
]
