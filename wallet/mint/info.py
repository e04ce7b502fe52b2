"""What a mint says of itself (NUT-06): its name, and what this wallet can make use of.

Nothing here moves money, so a setting that cannot be read counts as one that is not offered: mints
of many versions write them differently, and one odd line should not make a mint unusable. The name
is cut and made printable, since it is shown to people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wallet.mint import limits
from wallet.mint.words import printable
from wallet.types import MAX_AMOUNT

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
    ttl: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None
    cached_endpoints: Annotated[list[_Endpoint], Field(max_length=100)] = []


class _Batch(_Setting):
    max_batch_size: Annotated[int, Field(ge=1, le=MAX_AMOUNT)] | None = None
    methods: Annotated[list[Short], Field(max_length=100)] | None = None


class InfoReply(_Setting):
    """NUT-06 `GetInfoResponse`: all of it may be missing."""

    name: Any = None
    nuts: dict[str, Any] = {}


@dataclass(frozen=True)
class Method:
    """A unit from which bolt11 invoices are paid (NUT-05, NUT-23)."""

    unit: str
    amountless: bool = False


@dataclass(frozen=True)
class MintInfo:
    """What `/v1/info` said.

    Attributes:
        supported: numbers of the NUTs that are merely on or off, and on.
        batch_size: how many quotes it mints at once (NUT-29); None: one.
        cached: methods and paths of requests whose repetition gets the same answer (NUT-19).
        updates: the kinds of subscription its websocket takes (NUT-17).
    """

    name: str = ""
    supported: frozenset[int] = frozenset()
    melts: tuple[Method, ...] = ()
    multipath_units: frozenset[str] = frozenset()
    batch_size: int | None = None
    cached: frozenset[tuple[str, str]] = frozenset()
    updates: frozenset[str] = frozenset()

    def supports(self, nut: int) -> bool:
        """Whether the mint announces a NUT, one of those that are merely on or off."""
        return nut in self.supported

    def melt_method(self, unit: str) -> Method | None:
        """How to pay a bolt11 invoice from a unit; None: not at this mint, or not now."""
        return next((each for each in self.melts if each.unit == unit), None)

    def multipath(self, unit: str) -> bool:
        """Whether it pays a part of an invoice (NUT-15)."""
        return unit in self.multipath_units

    @property
    def needs_auth(self) -> bool:
        """Whether parts of it are behind authentication (NUT-21, NUT-22): not supported here."""
        return bool({21, 22} & self.supported)


def read_info(reply: InfoReply) -> MintInfo:
    """From the answer as it came."""
    nuts = reply.nuts
    return MintInfo(
        name=printable(reply.name, 256) if isinstance(reply.name, str) else "",
        supported=_supported(nuts),
        melts=_methods(nuts.get("5")),
        multipath_units=frozenset(each.unit for each in _methods(nuts.get("15"))),
        batch_size=_batch_size(nuts.get("29")),
        cached=_cached(nuts.get("19")),
        updates=_updates(nuts.get("17")),
    )


def _read(model: type[M], value: Any) -> M | None:
    try:
        return None if value is None else model.model_validate(value)
    except ValidationError:
        return None


def _supported(nuts: dict[str, Any]) -> frozenset[int]:
    flags = {nut for nut in _SUPPORT_FLAGS if _flag(nuts.get(str(nut)))}
    return frozenset(flags | {nut for nut in (21, 22) if isinstance(nuts.get(str(nut)), dict)})


def _flag(value: Any) -> bool:
    read = _read(_Supported, value)
    return read is not None and read.supported


def _methods(value: Any) -> tuple[Method, ...]:
    """Those by bolt11; none where the whole is disabled."""
    setting = _read(_Methods, value)
    if setting is None or setting.disabled:
        return ()
    return tuple(_method(each) for each in setting.methods if each.method == "bolt11")


def _method(each: _Method) -> Method:
    return Method(each.unit, amountless=(each.options or {}).get("amountless") is True)


def _updates(value: Any) -> frozenset[str]:
    setting = _read(_AllUpdates, value)
    entries = [each for each in setting.supported if each.method == "bolt11"] if setting else []
    return frozenset(kind for each in entries for kind in each.commands)


def _cached(value: Any) -> frozenset[tuple[str, str]]:
    setting = _read(_Cache, value)
    endpoints = setting.cached_endpoints if setting else []
    return frozenset((each.method, each.path) for each in endpoints)


def _batch_size(value: Any) -> int | None:
    setting = _read(_Batch, value)
    if setting is None or (setting.methods is not None and "bolt11" not in setting.methods):
        return None
    return setting.max_batch_size or _DEFAULT_BATCH
