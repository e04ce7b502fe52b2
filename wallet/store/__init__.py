"""The wallet's file: SQLite, one writer, bearer secrets encrypted."""
