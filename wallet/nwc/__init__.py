"""Nostr Wallet Connect (NIP-47): another wallet as a source of funds."""
