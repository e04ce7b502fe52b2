"""What moves money, each a journalled saga.

`book` is what all work with, over `directory`, what is known of the mints, and `turns`, whose turn
it is. `swapping`, `minting` and `melting` are the three frames, after the three requests by which a
mint makes ecash; the rest are the operations over them, and `recovering` settles any that was
interrupted. `wallet.wallet.Wallet` is the way in.
"""
