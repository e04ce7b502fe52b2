"""The shapes the control API answers in, as its client's type checker sees them.

Nothing is imported here at run time that a command line would wait for.
"""

from __future__ import annotations

from typing import TypedDict

from node.gateway.wallet_replies import WalletReply
from node.types import Json, JsonObject


class ErrorReply(TypedDict):
    """Every answer that is not 2xx. `code` is the error's class in node/errors.py."""

    error: str
    hint: str
    code: str


class ModelReply(TypedDict):
    """A loaded model at work: see `node.inference.ModelStatus`, whose fields these are."""

    model: str
    pid: int
    context_tokens: int
    running: int
    waiting: int
    kv_tokens: int
    kv_used: int
    kv_kept: int
    prompt_tokens: int
    prompt_tokens_cached: int
    completion_tokens: int
    generations: int
    crashes: int
    tokens_per_s: float
    prompt_tokens_per_s: float
    batch: float
    states_saved: int
    states_restored: int
    rss_bytes: int


class StatusReply(TypedDict):
    """The node at a glance. Times are seconds since 1970, sizes bytes."""

    version: str
    pid: int
    home: str
    name: str
    started: float
    uptime_s: float
    rss_bytes: int
    stopping: bool
    estop: bool
    journal_size: int
    models: list[str]
    engine: list[ModelReply]
    agents: int
    runs_active: int
    approvals_waiting: int
    resumed: list[str]
    wallet: WalletReply


class UsageReply(TypedDict):
    steps: int
    tool_calls: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    egress_bytes: int
    msat: int


class RunReply(TypedDict):
    """A run, as `runs list` and `runs show` have it. Times are seconds since 1970.

    `status` is completed, failed, stopped or could_not; or running, waiting or parked.
    `forked_from` is the run and the step it was forked at. Of one that was `erased`, prompt and
    text are empty; what the log has `lost` of them (damaged, or pruned) is empty as well.
    """

    id: str
    agent: str
    actor: str
    status: str
    prompt: str
    text: str
    reason: str
    citations: list[str]
    started: float
    finished: float | None
    forked_from: list[str] | None
    erased: bool
    lost: list[str]
    usage: UsageReply


class ApprovalReply(TypedDict):
    """A question to a person. Times are seconds since 1970; `expires` None never does."""

    id: str
    run: str
    agent: str
    path: str
    kind: str
    step: str
    name: str
    args: Json
    rule: str
    reason: str
    asked: float
    expires: float | None


class AgentReply(TypedDict):
    name: str
    about: str
    model: str
    paused: bool
    digest: str
    tools: list[str]
    error: str
    hint: str


class Event(TypedDict):
    """One server-sent event. `id` resumes after it."""

    id: int
    type: str
    data: JsonObject
