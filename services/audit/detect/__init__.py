"""Finds bulk copying and curiosity in the events: pure over events and times, back-testable."""
