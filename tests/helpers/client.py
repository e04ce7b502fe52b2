"""A client of a daemon that is not there."""

from __future__ import annotations

import httpx

from node.client import Client


def answering(status: int, content: bytes) -> Client:
    """One that hears the same whatever it asks."""
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    return Client(transport, where="the test")
