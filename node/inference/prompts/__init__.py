"""Prompts by a model's own template."""
