"""Agents, the loop, and the one door every effect goes through."""
