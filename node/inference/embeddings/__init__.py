"""Vectors and ranks by GGUF embedding models."""
