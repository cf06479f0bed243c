"""Which supervisor works on an instance: leases on its row, so that any number share one fleet.

A lease is taken, extended and given up in the database alone. Each taking raises the row's token;
every write of a step checks in its own transaction that the token still is the one it was given,
so a process that was suspended past its lease can no longer write, whatever it thinks.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, or_, select, text, update

from nightingale_hub.clock import US_PER_S
from nightingale_hub.instances import is_due
from nightingale_hub.tables.instances import instance

# A successor waits so long for a supervisor that died; it is extended five times in that time.
LEASE_S = 5.0


class LostRow(Exception):
    """Another supervisor works on this instance now; the step that finds this out must end."""


@dataclass(frozen=True)
class Holder:
    """One process: an epoch of a service's lease, without which it can write nothing."""

    name: str
    epoch: int

    def __str__(self) -> str:
        """Return what is written into the rows that it holds."""
        return f"{self.name}#{self.epoch}"


@dataclass(frozen=True)
class Lease:
    """One supervisor's hold of one instance."""

    instance_id: str
    holder: Holder
    token: int


def this_machine() -> str:
    """Return what names this machine, the same after a restart."""
    try:
        return Path("/etc/machine-id").read_text().strip() or gethostname()
    except OSError:
        return gethostname()


def is_within_reach(machine: str) -> ColumnElement[bool]:
    """Return the condition of an instance that can be worked on from *machine*."""
    return or_(instance.c.machine.is_(None), instance.c.machine == machine)


def claim(
    conn: Connection,
    holder: Holder,
    machine: str,
    at_us: int,
    limit: int,
    but: Collection[str] = (),
) -> list[tuple[Row[Any], Lease]]:
    """Lease for *holder* up to *limit* instances that are due at *at_us*, the oldest first.

    Those of *but* are left alone, and so is what another holds; of several who claim at once,
    none waits for another.
    """
    now_us = read_clock(conn, at_us)
    is_free = or_(
        instance.c.lease_until_us <= now_us,
        # Of its own name, this is the newest: an older one can write nothing any more.
        instance.c.lease_holder.startswith(f"{holder.name}#", autoescape=True),
    )
    wanted = (
        select(instance.c.id)
        .where(is_due(at_us), is_within_reach(machine), is_free, instance.c.id.not_in(but))
        .order_by(instance.c.created_us)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(conn.execute(wanted).scalars())
    taken = conn.execute(
        update(instance)
        .where(instance.c.id.in_(ids))
        .values(
            lease_holder=str(holder),
            lease_token=instance.c.lease_token + 1,
            lease_until_us=now_us + int(LEASE_S * US_PER_S),
        )
        .returning(instance)
    )
    return [(row, Lease(row.id, holder, row.lease_token)) for row in taken]


def extend(conn: Connection, leases: Sequence[Lease], at_us: int) -> set[str]:
    """Extend *leases* and return the ids of the instances that are still held."""
    until_us = read_clock(conn, at_us) + int(LEASE_S * US_PER_S)
    held = set()
    for each in leases:
        extended = conn.execute(
            update(instance).where(_is_held(each)).values(lease_until_us=until_us)
        )
        if extended.rowcount:
            held.add(each.instance_id)
    return held


def check(conn: Connection, lease: Lease) -> None:
    """Raise `LostRow` unless *lease* holds; it then does until the transaction ends."""
    held = conn.execute(
        select(instance.c.id).where(_is_held(lease)).with_for_update()
    ).one_or_none()
    if held is None:
        raise LostRow(f"{lease.instance_id} was taken over from {lease.holder}")


def give_up_all(conn: Connection, holder: Holder) -> None:
    """Let others have whatever *holder* holds, at once."""
    conn.execute(
        update(instance).where(instance.c.lease_holder == str(holder)).values(lease_until_us=0)
    )


def read_clock(conn: Connection, at_us: int) -> int:
    """Return the time by which leases are counted: the database's own where machines share it."""
    if conn.dialect.name != "postgresql":
        return at_us
    us = conn.execute(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))
    return int(us.scalar_one())


def _is_held(lease: Lease) -> ColumnElement[bool]:
    return (
        (instance.c.id == lease.instance_id)
        & (instance.c.lease_holder == str(lease.holder))
        & (instance.c.lease_token == lease.token)
    )
