"""A service's lease: of two processes that run the same service, the older one must end.

A hub that is killed leaves its services alive, and the next hub starts new ones. Taking the
lease raises an epoch in the database; every write of a service checks that its epoch still is
the newest, inside the same transaction, so a stale process can no longer write.
"""

from sqlalchemy import Connection, insert, select, update

from nightingale_hub.tables.base import service_lease


class StaleLease(Exception):
    """A newer process of this service took over; this one must exit."""


def take_lease(conn: Connection, service: str, holder: str, at_us: int) -> int:
    """Raise the epoch of *service* for *holder* and return it."""
    row = conn.execute(
        select(service_lease.c.epoch).where(service_lease.c.service == service).with_for_update()
    ).one_or_none()
    values = {"epoch": 1 if row is None else row.epoch + 1, "holder": holder, "taken_us": at_us}
    if row is None:
        conn.execute(insert(service_lease).values(service=service, **values))
    else:
        conn.execute(
            update(service_lease).where(service_lease.c.service == service).values(**values)
        )
    return int(values["epoch"])


def check_lease(conn: Connection, service: str, epoch: int) -> None:
    """Raise `StaleLease` unless *epoch* is the newest; holds it until the transaction ends."""
    row = conn.execute(
        select(service_lease.c.epoch)
        .where(service_lease.c.service == service)
        .with_for_update(read=True)
    ).one_or_none()
    if row is None or row.epoch != epoch:
        raise StaleLease(f"{service} epoch {epoch} was taken over by {row and row.epoch}")
