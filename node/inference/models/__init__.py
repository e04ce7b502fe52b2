"""Models on disk: fetched, pinned, measured against the memory, examined."""
