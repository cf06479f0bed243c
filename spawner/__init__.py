"""The hub's side of an instance: asks for it, waits, streams its progress."""
