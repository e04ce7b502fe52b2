"""The websocket of the mint in memory (NUT-17): the present state first, then each change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wallet.errors import MintUnreachableError

State = Callable[[str, str], Any]  # the payload of a kind and filter


@dataclass
class _Subscription:
    id: str
    kind: str
    filters: tuple[str, ...]
    told: dict[str, Any] = field(default_factory=dict)


class MemorySocket:
    """One open websocket, the client's end of it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._subscriptions: list[_Subscription] = []
        self._messages: asyncio.Queue[str | None] = asyncio.Queue()

    async def send(self, message: str, /) -> None:
        """Takes a command of NUT-17."""
        command = json.loads(message)
        params, answer = command["params"], {"jsonrpc": "2.0", "id": command["id"]}
        if command["method"] == "subscribe":
            subscription = _Subscription(params["subId"], params["kind"], tuple(params["filters"]))
            self._subscriptions.append(subscription)
        else:
            self._subscriptions = [s for s in self._subscriptions if s.id != params["subId"]]
        answer["result"] = {"status": "OK", "subId": params["subId"]}
        self.say(json.dumps(answer))
        self.tell()

    async def recv(self) -> str | bytes:
        """The next message; raises MintUnreachableError where the mint hung up."""
        message = await self._messages.get()
        if message is None:
            raise MintUnreachableError("the mint closed its websocket")
        return message

    def tell(self) -> None:
        """Says what has changed since it last said something."""
        for subscription in self._subscriptions:
            for name in subscription.filters:
                payload = self._state(subscription.kind, name)
                if payload is not None and subscription.told.get(name) != payload:
                    subscription.told[name] = payload
                    params = {"subId": subscription.id, "payload": payload}
                    notice = {"jsonrpc": "2.0", "method": "subscribe", "params": params}
                    self.say(json.dumps(notice))

    def say(self, message: str) -> None:
        """Sends any text."""
        self._messages.put_nowait(message)

    def hang_up(self) -> None:
        """Closes from the mint's side."""
        self._messages.put_nowait(None)
