"""The audit mount: a read-only view of the granted datasets that records every read."""
