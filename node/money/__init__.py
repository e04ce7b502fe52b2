"""The node's wallet: one purse, opened under a key of the home, for runs and for the owner.

`wallet/` knows nothing of nodes; this room is where the two meet. It knows nothing of runs.
"""

from node.money.types import Bill, Found, Payment, Purse

__all__ = ["Bill", "Found", "Payment", "Purse"]
