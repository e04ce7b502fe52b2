"""`config.toml`: strict, in sections, and overridden by the environment.

Every key lives in a section, so the environment's names are plain: `[limits] tokens_per_day` is
`FREEHOLD_LIMITS__TOKENS_PER_DAY`. A name with two underscores that matches no key is an error, as
an unknown key in the file is; other `FREEHOLD_*` variables are not configuration. The commented
file that `freehold init` writes is made from these models, so it cannot say something else.
"""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo

from node.errors import ConfigError

ENV_PREFIX = "FREEHOLD_"
TOKEN_MIN = 32

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NodeSection(Section):
    """Who this node is."""

    name: str = Field(
        default="freehold",
        pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?$",
        description="Names the node's log in its signatures; do not change it later.",
    )

    @property
    def origin(self) -> str:
        """What the node's log is named in its checkpoints."""
        return f"freehold/{self.name}"


class ControlSection(Section):
    """The control API. It is always served on the home's UNIX socket, to this user and root."""

    bind: str = Field(
        default="",
        description='Serve it on TCP too, as "127.0.0.1:7411". Refused without a token; plain '
        "HTTP, so go through a VPN or a TLS proxy outside this machine.",
    )
    token: SecretStr = Field(
        default=SecretStr(""),
        description=f"What TCP clients send as a bearer token: {TOKEN_MIN} characters or more, "
        "ASCII without spaces.",
    )

    @model_validator(mode="after")
    def _tcp_needs_a_token(self) -> ControlSection:
        if self.bind:
            self.address()
            token = self.token.get_secret_value()
            if len(token) < TOKEN_MIN:
                raise ValueError(
                    f"bind = {self.bind!r} needs a token of {TOKEN_MIN} characters or more"
                )
            if not (token.isascii() and token.isprintable() and " " not in token):
                raise ValueError("the token goes in a header: ASCII that prints, without spaces")
        return self

    def address(self) -> tuple[str, int]:
        """Host and port of `bind`. Raises ValueError if it is not `host:port`."""
        host, _, port = self.bind.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ValueError(f"bind = {self.bind!r} is not host:port")
        return host, int(port)


class DaemonSection(Section):
    """How the daemon starts and stops."""

    drain_s: Seconds = Field(
        default=20.0,
        description="Seconds that `down` and SIGTERM give runs to finish; the rest is parked.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="How much goes to stderr and run/daemon.log."
    )


class ModelsSection(Section):
    """Local models. Files and their pins are in models/."""

    preload: tuple[str, ...] = Field(
        default=(), description="Models to load at start; others load when a run first asks."
    )
    context_tokens: Annotated[int, Field(ge=256, le=1_048_576)] = Field(
        default=16_384, description="The most context a model gets, whatever it was trained for."
    )
    threads: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=0, description="Threads for each model; 0 chooses by its size and the machine."
    )
    idle_unload_s: Seconds = Field(
        default=0.0, description="Seconds after which an unused model is unloaded; 0 keeps it."
    )
    max_waiting: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=32, description="Generations that may wait for one model; more are refused."
    )
    max_running: Annotated[int, Field(ge=1, le=64)] = Field(
        default=8, description="Generations that one model makes at once."
    )
    kv_tokens: Annotated[int, Field(ge=0, le=16_777_216)] = Field(
        default=0,
        description="Tokens that one model's context memory holds for all; 0 chooses by memory.",
    )
    memory_mb: Annotated[int, Field(ge=0, le=16_777_216)] = Field(
        default=0, description="MiB that all loaded models may take together; 0 sets no cap."
    )
    states_mb: Annotated[int, Field(ge=0, le=16_777_216)] = Field(
        default=2048,
        description="MiB of conversations' states kept in cache/states for restarts; 0 keeps none.",
    )


class LimitsSection(Section):
    """What the whole node may use; days are UTC. An agent's own [budget] comes on top."""

    tool_calls: Count = Field(
        default=100, description="Tool calls a run, where its agent says none."
    )
    egress_bytes: Count = Field(
        default=10_000_000, description="Bytes a run may send, where its agent says none."
    )
    step_seconds: Seconds = Field(
        default=60.0, description="Seconds held for a step that does not say how long it may take."
    )
    steps_per_day: Count = Field(default=1_000_000, description="Steps a day, all agents.")
    tokens_per_day: Count = Field(default=100_000_000, description="Tokens a day, all agents.")
    agent_tokens_per_day: Count = Field(
        default=10_000_000, description="Tokens a day for each agent that sets no own limit."
    )
    egress_bytes_per_day: Count = Field(
        default=1_000_000_000,
        description="Bytes a day that may be sent, to models on servers too, all agents.",
    )
    sats_per_day: Count = Field(default=10_000, description="Satoshis a day that agents may pay.")
    runs_at_once: Count = Field(default=256, description="Unfinished runs at a time.")
    approval_seconds: Seconds = Field(
        default=86_400.0,
        description="Seconds a question to a person stays open before it counts as a no.",
    )


class WalletSection(Section):
    """Money. No mint is used unless you add it: `freehold wallet mints add URL`."""

    mint_cap_sats: Count = Field(
        default=10_000,
        description="The most the wallet should keep at one mint: no invoice asks for more, and "
        "what is over it is told.",
    )
    swap_foreign: bool = Field(
        default=False,
        description="Take tokens of mints that are not yours, by swapping them over Lightning to "
        "one that is; their fees are yours.",
    )
    payment_wait_s: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] = Field(
        default=20.0,
        description="Seconds that a payment on its way is waited for before it counts as pending.",
    )
    invoices_from: Literal["mints", "nwc"] = Field(
        default="mints",
        description="What pays Lightning invoices where no mint is named: your mints, or the "
        "wallet that `freehold wallet nwc connect` connected, which bounds its own fees.",
    )
    approval_over_sats: Count = Field(
        default=100,
        description="A payment of an agent that may cost more waits for a person, where its "
        "manifest does not say.",
    )
    max_fee_sats: Count = Field(
        default=5, description="The most that mints and Lightning may take of a small payment."
    )
    max_fee_percent: Annotated[int, Field(ge=0, le=50)] = Field(
        default=3, description="The same for a larger one, in percent; the greater of both holds."
    )


class Config(Section):
    """The whole file."""

    node: NodeSection = NodeSection()
    control: ControlSection = ControlSection()
    daemon: DaemonSection = DaemonSection()
    models: ModelsSection = ModelsSection()
    limits: LimitsSection = LimitsSection()
    wallet: WalletSection = WalletSection()


_SECTIONS = {
    name: cast("type[Section]", one.annotation) for name, one in Config.model_fields.items()
}


def load(path: Path, env: Mapping[str, str]) -> Config:
    """Reads the file and puts the environment's values over it.

    Raises:
        ConfigError: naming the file or variable, the key, and what is allowed.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}",
            hint="Check its rights and the disk; where there is none, `freehold init` writes one.",
        ) from error
    except (ValueError, RecursionError) as error:  # TOML's own, UTF-8's, and int()'s
        raise ConfigError(f"{path} is not TOML: {error}", hint="Correct that line.") from error
    origin = _override(tables, env)
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        raise _explain(error, path, origin) from error


def _override(tables: dict[str, Any], env: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Writes the environment's values into `tables`; says which variable set which key."""
    origin: dict[tuple[str, ...], str] = {}
    for variable, text in env.items():
        if not variable.startswith(ENV_PREFIX) or "__" not in variable:
            continue
        section, _, key = variable.removeprefix(ENV_PREFIX).lower().partition("__")
        table = tables.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = _value(text, section, key)
            origin[(section, key)] = variable
    return origin


def _value(text: str, section: str, key: str) -> Any:
    """The text itself for keys that hold text; else JSON, so that lists and numbers can be said."""
    field = _field(section, key)
    if field is not None and field.annotation in {str, SecretStr}:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _field(section: str, key: str) -> FieldInfo | None:
    table = _SECTIONS.get(section)
    return table.model_fields.get(key) if table else None


def _explain(
    error: ValidationError, path: Path, origin: Mapping[tuple[str, ...], str]
) -> ConfigError:
    """The first thing wrong, with the key as the user wrote it and what could stand there."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = tuple(str(part) for part in first["loc"])
    source = origin.get(where[:2])
    if source is None:  # of the whole section: nobody knows it, or its keys do not go together
        source = next((name for key, name in origin.items() if key[:1] == where), None)
    place = source if source else f"{path}: {'.'.join(where) or 'the file'}"
    if first["type"] == "extra_forbidden":
        table = _SECTIONS[where[0]] if len(where) > 1 else Config
        allowed = ", ".join(table.model_fields)
        return ConfigError(f"{place} is not a known key", hint=f"Allowed here: {allowed}.")
    problem = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{place}: {problem}", hint=_expected(where, len(error.errors())))


def _expected(where: tuple[str, ...], count: int) -> str:
    more = f" There are {count - 1} more errors." if count > 1 else ""
    field = _field(*where[:2]) if len(where) > 1 else None
    if field is None:
        return f"Correct it there.{more}"
    default = field.get_default(call_default_factory=True)
    shown = "" if isinstance(default, SecretStr) else f" The default is {_toml(default)}."
    return f"{field.description}{shown}{more}"


def check_name(name: str) -> NodeSection:
    """The section of a node of that name. Raises ConfigError if none can be named so."""
    try:
        return NodeSection(name=name)
    except ValidationError as error:
        raise ConfigError(
            f"node.name: {name[:80]!r} cannot be a node's name, and a node's log is named after it",
            hint="Use up to 64 of a-z 0-9 . - and begin and end with a letter or digit.",
        ) from error


def template(name: str) -> str:
    """The commented file `freehold init` writes: every key with its meaning and default.

    Raises:
        ConfigError: that cannot be a node's name.
    """
    check_name(name)
    lines = [
        "# Freehold. Unknown keys are errors. An environment variable overrides a key:",
        "# [daemon] drain_s is FREEHOLD_DAEMON__DRAIN_S.",
    ]
    for section, table in _SECTIONS.items():
        lines += ["", f"# {(table.__doc__ or '').strip()}", f"[{section}]"]
        for key, field in table.model_fields.items():
            lines += textwrap.wrap(
                field.description or "", 96, initial_indent="# ", subsequent_indent="# "
            )
            if (section, key) == ("node", "name"):
                lines.append(f"name = {_toml(name)}")
            else:
                lines.append(f"#{key} = {_toml(field.get_default(call_default_factory=True))}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, SecretStr):
        return '""'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)
