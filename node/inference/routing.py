"""One engine out of two: models of this machine, and models of other machines.

A name in `remote.toml` goes to its server, any other to the local engine; so an agent that outgrows
this machine is moved by naming an address, `default` included. A name that is both a remote model
and a file the user pinned is refused: nobody should have to guess where prompts went.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from node.errors import ModelError
from node.inference.engine import LlamaEngine
from node.inference.models.store import ModelStore
from node.inference.remote.engine import RemoteEngine, check_bound
from node.inference.types import Destination, Engine, Generation, ModelInfo, ModelStatus, Token


class RoutedEngine:
    """Gives each request to the engine its model belongs to. Implements `Engine` and `Outward`.

    Args:
        pins: the local models' pins, to refuse a name that is both; None looks at none.
    """

    def __init__(
        self, local: Engine, remote: RemoteEngine, *, pins: ModelStore | None = None
    ) -> None:
        self.local = local
        self.remote = remote
        self._pins = pins

    def loaded(self) -> dict[str, int]:
        """Process id of each local model's runner."""
        return self.local.loaded() if isinstance(self.local, LlamaEngine) else {}

    def metrics(self) -> list[ModelStatus]:
        """Each loaded local model at work."""
        return self.local.metrics() if isinstance(self.local, LlamaEngine) else []

    def destination(self, model: str) -> Destination | None:
        """Where requests for the model go; None if they stay on this machine.

        Raises:
            ModelError: the name is ambiguous, or `remote.toml` cannot be used.
        """
        found = self.remote.destination(model)
        if found is not None and self._pins is not None:
            refuse_both(self._pins, model)
        return found

    def generate(self, request: Generation) -> AsyncGenerator[Token, None]:
        """As the model's own engine does. Raises ModelError as `destination`, and where the model
        is not where the request is bound for."""
        return self._for(request).generate(request)

    async def count(self, request: Generation) -> int:
        """As the model's own engine does. Raises ModelError as `generate`."""
        return await self._for(request).count(request)

    async def info(self, model: str) -> ModelInfo:
        """As the model's own engine does. Raises ModelError as `destination`."""
        return await (self.local if self.destination(model) is None else self.remote).info(model)

    async def forget(self) -> None:
        """As the local engine does; what a server keeps is its own."""
        await self.local.forget()

    async def aclose(self) -> None:
        """Closes both."""
        try:
            await self.remote.aclose()
        finally:
            await self.local.aclose()

    def _for(self, request: Generation) -> Engine:
        """The engine of its model, which must be where the request is bound for."""
        found = self.destination(request.model)
        check_bound(request, "" if found is None else found.url)
        return self.local if found is None else self.remote


def refuse_both(pins: ModelStore, name: str) -> None:
    """Raises ModelError if the user pinned a file under that name; the shipped one gives way."""
    if any(pin.name == name and not pin.shipped for pin in pins.list()):
        raise ModelError(
            f"the name {name!r} is a local model's and a remote one's",
            hint="Remove one of them, or connect the remote one under another name.",
        )
