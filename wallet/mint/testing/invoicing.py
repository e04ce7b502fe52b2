"""BOLT11 invoices as nodes make them, for doubles and tests; see `wallet.protocol.invoices`."""

from __future__ import annotations

from hashlib import sha256

import bolt11
from bolt11 import Feature, Features, FeatureState, MilliSatoshi, TagChar, Tags

NODE_KEY = b"\x4c" * 32


def make_invoice(
    amount_msat: int | None,
    *,
    preimage: bytes,
    created: int,
    description: str | bytes = "",
    expiry_s: int = 3_600,
    node: bytes = NODE_KEY,
    currency: str = "bcrt",
) -> str:
    """An invoice that this preimage pays.

    Args:
        amount_msat: None: the payer chooses.
        created: Unix seconds.
        description: as bytes, the hash of one (32 bytes).
        node: the secret key that signs.
        currency: `bcrt` is regtest, `bc` the real network.
    """
    known = {Feature.payment_secret: FeatureState.supported}
    known[Feature.basic_mpp] = FeatureState.supported
    tags = Tags()
    tags.add(TagChar.payment_hash, sha256(preimage).hexdigest())
    tags.add(TagChar.payment_secret, sha256(b"secret" + preimage).hexdigest())
    if isinstance(description, bytes):
        tags.add(TagChar.description_hash, description.hex())
    else:
        tags.add(TagChar.description, description)
    tags.add(TagChar.expire_time, expiry_s)
    tags.add(TagChar.features, Features.from_feature_list(known))
    amount = None if amount_msat is None else MilliSatoshi(amount_msat)
    unsigned = bolt11.Bolt11(currency=currency, amount_msat=amount, date=created, tags=tags)
    return str(bolt11.encode(unsigned, node.hex()))
