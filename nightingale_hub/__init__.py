"""Nightingale Hub: metered, audited GPU instances over read-only medical datasets.

Imports nothing at the top, so that an instance runs its parts without jupyterhub.
"""

from typing import Any


def configure(c: Any) -> None:
    """Wire spawner, services and roles into a hub's config *c*; see `nightingale_hub.config`."""
    from nightingale_hub.config import configure as wire

    wire(c)
