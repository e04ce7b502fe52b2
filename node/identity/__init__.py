"""Secrets the node keeps on disk. Agents' Nostr keys come to this room later."""

from node.identity.http import HttpSecret, HttpSecrets
from node.identity.keystore import KeyStore

__all__ = ["HttpSecret", "HttpSecrets", "KeyStore"]
