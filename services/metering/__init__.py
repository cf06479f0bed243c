"""Measures how long each instance served, by boot id."""
