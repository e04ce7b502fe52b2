"""Secrets the node keeps on disk. Agents' Nostr keys come to this room later."""

from node.identity.keystore import KeyStore

__all__ = ["KeyStore"]
