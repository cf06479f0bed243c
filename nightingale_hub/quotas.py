"""How much a person may have at once: instances, and which size of each resource.

A person's own entry holds alone; else the most generous of their groups'; else the default. What
an entry does not name is not limited by it. A quota is checked in the transaction that asks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from nightingale_hub.errors import ConfigError, OverQuota
from nightingale_hub.homes import lock_owner
from nightingale_hub.offers import LETTERS, Size
from nightingale_hub.tables.instances import instance

SECTIONS = ("default", "groups", "users")


@dataclass(frozen=True)
class Quota:
    """What one person may have; None is no limit."""

    instances: int | None = None
    cpu: frozenset[str] | None = None
    gpu: frozenset[str] | None = None
    disk: frozenset[str] | None = None

    def join(self, other: "Quota") -> "Quota":
        """Return the more generous of both, field by field."""
        counts = (self.instances, other.instances)
        sizes = {}
        for resource in LETTERS:
            ours, theirs = getattr(self, resource), getattr(other, resource)
            sizes[resource] = None if ours is None or theirs is None else ours | theirs
        most = None if None in counts else max(each for each in counts if each is not None)
        return Quota(most, **sizes)

    def check_size(self, size: Size) -> None:
        """Raise `OverQuota` when *size* is not among those that one may have."""
        for resource in LETTERS:
            allowed, letter = getattr(self, resource), getattr(size, resource)
            if allowed is not None and letter not in allowed:
                these = [each for each in LETTERS[resource] if each in allowed]
                raise OverQuota(
                    f"your quota has no {resource} size {letter}; choose one of "
                    f"{', '.join(these) or 'none'}, or ask your admin for more"
                )


def find_quota(quotas: Mapping[str, Any], owner: str, groups: Iterable[str]) -> Quota:
    """Return what *owner*, a member of *groups*, may have by the setting *quotas*."""
    own = quotas.get("users", {}).get(owner)
    if own is not None:
        return parse_quota(own)
    of_groups = quotas.get("groups", {})
    found = [parse_quota(of_groups[name]) for name in groups if name in of_groups]
    if not found:
        return parse_quota(quotas.get("default", {}))
    most = found[0]
    for each in found[1:]:
        most = most.join(each)
    return most


def check_quota(conn: Connection, quota: Quota, owner: str, size: Size) -> None:
    """Raise `OverQuota` when *owner* may not start one more instance, of *size*.

    Of two starts at once the second sees the first.
    """
    quota.check_size(size)
    if quota.instances is None:
        return
    lock_owner(conn, owner)
    count = conn.execute(
        select(func.count())
        .select_from(instance)
        .where(instance.c.owner == owner, instance.c.actual.not_in(("stopped", "gone")))
    ).scalar_one()
    if count >= quota.instances:
        raise OverQuota(
            f"your quota is {quota.instances} instance{'' if quota.instances == 1 else 's'} at "
            f"once, and you have {count}; stop one, or ask your admin for more"
        )


def parse_quota(entry: Any) -> Quota:
    """Return the quota that a setting's *entry* is; raises `ConfigError` naming what is wrong."""
    known = ("instances", *LETTERS)
    if not isinstance(entry, Mapping) or not set(entry) <= set(known):
        raise ConfigError(f"a quota is an object with some of {', '.join(known)}, not {entry!r}")
    count = entry.get("instances")
    if count is not None and (type(count) is not int or count < 0):
        raise ConfigError(f"a quota's instances must be a whole number, not {count!r}")
    sizes: dict[str, frozenset[str] | None] = {}
    for resource, letters in LETTERS.items():
        chosen = entry.get(resource)
        if chosen is not None and (
            not isinstance(chosen, list | tuple) or not set(chosen) <= set(letters)
        ):
            raise ConfigError(
                f"a quota's {resource} must be a list of some of {', '.join(letters)}, "
                f"not {chosen!r}"
            )
        sizes[resource] = None if chosen is None else frozenset(chosen)
    return Quota(count, **sizes)


def parse_quotas(quotas: Any) -> dict[str, Any]:
    """Return the setting *quotas* unchanged; raises `ConfigError` naming what is wrong in it."""
    if not isinstance(quotas, Mapping) or not set(quotas) <= set(SECTIONS):
        raise ConfigError(f"quotas has {', '.join(SECTIONS)} and nothing else")
    parse_quota(quotas.get("default", {}))
    for section in SECTIONS[1:]:
        entries = quotas.get(section, {})
        if not isinstance(entries, Mapping):
            raise ConfigError(f"quotas' {section} must be an object by name")
        for entry in entries.values():
            parse_quota(entry)
    return dict(quotas)
