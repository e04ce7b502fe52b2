"""Nutshell's wallet as a process: one JSON command a line in, one JSON answer a line out.

    .venv-mint/bin/python nutshell.py MINT_URL FOLDER

Runs in Nutshell's own environment. `send` and `receive` use its wallet's parts, the mint loaded
once; `helper_send_many` and `helper_receive_many` are its library's own functions for a payment,
which its command line and its API use, and which load the mint each time. See scripts/_peers.py.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

URL, FOLDER = sys.argv[1], Path(sys.argv[2])
os.environ.update(CASHU_DIR=str(FOLDER), HOME=str(FOLDER), LOG_LEVEL="ERROR", TOR="FALSE")
os.chdir(FOLDER)  # it reads .env files where it is, and at home
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # its library prints

from _commands import answer, measured  # noqa: E402
from cashu.core.base import PaymentRequest  # noqa: E402
from cashu.core.nuts import nut18, nut26  # noqa: E402
from cashu.wallet import helpers  # noqa: E402
from cashu.wallet.helpers import deserialize_token_from_string  # noqa: E402
from cashu.wallet.wallet import Wallet  # noqa: E402
from loguru import logger  # noqa: E402

logger.remove()


class Commands:
    """What it can be told."""

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet

    async def pubkey(self) -> str:
        return str(await self.wallet.create_p2pk_pubkey())

    async def fund(self, amount: int) -> int:
        quote = await self.wallet.request_mint(amount)
        await self.wallet.mint(amount, quote_id=quote.quote)
        return int(self.wallet.available_balance.amount)

    async def send(
        self,
        amount: int,
        *,
        to: str | None = None,
        memo: str | None = None,
        version: int = 4,
        dleq: bool = True,
        blind: bool = False,
    ) -> str:
        wallet = self.wallet
        if to is None:
            proofs, _ = await wallet.select_to_send(wallet.proofs, amount, set_reserved=True)
        else:
            ephemeral = None
            if blind:
                lock, ephemeral = await wallet.create_p2bk_lock(to)
            else:
                lock = await wallet.create_p2pk_lock(to)
            _, proofs = await wallet.swap_to_send(
                wallet.proofs, amount, secret_lock=lock, set_reserved=True, p2pk_e=ephemeral
            )
        return str(
            await wallet.serialize_proofs(proofs, include_dleq=dleq, legacy=version == 3, memo=memo)
        )

    async def receive(self, token: str) -> int:
        proofs = deserialize_token_from_string(token).proofs
        await self.wallet._expand_short_keyset_ids(proofs)
        kept, _ = await self.wallet.redeem(proofs)
        return sum(proof.amount for proof in kept)

    async def decode(self, token: str) -> dict[str, Any]:
        read = deserialize_token_from_string(token)
        await self.wallet._expand_short_keyset_ids(read.proofs)
        self.wallet.verify_proofs_dleq(read.proofs)
        return {
            "mint": read.mint,
            "unit": read.unit,
            "memo": read.memo,
            "amounts": [proof.amount for proof in read.proofs],
            "verified": all(proof.dleq is not None for proof in read.proofs),
        }

    async def restore(self, words: str) -> int:
        """What a seed has here: its balance in a wallet of nothing but it."""
        wallet = await Wallet.with_db(URL, str(FOLDER / "restored"), name="restored")
        await wallet.restore_wallet_from_mnemonic(words)
        await wallet.load_proofs(reload=True)
        return int(wallet.available_balance.amount)

    async def encode_request(self, version: str, **given: Any) -> str:
        lock = given["lock"]
        request = PaymentRequest(
            i=given["id"],
            a=given["amount"],
            u=given["unit"],
            s=given["single_use"],
            m=given["mints"],
            d=given["description"],
            t=[{"t": w["kind"], "a": w["target"], "g": w["tags"]} for w in given["transports"]],
            nut10=lock and {"k": lock["kind"], "d": lock["data"], "t": lock["tags"]},
        )
        return str(nut18.serialize(request) if version == "A" else nut26.serialize(request))

    async def decode_request(self, text: str) -> dict[str, Any]:
        read = nut18.deserialize(text)
        ways = [{"kind": w.t, "target": w.a, "tags": w.g or []} for w in read.t or ()]
        lock = read.nut10 and {
            "kind": read.nut10.k,
            "data": read.nut10.d,
            "tags": read.nut10.t or [],
        }
        return {
            "id": read.i,
            "amount": read.a,
            "unit": read.u,
            "mints": read.m,
            "description": read.d,
            "single_use": read.s,
            "transports": ways,
            "lock": lock,
        }

    async def helper_send(self, amount: int) -> str:
        _, token = await helpers.send(
            self.wallet, amount=amount, lock="", legacy=False, include_dleq=True
        )
        return str(token)

    async def helper_receive(self, token: str) -> None:
        await helpers.receive(self.wallet, deserialize_token_from_string(token))

    async def helper_send_many(self, amounts: list[int]) -> dict[str, Any]:
        return await measured(self.helper_send, amounts)

    async def helper_receive_many(self, tokens: list[str]) -> dict[str, Any]:
        return await measured(self.helper_receive, tokens)

    async def balance(self) -> int:
        return int(self.wallet.available_balance.amount)

    async def send_many(self, amounts: list[int]) -> dict[str, Any]:
        return await measured(self.send, amounts)

    async def receive_many(self, tokens: list[str]) -> dict[str, Any]:
        return await measured(self.receive, tokens)


async def main() -> None:
    """Answers until its input ends."""
    wallet = await Wallet.with_db(URL, str(FOLDER), name="peer")
    await wallet.load_mint()
    await answer(Commands(wallet), answers)


asyncio.run(main())
