"""The Cashu protocol as pure functions: no mint, no file, no clock, and randomness as an argument.

Others use these modules as a whole (`from wallet.protocol import tokens`; `tokens.decode(...)`),
since their functions are named for being read that way:

- `curve`, `keysets`, `dleq`, `outputs`, `derivation`: what ecash is made of (NUT-00, 01, 02, 08,
  12, 13).
- `tokens`, `proofs`: ecash as text and as JSON (NUT-00).
- `conditions`, `p2pk`, `htlc`, `blindkeys`, `witness`: locks and what opens them (NUT-10, 11, 14,
  28).
- `quotes`: signed and batched mint quotes (NUT-20, 29).
- `requests`: payment requests and payments (NUT-18, 26), with `nip19` and `bech32` beneath.
- `invoices`: BOLT 11; imported by itself, by those who meet one.

Whatever comes from outside raises ParseError, VerificationError or UnsupportedError and nothing
else, and its size is bounded before it is decoded.
"""

from wallet.protocol import (
    bech32,
    blindkeys,
    conditions,
    curve,
    derivation,
    dleq,
    htlc,
    keysets,
    nip19,
    outputs,
    p2pk,
    proofs,
    quotes,
    requests,
    tokens,
    witness,
)

__all__ = [
    "bech32",
    "blindkeys",
    "conditions",
    "curve",
    "derivation",
    "dleq",
    "htlc",
    "keysets",
    "nip19",
    "outputs",
    "p2pk",
    "proofs",
    "quotes",
    "requests",
    "tokens",
    "witness",
]
