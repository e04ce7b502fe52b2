"""Lightning: invoices, and the addresses they are fetched from."""

from wallet.protocol.invoices import Bolt11
from wallet.protocol.invoices import read as read_invoice

__all__ = ["Bolt11", "read_invoice"]
