"""Doubles of what is outside the wallet: a mint in memory, and a Lightning network.

    mint = MemoryMint(fee_ppk=100)
    client = MintClient(mint.url, mint)
    quote = await client.request_mint(64, "sat")
    mint.pay(quote.request)

`mint.faults.add(Fault.LOST_REPLY, "/v1/swap")` makes the next swap's answer go missing after the
mint acted; `mint.lightning.outcome = Outcome.PENDING` leaves the payments to come open until
`mint.lightning.end(invoice, Outcome.PAID)`; `mint.hook` is called at each request.
"""

from wallet.mint.testing.faults import Fault, Faults
from wallet.mint.testing.invoicing import make_invoice
from wallet.mint.testing.lightning import MemoryLightning, Outcome
from wallet.mint.testing.mint import MemoryMint
from wallet.mint.testing.purse import Purse
from wallet.mint.testing.served import ServedMint

__all__ = [
    "Fault",
    "Faults",
    "MemoryLightning",
    "MemoryMint",
    "Outcome",
    "Purse",
    "ServedMint",
    "make_invoice",
]
