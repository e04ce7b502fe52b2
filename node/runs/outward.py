"""Model calls that leave this machine, as the door must know of them.

A call to a local model leaves nothing outside. One to a server sends it the whole conversation, and
may cost money: so its step names where the data goes (for the taint rule and the log), counts the
bytes, has its intent on the log before anything is sent, and is not simply made again after a crash
where the server is sent a key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from node.errors import InferenceError, OutcomeUnknownError
from node.inference import Destination, Engine, Generation, Outward
from node.runs.content import text_bytes
from node.runs.effect import Needs, Usage
from node.types import Json, JsonObject

ANYWHERE = "*"


def way_of(engine: Engine, model: str) -> Destination | None:
    """Where the model's requests go; None for this machine, anywhere if that cannot be found out
    (then performing fails, and says why)."""
    if not isinstance(engine, Outward):
        return None
    try:
        return engine.destination(model)
    except InferenceError:
        return Destination(ANYWHERE, keyed=True)


def needs_of(way: Destination | None, usage: Usage) -> Needs:
    """What a model's step needs, with what it sends in `usage`."""
    places = () if way is None else (way.url,)
    return Needs(usage=usage, destinations=places, traceless=way is None)


def bound(request: Generation, way: Destination | None) -> Generation:
    """The request, which is to go where the log says and nowhere else: between what was decided
    and the sending a person may have been asked, and the model may have been moved meanwhile."""
    return replace(request, bound_for="" if way is None else way.url)


def sent_bytes(way: Destination | None, messages: Json, request: Generation) -> int:
    """About how many bytes one request sends out of this machine."""
    if way is None:
        return 0
    tools: Json = [[tool.name, tool.description, tool.parameters] for tool in request.tools]
    return text_bytes(messages) + text_bytes(tools)


def named(way: Destination | None) -> JsonObject:
    """What a result says of where it was made; nothing for this machine."""
    return {} if way is None else {"remote": way.url}


@dataclass
class Attempt:
    """Whether a request was made by this very process, was refused, and was seen to its end."""

    sent: bool = False
    refused: bool = False
    over: bool = False

    def refuse_to_guess(self, way: Destination | None, model: str) -> None:
        """Raises OutcomeUnknownError for a request that may have been paid for and lost."""
        if way is None or not way.keyed or self.over:
            return
        raise OutcomeUnknownError(
            f"the node stopped while the server of model {model} was answering, and it may have "
            "charged for the answer that was lost.",
            hint="Approve to end the run without that answer; deny to ask, and maybe pay, again.",
        )
