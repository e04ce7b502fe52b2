"""Lightning addresses, and the invoices that are fetched from them.

`wallet.lightning.testing` has payees in memory.
"""

from wallet.lightning.lnurl import fetch_invoice, fetch_terms, url_of
from wallet.lightning.web import HttpWeb, Web, WebReply, WebRequest, check_url, reaching

__all__ = [
    "HttpWeb",
    "Web",
    "WebReply",
    "WebRequest",
    "check_url",
    "fetch_invoice",
    "fetch_terms",
    "reaching",
    "url_of",
]
