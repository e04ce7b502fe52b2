"""An agent as the rest of runs/ sees it: what its manifest says, parsed and checked.

`manifest.py` reads the TOML; nothing else needs to know how the file looks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

Approval = Literal["allow", "ask", "deny"]
ALLOW, ASK, DENY = "allow", "ask", "deny"
NODE_AGENT = "node"  # under this name the log keeps what the node does for its owner


@dataclass(frozen=True)
class BudgetLimits:
    """The most a run may use. Counts, seconds and bytes; `sats` per run and per day.

    `None` leaves a dimension to the node's own limit; every dimension has one (fail closed).
    """

    tokens: int = 20_000
    steps: int = 30
    tool_calls: int | None = None
    seconds: float = 120.0
    egress_bytes: int | None = None
    sats: int = 0
    sats_per_day: int = 0
    tokens_per_day: int | None = None


@dataclass(frozen=True)
class ToolGrant:
    """One `[[tools]]` table: a tool, what it may use, and who is asked first.

    `pay` are the URLs whose price (HTTP 402) the host pays for it.
    """

    name: str
    workspace: Literal["ro", "rw"] | None = None
    http: tuple[str, ...] = ()
    pay: tuple[str, ...] = ()
    store: bool = False
    knowledge: bool = False
    clock: bool = False
    random: bool = False
    approval: Approval = "allow"
    functions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class GuardNames:
    """Which guards look at what, beside those that always do (schema, size, secrets)."""

    input: tuple[str, ...] = ()
    tool_arguments: tuple[str, ...] = ()
    tool_result: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaymentGrant:
    """`[payments]`: whom the agent may pay by itself, and above how much a person is asked.

    `approval_over_sats` None leaves that to the node.
    """

    allow: tuple[str, ...] = ()
    approval_over_sats: int | None = None


@dataclass(frozen=True)
class AgentManifest:
    """`agents/NAME.toml`. `digest` is the SHA-256 of the file's bytes, in hex.

    `foreign` and `private` are glob patterns of workspace files whose content labels a run
    `untrusted` or `private`. `send_to` are destinations listed by the owner as allowed even for a
    run that carries both labels.
    """

    # a run that a newer version began does not go on without what its manifest forbids besides
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    instructions: str
    about: str = ""
    model: str = "default"
    owner: str = ""
    budget: BudgetLimits = field(default_factory=BudgetLimits)
    tools: tuple[ToolGrant, ...] = ()
    payments: PaymentGrant = field(default_factory=PaymentGrant)
    guards: GuardNames = field(default_factory=GuardNames)
    foreign: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    send_to: tuple[str, ...] = ()
    paused: bool = False
    temperature: float = 0.0
    max_tokens: int = 512
    digest: str = ""
    source: Path | None = None
