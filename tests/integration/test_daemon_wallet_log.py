"""What comes in is on the log once, wherever in between the node is killed: the real daemon."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from helpers.node import Node

from node.client import Client
from node.errors import FreeholdError
from wallet.mint import HttpTransport, MintClient
from wallet.mint.testing import Purse, ServedMint
from wallet.protocol import tokens
from wallet.types import Token


def client(node: Node) -> Client:
    return Client.unix(node.root / "run" / "control.sock")


def token(mint: ServedMint, amount: int) -> str:
    async def make() -> str:
        opened = MintClient(mint.url, HttpTransport(mint.url))
        purse = Purse(opened, pay=lambda text: mint.do(lambda: mint.mint.pay(text)))
        try:
            return tokens.encode(Token(mint.url, "sat", await purse.fill(amount)))
        finally:
            await opened.aclose()

    return asyncio.run(make())


def received(node: Node) -> list[tuple[str, object]]:
    """Entries that tell what came in, with how much that was."""
    with client(node) as asked:
        told: list[Any] = [event["data"] for event in asked.events(follow=False)]
    kinds = ("wallet.received", "wallet.settled")
    return [(each["type"], each["data"]["amount"]) for each in told if each["type"] in kinds]


@pytest.mark.parametrize(
    ("boundary", "entry"),
    [("before-write", "wallet.settled"), ("after-sync", "wallet.received")],
)
def test_killed_between_the_ecash_and_its_entry(
    node: Node, mint: ServedMint, boundary: str, entry: str
) -> None:
    node.up()
    with client(node) as asked:
        asked.wallet.add_mint(mint.url, spend=True, accept=True)
    node.down()
    came = token(mint, 64)
    node.env["FREEHOLD_JOURNAL_FAULT"] = f"kill:{boundary}:2"  # the first is `node.started`
    process = node.up()
    with client(node) as asked, contextlib.suppress(FreeholdError):
        asked.wallet.receive(came)
    assert process.wait(30) == -9
    node.env.clear()
    for _ in range(2):
        node.up()
        assert received(node) == [(entry, mint.mint.outstanding())]
        with client(node) as asked:
            assert asked.wallet.show()["balance_sat"] == mint.mint.outstanding()
        node.down()
    assert node.cli("audit", "verify").returncode == 0
