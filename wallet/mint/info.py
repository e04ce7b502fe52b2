"""What a mint says of itself and offers (NUT-06), with the settings of each NUT.

Nothing here moves money, so a setting that cannot be read counts as one that is not offered: mints
of many versions write them differently, and one odd line should not make a mint unusable. Text is
cut and made printable, since it is shown to people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wallet.mint import limits
from wallet.mint.words import printable
from wallet.types import MAX_AMOUNT

FOREVER: Final = 2**63 - 1  # seconds; NUT-19 `ttl: null`
_DEFAULT_BATCH: Final = 100  # quotes at once, where NUT-29 names no number
_SUPPORT_FLAGS: Final = (7, 8, 9, 10, 11, 12, 14, 20, 28)

Short = Annotated[str, Field(max_length=256)]
M = TypeVar("M", bound=BaseModel)


class _Setting(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, defer_build=True)


class _Supported(_Setting):
    supported: bool


class _Method(_Setting):
    method: Short
    unit: Short
    min_amount: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None
    max_amount: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None
    options: dict[str, Any] | None = None


class _Methods(_Setting):
    methods: Annotated[list[_Method], Field(max_length=limits.MOST_KEYSETS)] = []
    disabled: bool = False


class _Updates(_Setting):
    method: Short
    unit: Short
    commands: Annotated[list[Short], Field(max_length=100)] = []


class _AllUpdates(_Setting):
    supported: Annotated[list[_Updates], Field(max_length=limits.MOST_KEYSETS)]


class _Endpoint(_Setting):
    method: Short
    path: Short


class _Cache(_Setting):
    ttl: Annotated[int, Field(ge=0, le=FOREVER)] | None = None
    cached_endpoints: Annotated[list[_Endpoint], Field(max_length=100)] = []


class _Batch(_Setting):
    max_batch_size: Annotated[int, Field(ge=1, le=MAX_AMOUNT)] | None = None
    methods: Annotated[list[Short], Field(max_length=100)] | None = None


class InfoReply(_Setting):
    """NUT-06 `GetInfoResponse`: all of it may be missing."""

    name: Any = None
    pubkey: Any = None
    version: Any = None
    description: Any = None
    description_long: Any = None
    motd: Any = None
    icon_url: Any = None
    tos_url: Any = None
    urls: Any = None
    contact: Any = None
    time: Any = None
    nuts: dict[str, Any] = {}


@dataclass(frozen=True)
class Method:
    """A way to mint or melt (NUT-04, NUT-05, NUT-23); amounts in its unit, None: no limit said."""

    unit: str
    min_amount: int | None = None
    max_amount: int | None = None
    description: bool = False
    amountless: bool = False

    def takes(self, amount: int) -> bool:
        """Whether an amount is within what the mint says it takes."""
        least, most = self.min_amount or 0, self.max_amount
        return least <= amount and (most is None or amount <= most)


@dataclass(frozen=True)
class MintInfo:
    """What `/v1/info` said. `supports` holds the numbers of the NUTs that are on."""

    name: str = ""
    version: str = ""
    description: str = ""
    description_long: str = ""
    motd: str = ""
    pubkey: str = ""
    icon_url: str = ""
    tos_url: str = ""
    urls: tuple[str, ...] = ()
    contact: tuple[tuple[str, str], ...] = ()
    time: int | None = None
    supported: frozenset[int] = frozenset()
    mints: tuple[Method, ...] = ()
    melts: tuple[Method, ...] = ()
    multipath_units: frozenset[str] = frozenset()
    batch_size: int | None = None
    cache_ttl_s: int = 0
    cached: frozenset[tuple[str, str]] = frozenset()
    update_kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def supports(self, nut: int) -> bool:
        """Whether the mint announces a NUT and has it on."""
        return nut in self.supported

    def mint_method(self, unit: str) -> Method | None:
        """How to get ecash for a bolt11 invoice in a unit; None: not at this mint, or not now."""
        return next((each for each in self.mints if each.unit == unit), None)

    def melt_method(self, unit: str) -> Method | None:
        """How to pay a bolt11 invoice from a unit; None: not at this mint, or not now."""
        return next((each for each in self.melts if each.unit == unit), None)

    def multipath(self, unit: str) -> bool:
        """Whether it pays a part of an invoice (NUT-15)."""
        return unit in self.multipath_units

    def updates(self, unit: str) -> frozenset[str]:
        """Kinds of subscription its websocket takes for a unit (NUT-17)."""
        return self.update_kinds.get(unit, frozenset())

    def tells(self, kind: str) -> bool:
        """Whether its websocket takes that kind of subscription, for whichever unit."""
        return any(kind in kinds for kinds in self.update_kinds.values())

    def replays(self, method: str, path: str) -> int | None:
        """For how many seconds the same request gets the same answer (NUT-19); None: it does not.

        `FOREVER` where the mint names no end.
        """
        return self.cache_ttl_s if (method, path) in self.cached else None

    @property
    def needs_auth(self) -> bool:
        """Whether parts of it are behind authentication (NUT-21, NUT-22): not supported here."""
        return bool({21, 22} & self.supported)


def read_info(reply: InfoReply) -> MintInfo:
    """From the answer as it came."""
    nuts = reply.nuts
    mint, melt = _read(_Methods, nuts.get("4")), _read(_Methods, nuts.get("5"))
    multipath = _read(_Methods, nuts.get("15"))
    cache = _read(_Cache, nuts.get("19"))
    batch = _batch_size(nuts.get("29"))
    return MintInfo(
        name=_text(reply.name),
        version=_text(reply.version),
        description=_text(reply.description),
        description_long=_text(reply.description_long, limits.MOST_TEXT),
        motd=_text(reply.motd, 1_000),
        pubkey=reply.pubkey if isinstance(reply.pubkey, str) and len(reply.pubkey) == 66 else "",
        icon_url=_text(reply.icon_url),
        tos_url=_text(reply.tos_url),
        urls=tuple(_text(url) for url in _items(reply.urls) if isinstance(url, str)),
        contact=tuple(_contact(each) for each in _items(reply.contact) if isinstance(each, dict)),
        time=reply.time if type(reply.time) is int and 0 <= reply.time < limits.LATEST else None,
        supported=_supported(nuts, batch),
        mints=_methods(mint),
        melts=_methods(melt),
        multipath_units=frozenset(each.unit for each in _methods(multipath)),
        batch_size=batch,
        cache_ttl_s=0 if cache is None else FOREVER if cache.ttl is None else cache.ttl,
        cached=frozenset((e.method, e.path) for e in cache.cached_endpoints) if cache else _NONE,
        update_kinds=_update_kinds(nuts.get("17")),
    )


_NONE: frozenset[tuple[str, str]] = frozenset()


def _read(model: type[M], value: Any) -> M | None:
    try:
        return None if value is None else model.model_validate(value)
    except ValidationError:
        return None


def _supported(nuts: Mapping[str, Any], batch: int | None) -> frozenset[int]:
    on = {nut for nut in _SUPPORT_FLAGS if _flag(nuts.get(str(nut)))}
    on |= {nut for nut in (4, 5, 15) if _methods(_read(_Methods, nuts.get(str(nut))))}
    on |= {17} if _update_kinds(nuts.get("17")) else set()
    on |= {19} if (cache := _read(_Cache, nuts.get("19"))) and cache.cached_endpoints else set()
    on |= {29} if batch is not None else set()
    on |= {nut for nut in (21, 22) if isinstance(nuts.get(str(nut)), dict)}
    return frozenset(on)


def _flag(value: Any) -> bool:
    read = _read(_Supported, value)
    return read is not None and read.supported


def _methods(setting: _Methods | None) -> tuple[Method, ...]:
    """Those by bolt11; none where the whole is disabled."""
    if setting is None or setting.disabled:
        return ()
    return tuple(_method(each) for each in setting.methods if each.method == "bolt11")


def _method(each: _Method) -> Method:
    options = each.options or {}
    return Method(
        unit=each.unit,
        min_amount=each.min_amount,
        max_amount=each.max_amount or None,
        description=options.get("description") is True,
        amountless=options.get("amountless") is True,
    )


def _update_kinds(value: Any) -> dict[str, frozenset[str]]:
    setting = _read(_AllUpdates, value)
    entries = [each for each in setting.supported if each.method == "bolt11"] if setting else []
    return {each.unit: frozenset(each.commands) for each in entries}


def _batch_size(value: Any) -> int | None:
    setting = _read(_Batch, value)
    if setting is None or (setting.methods is not None and "bolt11" not in setting.methods):
        return None
    return setting.max_batch_size or _DEFAULT_BATCH


def _items(value: Any) -> list[Any]:
    return value[:20] if isinstance(value, list) else []


def _contact(value: dict[str, Any]) -> tuple[str, str]:
    return _text(value.get("method")), _text(value.get("info"))


def _text(value: Any, most: int = 256) -> str:
    return printable(value, most) if isinstance(value, str) else ""
