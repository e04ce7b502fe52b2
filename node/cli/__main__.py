"""`freehold`, and `python -m node.cli`. What takes time to import is met by Ctrl-C in one place."""

import sys


def main() -> None:
    """Entry point."""
    try:
        from node.cli.main import main as command
    except KeyboardInterrupt:
        sys.exit(130)  # as `_shared.INTERRUPTED`
    command()


if __name__ == "__main__":
    main()
