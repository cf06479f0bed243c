"""What a launch was tried as in vain, so that whoever goes on tries something else."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.supervision import attempt


def add_attempt(conn: Connection, row: Row[Any], zone: str, lack: str, at_us: int) -> None:
    """Record that instance *row*, as it is, could not be had in *zone* for *lack*."""
    conn.execute(
        insert(attempt).values(
            instance_id=row.id,
            cloud=row.cloud,
            region=row.region,
            zone=zone,
            instance_type=row.instance_type,
            lack=lack,
            at_us=at_us,
        )
    )


def list_attempts(conn: Connection, instance_id: str) -> list[Row[Any]]:
    """Return what was tried in vain, in order."""
    query = select(attempt).where(attempt.c.instance_id == instance_id)
    return list(conn.execute(query.order_by(attempt.c.id)))


def list_refused_zones(tried: Sequence[Row[Any]], row: Row[Any]) -> list[str]:
    """Return the zones that had nothing of *row*'s present type."""
    present = (row.cloud, row.region, row.instance_type)
    same = [each for each in tried if (each.cloud, each.region, each.instance_type) == present]
    return [each.zone for each in same if each.zone]


def is_home_fresh(conn: Connection, row: Row[Any]) -> bool:
    """Tell whether no instance of *row*'s server was ever ready there: its home is empty."""
    used = conn.execute(
        select(instance.c.id).where(
            instance.c.owner == row.owner,
            instance.c.server_name == row.server_name,
            instance.c.cloud == row.cloud,
            instance.c.region == row.region,
            instance.c.ready_us.is_not(None),
        )
    ).first()
    return used is None
