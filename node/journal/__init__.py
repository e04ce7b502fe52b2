"""The signed, Merkle-hashed log."""
