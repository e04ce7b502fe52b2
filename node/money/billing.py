"""What a payment comes to, read from what is to be paid, without asking anybody.

The destination is what policy judges and the log shows, so it is derived here from what the wallet
will really pay: the key that signed an invoice, the one transport of a payment request that will be
used, the URL whose price is asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from node.errors import PaymentError
from node.money.translate import hint_of
from node.money.types import BEARER, Bill, Kind, Payment
from wallet.errors import WalletError
from wallet.protocol import curve, invoices, nip19, requests, uris
from wallet.protocol.requests import PaymentRequest, Transport

_ADDRESS = re.compile(r"[a-z0-9_.+-]{1,64}@[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?")
_PUBKEY = re.compile(r"0[23][0-9a-f]{64}")
_INVOICE = re.compile(r"ln(?:bc|tb|tbs|bcrt)[0-9]")
_REQUEST = ("creqa", "creqb1")
_MOST_TEXT = 8_192


@dataclass(frozen=True)
class FeeRule:
    """The most that mints and Lightning may take: the greater of `sats` and `percent`."""

    sats: int = 5
    percent: int = 3

    def most(self, amount_sat: int) -> int:
        """For one payment, in sat."""
        return max(self.sats, -(-amount_sat * self.percent // 100))


def bill(payment: Payment, fees: FeeRule, now: float | None) -> Bill:
    """Reads a payment. Raises PaymentError where it cannot be made; `now` in Unix seconds, None
    for one that was begun in time."""
    if len(payment.to) > _MOST_TEXT:
        raise PaymentError("what is to be paid is longer than anything that can be")
    try:
        kind, destination, asked, about = _read(payment, now)
    except WalletError as error:
        raise PaymentError(error.message, hint=hint_of(error)) from error
    amount = _amount(asked, payment.amount_sat)
    return Bill(kind, destination, amount, fees.most(amount), about)


def is_invoice(text: str) -> bool:
    """Whether it looks like a Lightning invoice."""
    return bool(_INVOICE.match(plain(text).lower().removeprefix("lightning:")))


def is_delivered(payment: Payment) -> bool:
    """Whether the payee must be handed what pays it: a request that is no price of a resource."""
    text = plain(payment.to)
    return not payment.url and (text.lower().startswith(_REQUEST) or uris.is_uri(text))


def plain(text: str) -> str:
    """The text, or of a `bitcoin:` URI (BIP-321) what it names that this wallet pays: the payment
    request, else the invoice."""
    text = text.strip()
    if not uris.is_uri(text) or uris.way(text, "creq"):
        return text
    found = uris.way(text, "lightning") or ""
    return found if _INVOICE.match(found.lower()) else text


def request_of(payment: Payment) -> PaymentRequest:
    """The payment request, with the one transport that will be used, none for an HTTP 402.

    Raises:
        WalletError: it is none, or names no way to deliver that this wallet knows.
        PaymentError: it cannot be paid in satoshis.
    """
    request = requests.decode(payment.to.strip())
    if request.unit not in (None, "sat"):
        raise PaymentError(
            f"it asks for {request.unit!r}, and this wallet pays in sat",
            hint="Ask the payee for a request in sat.",
        )
    return replace(request, transports=() if payment.url else (_transport(request),))


def address_of(text: str) -> str | None:
    """The Lightning address (NAME@HOST) that a text is, in its one form; None if it is none."""
    address = text.strip().lower().removeprefix("lightning:")
    return address if _ADDRESS.fullmatch(address) else None


def _read(payment: Payment, now: float | None) -> tuple[Kind, str, int | None, str]:
    text = plain(payment.to)
    if payment.url:
        request = request_of(payment)
        place = payment.url.partition("?")[0]  # what a query holds names no payee
        return "paywall", place, request.amount, request.description or ""
    if text == BEARER:
        return "bearer", BEARER, None, ""
    if _PUBKEY.fullmatch(text.lower()):
        curve.point(bytes.fromhex(text))
        return "peer", f"cashu:{text.lower()}", None, ""
    address = address_of(text)
    if address:
        return "address", address, None, ""
    if is_invoice(text):
        return _invoice(text, now)
    if is_delivered(payment):
        request = request_of(payment)
        place = destination_of(request.transports[0])
        return "request", place, request.amount, request.description or ""
    raise PaymentError(
        "that is nothing that can be paid",
        hint="Name a Lightning invoice (lnbc…), a payment request (creq…), a Lightning address "
        "(name@host) or a public key (02… or 03…).",
    )


def _invoice(text: str, now: float | None) -> tuple[Kind, str, int | None, str]:
    invoice = invoices.read(text)
    if now is not None and invoice.expired(now):
        raise PaymentError("the invoice has expired", hint="Ask the payee for a new one.")
    msat = invoice.amount_msat
    sats = None if msat is None else -(-msat // 1000)
    return "invoice", f"lightning:{invoice.payee.hex()}", sats, invoice.description or ""


def destination_of(transport: Transport) -> str:
    """Where a payment request is delivered to, as policy knows it."""
    if transport.kind == "nostr":
        return f"nostr:{nip19.read(transport.target).pubkey.hex()}"
    return transport.target


def _transport(request: PaymentRequest) -> Transport:
    """The first of the payee's that this wallet can use."""
    for each in request.transports:
        if (each.kind == "post" and _is_web(each.target)) or (
            each.kind == "nostr" and "17" in each.values("n")
        ):
            return each
    raise PaymentError(
        "the request names no way to deliver the payment that this wallet knows",
        hint="HTTP POST and Nostr (NIP-17) are; a request without any is paid where it was found.",
    )


def _is_web(target: str) -> bool:
    try:
        return urlsplit(target).scheme in ("https", "http")
    except ValueError:
        return False


def _amount(asked: int | None, given: int | None) -> int:
    if asked is not None and given not in (None, asked):
        raise PaymentError(
            f"it asks for {asked} sat, not {given}", hint="Leave the amount out, or ask the payee."
        )
    amount = asked if asked is not None else given
    if amount is None:
        raise PaymentError("it names no amount", hint="Say how many sat.")
    if amount < 1:
        raise PaymentError(f"{amount} sat is no amount", hint="Amounts are whole sat, from 1.")
    return amount
