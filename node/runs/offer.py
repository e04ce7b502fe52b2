"""A function as an agent is offered it: recorded when a run starts, and kept to until its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from node.inference import FunctionSpec
from node.sandbox import Capability
from node.types import Json, JsonObject

BUILT_IN = ""  # the tool of functions that the node itself offers
_VARYING: frozenset[Capability] = frozenset({"http", "clock", "random"})


@dataclass(frozen=True)
class Offer:
    """A function as it was offered to a run; recorded when the run starts."""

    tool: str
    sha256: str
    name: str
    description: str
    parameters: JsonObject
    read_only: bool
    idempotent: bool
    capabilities: frozenset[Capability]

    @property
    def is_built_in(self) -> bool:
        """Whether the node itself is behind it, and no installed tool."""
        return self.tool == BUILT_IN

    @property
    def varies(self) -> bool:
        """Whether the same call may come to another result although nothing here changed."""
        return bool(self.capabilities & _VARYING)

    def to_json(self) -> JsonObject:
        """As it is recorded."""
        capabilities = cast("list[Json]", sorted(self.capabilities))
        return {**self.__dict__, "capabilities": capabilities}

    @classmethod
    def from_json(cls, data: Any) -> Offer:
        """From what `to_json` recorded."""
        return cls(**{**data, "capabilities": frozenset(data["capabilities"])})


def specs(offers: Sequence[Offer]) -> tuple[FunctionSpec, ...]:
    """The offers as a model is told of them."""
    return tuple(FunctionSpec(each.name, each.description, each.parameters) for each in offers)
