"""Lightning: invoices, and the addresses they are fetched from.

`wallet.lightning.testing` has payees in memory.
"""

from wallet.lightning.lnurl import PayTerms, fetch_invoice, fetch_terms, is_address, url_of
from wallet.lightning.web import HttpWeb, Web, WebReply, WebRequest, check_url, reaching
from wallet.protocol.invoices import Bolt11
from wallet.protocol.invoices import read as read_invoice

__all__ = [
    "Bolt11",
    "HttpWeb",
    "PayTerms",
    "Web",
    "WebReply",
    "WebRequest",
    "check_url",
    "fetch_invoice",
    "fetch_terms",
    "is_address",
    "reaching",
    "read_invoice",
    "url_of",
]
