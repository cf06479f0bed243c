"""Audit policies: what a record proves, and what an adapter must do for that to hold.

A dataset names its policy and every record carries it. This module knows no adapter: it states
demands as facts, and an adapter that cannot meet one refuses the mount.
"""

from dataclasses import dataclass

from nightingale_hub.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Policy:
    """What a record of one policy proves.

    With `has_every_read` each read call reaches the daemon, so its offset and length stand in the
    log as they were asked; what goes through the page cache (mmap, splice) stands there by
    cluster of pages.
    """

    name: str
    has_every_read: bool


STRICT = Policy(name="strict", has_every_read=True)

_SERVED = {policy.name: policy for policy in (STRICT,)}


def find_policy(name: str) -> Policy:
    """Return the policy called *name*; raise `ConfigError` when no adapter here serves it."""
    policy = _SERVED.get(name)
    if policy is None:
        served = ", ".join(sorted(_SERVED))
        raise ConfigError(f"audit policy {name!r} is not served here; use one of: {served}")
    return policy
