"""The `freehold` command: one file per command group."""
