"""Invoices from Lightning addresses and LNURL-pay (LUD-01, 06, 12, 16, 17).

Two questions to the payee's server: its terms, then an invoice for an amount. The invoice is
believed only where it is for exactly that amount, commits to the metadata the terms came with,
and has not expired. As LUD-01 asks, a reply is its body alone: its status says nothing, except
that one which redirects is refused, since it would move a payment to somebody else.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from wallet.errors import (
    OutcomeUnknownError,
    ParseError,
    PayeeError,
    RefusedError,
    UnreachableError,
    UnsupportedError,
)
from wallet.lightning.web import MAX_URL, Web, WebRequest, check_url
from wallet.protocol import bech32, invoices
from wallet.protocol.invoices import Bolt11
from wallet.types import CLOCK_S, MAX_AMOUNT

MAX_ENTRIES = 64  # of metadata
_ADDRESS = re.compile(r"([a-z0-9_.+-]{1,64})@([a-z0-9.-]{1,253})(:[0-9]{1,5})?")
_OTHER = ("lnurlc", "lnurlw", "keyauth")
_OTHER_TAGS = ("channelRequest", "withdrawRequest", "login", "hostedChannelRequest")


@dataclass(frozen=True)
class PayTerms:
    """What a payee's server offers (LUD-06). Amounts in msat, both ends included.

    Attributes:
        domain: who is being paid, as far as anybody can tell.
        description: the payee's own words, to be shown as such.
        metadata: the exact text the invoice must commit to.
        comment: how many characters of comment it takes (LUD-12).
    """

    domain: str
    callback: str
    min_msat: int
    max_msat: int
    description: str
    metadata: str = field(repr=False)
    comment: int = 0

    def check(self, amount_msat: int, comment: str = "") -> None:
        """Whether it can be paid like that.

        Raises:
            RefusedError: the amount or the comment is not among the terms.
        """
        if not self.min_msat <= amount_msat <= self.max_msat:
            raise RefusedError(
                f"{self.domain} takes from {self.min_msat} to {self.max_msat} msat,"
                f" not {amount_msat}"
            )
        if len(comment) > self.comment:
            raise RefusedError(f"{self.domain} takes comments of {self.comment} characters at most")


def url_of(text: str, *, loopback: bool = False) -> str:
    """The URL behind a Lightning address, an LNURL in any of its forms, or a link with one in it.

    Raises:
        ParseError: it is none of these.
        UnsupportedError: an LNURL for something else than paying.
        RefusedError: its server must not be asked.
    """
    plain = _bare(text)
    if len(plain) > 2 * MAX_URL:
        raise ParseError("an address is too long")
    scheme, _, rest = plain.partition(":")
    if scheme.lower() in ("http", "https"):
        return url_of(_fallback(plain), loopback=loopback)
    if scheme.lower() == "lnurlp":
        return check_url(_with_scheme(rest.removeprefix("//"), loopback), loopback=loopback)
    if scheme.lower() in _OTHER:
        raise _not_a_payment(scheme.lower())
    if plain[:6].lower() == "lnurl1":
        return _checked(_decoded(plain), loopback)
    return _of_address(plain.lower(), loopback)


def _bare(text: str) -> str:
    plain = text.strip()
    return plain[10:].removeprefix("//") if plain[:10].lower() == "lightning:" else plain


def _fallback(link: str) -> str:
    try:
        found = parse_qs(urlsplit(link).query, max_num_fields=50).get("lightning", [])
    except ValueError:
        found = []
    if len(found) != 1 or not found[0].lower().startswith("lnurl1"):
        raise ParseError("the link holds no LNURL")
    return found[0]


def _decoded(text: str) -> str:
    prefix, data, variant = bech32.decode(text, most=2 * MAX_URL)
    if prefix != "lnurl" or variant is not bech32.Variant.BECH32:
        raise ParseError("this is no LNURL")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise ParseError("an LNURL holds no address") from None


def _checked(url: str, loopback: bool) -> str:
    check_url(url, loopback=loopback)
    tags = parse_qs(urlsplit(url).query).get("tag", [])
    if other := set(tags).intersection(_OTHER_TAGS):
        raise _not_a_payment(other.pop())
    return url


def _of_address(plain: str, loopback: bool) -> str:
    found = _ADDRESS.fullmatch(plain)
    if found is None or not found[1].strip("."):
        raise ParseError(
            "this is no Lightning address, LNURL or invoice",
            hint="An address looks like name@example.com.",
        )
    host = found[2] + (found[3] or "")
    url = _with_scheme(f"{host}/.well-known/lnurlp/{quote(found[1], safe='')}", loopback)
    return check_url(url, loopback=loopback)


def _with_scheme(rest: str, loopback: bool) -> str:
    """https, or http where LUD-16 and 17 say so (onion), or a test's server has no certificate."""
    try:
        host = urlsplit(f"//{rest}").hostname or ""
    except ValueError:
        raise ParseError("an address cannot be read") from None
    local = loopback and host in ("127.0.0.1", "localhost", "::1")
    return f"{'http' if host.endswith('.onion') or local else 'https'}://{rest}"


def _not_a_payment(what: str) -> UnsupportedError:
    return UnsupportedError(f"this LNURL is not for paying ({what})")


# ── the two questions ───────────────────────────────────────────────────────────────────────


async def fetch_terms(web: Web, text: str) -> PayTerms:
    """The terms of a Lightning address or LNURL.

    Raises:
        ParseError, UnsupportedError, RefusedError: see `url_of`.
        UnreachableError: its server cannot be reached or does not answer.
        PayeeError: its server says no, or makes no sense.
    """
    url = url_of(text, loopback=web.loopback)
    fields = await _ask(web, url)
    tag = fields.get("tag")
    if tag != "payRequest":
        if tag in _OTHER_TAGS:
            raise _not_a_payment(str(tag))
        raise _senseless(url, "its terms are not those of a payment")
    metadata, callback = fields.get("metadata"), fields.get("callback")
    if not isinstance(metadata, str) or not isinstance(callback, str):
        raise _senseless(url, "its terms lack metadata or callback")
    try:
        check_url(callback, loopback=web.loopback)
    except (ParseError, RefusedError) as error:
        raise _senseless(url, f"its callback cannot be asked: {error.message}") from None
    least, most = _amount(url, fields, "minSendable"), _amount(url, fields, "maxSendable")
    if least > most:
        raise _senseless(url, "its least amount is above its most")
    return PayTerms(
        domain=_domain(url),
        callback=callback,
        min_msat=least,
        max_msat=most,
        description=_description(url, metadata),
        metadata=metadata,
        comment=_comment(fields),
    )


async def fetch_invoice(
    web: Web, terms: PayTerms, amount_msat: int, *, now: float, comment: str = ""
) -> Bolt11:
    """An invoice of the payee for exactly `amount_msat`.

    Raises:
        RefusedError: the terms do not allow it.
        UnreachableError, PayeeError: as `fetch_terms`, or the invoice is not the one asked for.
    """
    terms.check(amount_msat, comment)
    more = f"amount={amount_msat}" + (f"&comment={quote(comment, safe='')}" if comment else "")
    joint = "&" if urlsplit(terms.callback).query else "?"
    url = terms.callback.rstrip("?&") + joint + more
    fields = await _ask(web, url)
    try:
        invoice = invoices.read(str(fields.get("pr")))
    except ParseError as error:
        raise _senseless(url, error.message) from None
    if invoice.amount_msat != amount_msat:
        raise _senseless(url, f"its invoice is for {invoice.amount_msat} msat, not {amount_msat}")
    if invoice.description_hash != sha256(terms.metadata.encode()).digest():
        raise _senseless(url, "its invoice does not commit to what it said it is for")
    if invoice.expired(now - CLOCK_S):
        raise _senseless(url, "its invoice has expired already")
    return invoice


async def _ask(web: Web, url: str) -> dict[str, Any]:
    try:
        reply = await web.send(WebRequest("GET", url))
    except OutcomeUnknownError as error:  # it was a question: nothing hangs on whether it arrived
        raise UnreachableError(error.message, hint="Nothing was paid. Try again later.") from None
    if 300 <= reply.status < 400:
        raise _senseless(url, "it sends payers elsewhere (a redirect)")
    try:
        fields = json.loads(reply.body)
    except (ValueError, RecursionError):
        raise _senseless(url, "its answer is not JSON") from None
    if not isinstance(fields, dict):
        raise _senseless(url, "its answer is not an object")
    if str(fields.get("status")).upper() == "ERROR":
        from wallet.mint.words import quoted  # loads what reading an address does not need

        raise PayeeError(f"{_domain(url)} says: {quoted(str(fields.get('reason', '')))}")
    return fields


def _domain(url: str) -> str:
    return urlsplit(url).hostname or ""


def _senseless(url: str, what: str) -> PayeeError:
    return PayeeError(f"{_domain(url)} cannot be paid: {what}", hint="Nothing was paid.")


def _amount(url: str, fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or not 1 <= value <= MAX_AMOUNT:
        raise _senseless(url, f"its {name} is not a whole number of msat")
    return value


def _comment(fields: dict[str, Any]) -> int:
    value = fields.get("commentAllowed")
    return value if type(value) is int and 0 <= value <= MAX_URL else 0


def _description(url: str, metadata: str) -> str:
    try:
        entries = json.loads(metadata)
        metadata.encode()
    except (ValueError, RecursionError):
        raise _senseless(url, "its metadata is not JSON") from None
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise _senseless(url, "its metadata is not a list of bearable length")
    if not all(
        isinstance(entry, list) and entry and isinstance(entry[0], str) for entry in entries
    ):
        raise _senseless(url, "its metadata holds what is no entry")
    plain = [entry[1] for entry in entries if entry[0] == "text/plain" and len(entry) > 1]
    if len(plain) != 1 or not isinstance(plain[0], str):
        raise _senseless(url, "its metadata does not have one description")
    return plain[0]
