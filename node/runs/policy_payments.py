"""Whom an agent may pay: its manifest's list, and the amount above which a person is asked.

Nothing is paid that the manifest does not list. A run that has read something from outside may be
under somebody else's instructions: it pays the payees that the owner named one by one, and asks
before it pays one that only a `*` covers, whoever chose that.
"""

from __future__ import annotations

from node.journal import PolicyVerdict
from node.runs.agent import ALLOW, ASK, DENY, NODE_AGENT, AgentManifest
from node.runs.effect import Effect, Label
from node.runs.payment_effect import OWNER, PAYWALL
from node.sandbox import is_listed


def decide_payment(
    effect: Effect, agent: AgentManifest, labels: frozenset[Label], *, ask_over_sats: int
) -> PolicyVerdict:
    """The verdict on one payment. `ask_over_sats` is for manifests that say nothing."""
    if effect.needs.tool == OWNER and agent.name == NODE_AGENT:  # a tool may have that name, too
        return PolicyVerdict("owner", ALLOW)
    rule, allowed = _list(effect, agent)
    places = effect.needs.destinations  # none where it cannot be read: then nothing will be paid
    covering = [each for each in allowed if not places or covers_payee(each, places[0])]
    if not covering:
        return PolicyVerdict(rule, DENY)
    if places and "untrusted" in labels and all(map(_is_anyone, covering)):
        return PolicyVerdict("payments.untrusted", ASK)
    limit = agent.payments.approval_over_sats
    if effect.needs.usage.msat > (ask_over_sats if limit is None else limit) * 1000:
        return PolicyVerdict("payments.approval_over_sats", ASK)
    return PolicyVerdict(rule, ALLOW)


def _list(effect: Effect, agent: AgentManifest) -> tuple[str, tuple[str, ...]]:
    """The list that decides, and its name: the tool's where a call is to be paid for."""
    if effect.name != PAYWALL:
        return "payments.allow", agent.payments.allow
    tool = effect.needs.tool
    found = (grant.pay for grant in agent.tools if grant.name == tool)
    return f"tools.{tool}.pay", next(found, ())


def covers_payee(listed: str, destination: str) -> bool:
    """Whether an entry of a list names this destination; `*` as docs/agents.md says."""
    if listed == destination:
        return True
    if "://" in listed:
        return is_listed(destination, (listed,))
    kind, colon, payee = listed.partition(":")
    if colon and payee == "*":
        return destination.startswith(f"{kind}:")
    host = listed.removeprefix("*@")
    if host == listed or "://" in destination:  # a URL may hold an @ anywhere
        return False
    return destination.partition("@")[2] == host


def _is_anyone(listed: str) -> bool:
    """Whether whoever likes can be the payee: a host's own URL names one, `*@host` does not."""
    return "://" not in listed and "*" in listed
