"""Who may do what: allow, ask or deny, and the rule that said so.

What the manifest does not grant does not exist: a tool without a `[[tools]]` table, a function
outside its list, a capability its grant lacks. The door journals the rule with every intent, so
that a log answers "by what right" for each step.
"""

from __future__ import annotations

from typing import Protocol

from node.journal import PolicyVerdict
from node.runs.agent import ALLOW, ASK, DENY, AgentManifest, ToolGrant
from node.runs.effect import Effect, Label, StepKind
from node.runs.payment_effect import TAKE_BACK
from node.runs.policy_payments import decide_payment
from node.runs.taint import BOTH, unlisted
from node.sandbox.types import Capability

# what a person is told who is asked by one of these rules, so that it looks like no routine
WARNINGS = {
    "taint.send": "the run has read what is private and what others wrote",
    "payments.untrusted": "the run has read what others wrote",
}


class Policy(Protocol):
    """Decides about one effect. Pure: the same question gets the same answer."""

    def decide(
        self, effect: Effect, agent: AgentManifest, labels: frozenset[Label]
    ) -> PolicyVerdict:
        """The verdict is `allow`, `ask` or `deny`; the rule names what decided."""
        ...


class ManifestPolicy:
    """The policy a manifest states, with the taint rule over it.

    Args:
        ask_over_sats: above how much a person is asked about a payment of an agent whose manifest
            does not say.
    """

    def __init__(self, *, ask_over_sats: int = 0) -> None:
        self._ask_over_sats = ask_over_sats

    def decide(
        self, effect: Effect, agent: AgentManifest, labels: frozenset[Label]
    ) -> PolicyVerdict:
        if effect.kind is StepKind.PAYMENT:
            if effect.name == TAKE_BACK:  # nothing leaves, and what had left comes back
                return PolicyVerdict("payments.take_back", ALLOW)
            limit = self._ask_over_sats
            stated = decide_payment(effect, agent, labels, ask_over_sats=limit)
        else:
            stated = _stated(effect, agent)
        if stated.verdict == DENY:
            return stated
        if unlisted(labels, _places(effect), agent.send_to):
            return PolicyVerdict("taint.send", ASK)
        return stated


def _places(effect: Effect) -> tuple[str, ...]:
    """Where an effect can send data. One that holds the network and names no place: anywhere."""
    needs = effect.needs
    return needs.destinations or (("*",) if "http" in needs.capabilities else ())


def _stated(effect: Effect, agent: AgentManifest) -> PolicyVerdict:
    if effect.kind is StepKind.TOOL:
        return _tool(effect, agent)
    if effect.kind in (StepKind.MESSAGE, StepKind.DELEGATION):
        return _sending(effect, agent)
    return PolicyVerdict(f"kind.{effect.kind}", ALLOW)


def _tool(effect: Effect, agent: AgentManifest) -> PolicyVerdict:
    grant = _grant(effect, agent)
    if grant is None:
        return PolicyVerdict("tools.not-granted", DENY)
    rule = f"tools.{grant.name}"
    if grant.functions is not None and effect.name not in grant.functions:
        return PolicyVerdict(f"{rule}.functions", DENY)
    missing = sorted(effect.needs.capabilities - granted(grant))
    if missing:
        return PolicyVerdict(f"{rule}.{missing[0]}", DENY)
    return PolicyVerdict(f"{rule}.approval", grant.approval)


def _grant(effect: Effect, agent: AgentManifest) -> ToolGrant | None:
    """The table for the effect's tool; one that names none is a tool by itself."""
    tool = effect.needs.tool or effect.name
    return next((grant for grant in agent.tools if grant.name == tool), None)


def granted(grant: ToolGrant) -> frozenset[Capability]:
    """The capabilities one `[[tools]]` table gives."""
    held: dict[Capability, bool] = {
        "workspace": grant.workspace is not None,
        "http": bool(grant.http),
        "knowledge": grant.knowledge,
        "store": grant.store,
        "clock": grant.clock,
        "random": grant.random,
    }
    return frozenset(name for name, has in held.items() if has)


def _sending(effect: Effect, agent: AgentManifest) -> PolicyVerdict:
    """A message or a job for a peer goes where the owner listed; anywhere else a person says."""
    places = effect.needs.destinations
    if places and not unlisted(BOTH, places, agent.send_to):
        return PolicyVerdict("send_to", ALLOW)
    return PolicyVerdict(f"kind.{effect.kind}", ASK)
