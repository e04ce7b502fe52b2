"""The tools that ship with the node: one folder each, and the contract they share."""
