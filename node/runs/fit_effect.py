"""How a conversation that does not fit the model's context is made to, as an effect."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

from node.inference import FunctionSpec, Message
from node.runs.context import Conversation, Count, Plan, plan
from node.runs.effect import Needs, Outcome, Usage
from node.runs.model_effect import Asked, messages_json, reply_room
from node.runs.outward import bound, needs_of
from node.types import Json

_SHARE_MARGIN = 1.1


@dataclass(frozen=True)
class Fit(Asked):
    """How to make a conversation fit that does not: what to summarise, what to cut."""

    conversation: Conversation

    name = "fit"

    @property
    def args(self) -> Json:
        return {"messages": messages_json(self.conversation.messages())}

    @property
    def needs(self) -> Needs:
        whole = replace(self.request, messages=self.conversation.messages())
        return needs_of(self.way, Usage(egress_bytes=self.size(whole)))

    async def perform(self, key: str) -> Outcome:
        """The plan, as `Plan.to_json`."""
        info = await self.engine.info(self.request.model)
        reply = reply_room(self.request.sampling.max_tokens, info.context_tokens)
        sent = 0

        async def count(messages: tuple[Message, ...], tools: tuple[FunctionSpec, ...]) -> int:
            nonlocal sent
            request = replace(self.request, messages=messages, tools=tools)
            sent += self.size(request) if info.counts else 0
            return await self.engine.count(bound(request, self.way))

        talk, tools, room = self.conversation, self.request.tools, info.context_tokens - reply
        counted = await self._by_share(count) if info.counts else count
        found = await plan(talk, tools=tools, room=room, count=counted)
        if info.counts and not found.fits:
            found = await plan(talk, tools=tools, room=room, count=count)
        usage = Usage(egress_bytes=sent)
        return Outcome(ok=found.fits, value=found.to_json(), usage=usage)

    async def _by_share(self, count: Count) -> Count:
        """Counts by their size what is part of a conversation that was counted whole: a plan asks
        some forty times, and a server that counts would be sent as many conversations. What comes
        out too large is found when it is generated from, and fitted again."""
        messages, tools = self.conversation.messages(), self.request.tools
        whole = replace(self.request, messages=messages)
        rate = _SHARE_MARGIN * await count(messages, tools) / max(1, self.size(whole))

        async def share(messages: tuple[Message, ...], tools: tuple[FunctionSpec, ...]) -> int:
            part = replace(self.request, messages=messages, tools=tools)
            return math.ceil(rate * self.size(part))

        return share


def plan_of(outcome: Outcome) -> Plan:
    """The plan a `Fit` step recorded."""
    return Plan(**cast("Any", outcome.value))
