"""Freehold's wallet: Cashu ecash at the mints its owner chose, and Lightning through them.

It knows nothing of the node and can be used alone.
"""
