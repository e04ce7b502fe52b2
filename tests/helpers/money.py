"""A node's money: its purse over the real wallet, with mints, payees and relays in memory."""

from __future__ import annotations

import json
from pathlib import Path

from node.money import FeeRule, Found, Keeper, Payment, WalletPurse
from node.money.nwc import NwcLink
from node.money.ways import Ways
from wallet import Rules
from wallet.lightning import WebReply, WebRequest
from wallet.lightning.testing import MemoryWeb
from wallet.mint import MintClient
from wallet.mint.testing import MemoryLightning, MemoryMint
from wallet.nwc.memory import MemoryRelay
from wallet.protocol import requests
from wallet.protocol.conditions import Condition
from wallet.protocol.requests import PaymentRequest, Transport
from wallet.wallet import Wallet

URL = "https://mint.example"
SHOP = "https://shop.example/pay"
NOW = 1_800_000_000.0
FEES = FeeRule(5, 3)
KEY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


class Money:
    """A node's money with 500 sat at a mint in memory."""

    def __init__(self, folder: Path, *, fee_ppk: int = 100) -> None:
        self.folder = folder
        self.lightning = MemoryLightning(now=lambda: NOW)
        self.mint = MemoryMint(URL, fee_ppk=fee_ppk, lightning=self.lightning, now=lambda: NOW)
        self.web = MemoryWeb()
        self.relay = MemoryRelay()
        self.keeper = self.make()
        self.purse = self.purse_of(self.keeper)

    def make(self, passphrase: str | None = None) -> Keeper:
        keys = self.folder / "keys"
        return Keeper(
            self.folder / "wallet.db",
            keys,
            rules=Rules(multipath=False),
            passphrase=passphrase,
            connect=lambda url: MintClient(url, self.mint),
            nwc=NwcLink(keys, dial=self.relay),
        )

    def purse_of(self, keeper: Keeper, fees: FeeRule = FEES) -> WalletPurse:
        return WalletPurse(
            keeper,
            fees=fees,
            ways=Ways(web=self.web, dial=self.relay),
            now=lambda: NOW,
            wait_s=0.4,
        )

    async def fill(self, amount: int = 500) -> Wallet:
        wallet = await self.keeper.make()
        await wallet.add_mint(URL)
        invoice = await wallet.request_invoice(amount)
        self.lightning.pay(invoice.bolt11)
        await wallet.claim_invoice(invoice.operation)
        return wallet

    async def pay(self, payment: Payment, key: str = "r-1:1") -> Found:
        return await self.purse.pay(payment, self.purse.bill(payment), key=key)

    def balance(self) -> int:
        return self.keeper.wallet(stale=True).balance()


class Shop:
    """Takes payments by HTTP POST; `status` is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[dict[str, object]] = []

    async def __call__(self, request: WebRequest) -> WebReply:
        self.bodies.append(json.loads(request.body or b"{}"))
        return WebReply(self.status, b"{}")


def request(*, lock: bool = False, amount: int | None = 9) -> str:
    option = Condition("P2PK", KEY) if lock else None
    made = PaymentRequest("id", amount, "sat", transports=(Transport("post", SHOP),), lock=option)
    return requests.encode(made)
