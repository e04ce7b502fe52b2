"""What the owner has the node do with money: runs of the agent `node`, one for each payment.

So an owner's payment goes through the same door as an agent's: durable before it is made, settled
after a crash, stopped by an emergency stop, one tree in the log. What an agent's day allows is not
spent by it. One long run would have to be read whole at every start, so each payment is its own.
"""

from __future__ import annotations

import json
from typing import cast

from node.money import Payment, Purse
from node.money.types import ALL_SATS
from node.runs.agent import NODE_AGENT, AgentManifest, BudgetLimits
from node.runs.payment_effect import OWNER, PaymentEffect
from node.runs.program import Answer, Program, ProgramRun
from node.types import JsonObject, canonical, digest

NODE_MANIFEST = AgentManifest(
    name=NODE_AGENT,
    instructions="",
    about="What the node does for its owner",
    budget=BudgetLimits(tokens=0, steps=10, seconds=3600.0, sats=ALL_SATS, sats_per_day=ALL_SATS),
    digest=digest(NODE_AGENT),
)


def command(payment: Payment) -> str:
    """The prompt of the run that makes a payment."""
    return canonical({"pay": payment.to_json()}).decode()


def payment_in(prompt: str) -> Payment:
    """The payment of a `command`. Raises ValueError for one that says more than is known here."""
    told = json.loads(prompt)
    asked = told.get("pay") if isinstance(told, dict) else None
    payment = Payment.from_json(asked if isinstance(asked, dict) else {})
    if told != {"pay": payment.to_json()}:
        raise ValueError("what the owner asked for")
    return payment


def programs(agents: Program, purse: Purse) -> Program:
    """The program of every run: `agents`, or the owner's for runs of the node itself."""

    async def program(run: ProgramRun) -> Answer:
        return await (_pay(run, purse) if run.agent.name == NODE_AGENT else agents(run))

    return program


async def _pay(run: ProgramRun, purse: Purse) -> Answer:
    """Makes the payment of the prompt. The answer is the step's value as JSON."""
    outcome = await run.step(PaymentEffect(purse, payment_in(run.prompt), tool=OWNER))
    value = cast("JsonObject", outcome.value)
    if outcome.ok:
        return Answer("completed", canonical(value).decode())
    return Answer("failed", reason=str(value.get("error", "it was not paid")))
