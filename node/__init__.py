"""Freehold: a sovereign agent node."""
