"""The Cashu protocol as pure functions: bytes in, values out, no I/O."""
