"""The keys of an agent's TOML file, what each may hold, and its default.

Kept apart from the reader so that the format can be read on one page. Messages say what is
allowed, since they are shown to the person who wrote the file.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from node.errors import CapabilityError
from node.names import AGENT
from node.runs.agent import NODE_AGENT, Approval
from node.runs.guards import check_guard_name
from node.sandbox import parse_pattern

UNSUPPORTED = {
    "mcp": "MCP servers as tools",
    "publish": "publishing on Nostr and selling work",
    "team": "teams of agents",
}

_TOOL = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NPUB = re.compile(r"npub1[02-9ac-hj-np-z]{58}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_URL = re.compile(
    rf"https?://(?:\*\.)?{_LABEL}(?:\.{_LABEL}){{0,30}}(?::\d{{1,5}})?(?:/[^\s*?#]*\*?)?"
    r"|https?://\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?(?:/[^\s*?#]*\*?)?"
)
_PAYEE = re.compile(
    rf"(?:lightning|cashu):(?:\*|0[23][0-9a-f]{{64}})|nostr:[0-9a-f]{{64}}"
    rf"|(?:\*|[a-z0-9_.+-]{{1,64}})@{_LABEL}(?:\.{_LABEL}){{0,30}}(?::\d{{1,5}})?"
)


def _agent_name(value: str) -> str:
    if not AGENT.fullmatch(value):
        raise ValueError("must be 1-32 of a-z 0-9 _ - and start with a letter")
    if value == NODE_AGENT:
        raise ValueError(f"cannot be {NODE_AGENT!r}: what the node itself does is logged under it")
    return value


def _tool_name(value: str) -> str:
    if not _TOOL.fullmatch(value):
        raise ValueError("must be the name of a tool: a-z 0-9 _ -")
    return value


def _model_name(value: str) -> str:
    if not _MODEL.fullmatch(value):
        raise ValueError("must be a name in models/: letters, digits and . _ -")
    return value


def _npub(value: str) -> str:
    if value and not _NPUB.fullmatch(value):
        raise ValueError("must be a Nostr public key, npub1 and 58 characters")
    return value


def _url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError(
            f"{value!r} must be http(s)://HOST/PATH with an exact host (or *.example.org) and a"
            " path that may end in *"
        )
    return _pattern(value)


def _pattern(value: str) -> str:
    """One that no request could be held against is found here, and not by the tool's first."""
    try:
        parse_pattern(value)
    except CapabilityError as error:
        raise ValueError(error.message) from None
    return value


def _payee(value: str) -> str:
    if _URL.fullmatch(value):
        return _pattern(value)
    if not _PAYEE.fullmatch(value):
        raise ValueError(
            f"{value!r} must be http(s)://HOST/PATH, NAME@HOST (a Lightning address),"
            " lightning:NODE (whose invoices), cashu:PUBKEY or nostr:PUBKEY (a peer's key, in hex);"
            " * may end PATH, and stand for NAME, NODE and a cashu PUBKEY"
        )
    return value if "://" in value else value.lower()  # as an address is paid


def _destination(value: str) -> str:
    """One that nothing could be sent to under is found here: the owner would be asked each time."""
    payee = _payee(value)
    if "*" in payee.removesuffix("/*") or ("*" in payee and "://" not in payee):
        raise ValueError(
            f"{value!r} must name one destination to the letter; a URL of one host may end in /*"
        )
    return payee


def _glob(value: str) -> str:
    if not value or value.startswith("/") or ".." in value.split("/") or "\x00" in value:
        raise ValueError(f"{value!r} must be a pattern of workspace files, such as inbox/*")
    return value


Url = Annotated[str, Field(max_length=2048), AfterValidator(_url)]
Glob = Annotated[str, Field(max_length=1024), AfterValidator(_glob)]
Payee = Annotated[str, Field(max_length=2048), AfterValidator(_payee)]
Destination = Annotated[str, Field(max_length=2048), AfterValidator(_destination)]
GuardName = Annotated[str, AfterValidator(check_guard_name)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**53)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class BudgetModel(_Strict):
    """`[budget]`: the most a run may use; what is left out has the default given here."""

    tokens: Positive = 20_000
    steps: Positive = 30
    tool_calls: Count | None = None
    seconds: Annotated[float, Field(gt=0, le=31_536_000)] = 120.0
    egress_bytes: Count | None = None
    sats: Count = 0
    sats_per_day: Count = 0
    tokens_per_day: Positive | None = None


class GrantModel(_Strict):
    """`grant.*` of a `[[tools]]` table: the capabilities the tool is given."""

    workspace: Literal["ro", "rw"] | None = None
    http: list[Url] = []
    pay: list[Url] = []
    store: bool = False
    knowledge: bool = False
    clock: bool = False
    random: bool = False

    @model_validator(mode="after")
    def _supported(self) -> GrantModel:
        if self.knowledge:
            raise ValueError("knowledge is not supported yet in this version; remove it")
        if self.pay and not self.http:
            raise ValueError("pay needs http: what may be paid for must be reachable")
        return self


class ToolModel(_Strict):
    """A `[[tools]]` table. `functions` narrows the tool to some of its functions."""

    name: Annotated[str, AfterValidator(_tool_name)]
    grant: GrantModel = GrantModel()
    approval: Approval = "allow"
    functions: Annotated[list[str], Field(min_length=1)] | None = None


class PaymentsModel(_Strict):
    """`[payments]`: `allow` gives the agent the function `pay`, for these payees and no others."""

    allow: list[Payee] = []
    approval_over_sats: Count | None = None


class GuardsModel(_Strict):
    """`[guards]`: guards beside those that always look (schema, size, secrets)."""

    input: list[GuardName] = []
    tool_arguments: list[GuardName] = []
    tool_result: list[GuardName] = []
    answer: list[GuardName] = []

    @field_validator("input", "tool_arguments", "tool_result")
    @classmethod
    def _looks_there(cls, names: list[str]) -> list[str]:
        if "citations" in names:
            raise ValueError('citations looks at answers alone; write answer = ["citations"]')
        return names


class ManifestModel(_Strict):
    """The whole file."""

    name: Annotated[str, AfterValidator(_agent_name)]
    about: Annotated[str, Field(max_length=1000)] = ""
    instructions: Annotated[str, Field(max_length=65_536)] | None = None
    instructions_file: str | None = None
    model: Annotated[str, AfterValidator(_model_name)] = "default"
    owner: Annotated[str, AfterValidator(_npub)] = ""
    budget: BudgetModel = BudgetModel()
    tools: list[ToolModel] = []
    payments: PaymentsModel = PaymentsModel()
    guards: GuardsModel = GuardsModel()
    foreign: list[Glob] = []
    private: list[Glob] = []
    send_to: list[Destination] = []
    paused: bool = False
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_tokens: Annotated[int, Field(ge=1, le=65_536)] = 512

    @model_validator(mode="after")
    def _whole(self) -> ManifestModel:
        if (self.instructions is None) == (self.instructions_file is None):
            raise ValueError("needs either instructions or instructions_file")
        names = [tool.name for tool in self.tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"tools: {', '.join(twice)} is granted twice; keep one table")
        pays = self.payments.allow or any(tool.grant.pay for tool in self.tools)
        if pays and not (self.budget.sats and self.budget.sats_per_day):
            raise ValueError(
                "budget: what may pay needs sats (a run's) and sats_per_day; both are 0 by default"
            )
        return self
