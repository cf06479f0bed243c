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
    cluster of pages. Without it the kernel reads from the source by itself (FUSE passthrough):
    with `has_ranges` it tells afterwards which pages which process was given; without, the whole
    file is charged to whoever opens it.
    """

    name: str
    has_every_read: bool
    has_ranges: bool


STRICT = Policy(name="strict", has_every_read=True, has_ranges=True)
RANGES = Policy(name="ranges", has_every_read=False, has_ranges=True)
OPENS = Policy(name="opens", has_every_read=False, has_ranges=False)

_KNOWN = {policy.name: policy for policy in (STRICT, RANGES, OPENS)}


def get_policy(name: str) -> Policy:
    """Return the policy called *name*; raises `ConfigError`."""
    policy = _KNOWN.get(name)
    if policy is None:
        raise ConfigError(f"audit policy {name!r} is unknown; use one of: {', '.join(_KNOWN)}")
    return policy
