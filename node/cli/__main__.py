"""`python -m node.cli` is `freehold`."""

from node.cli.main import main

main()
