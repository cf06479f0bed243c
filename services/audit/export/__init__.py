"""Hands every acknowledged event and every finding on to the tools that security already uses."""
