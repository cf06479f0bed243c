"""The disk that a home is, as metering and billing read of it: whose it is, from when to when.

Each is written in the transaction of the edge that it follows from. A home passes to the next
instance that uses it; until then it is the last one's, which has stopped.
"""

import json
from typing import Any

from sqlalchemy import Connection, Row, select

from nightingale_hub.instances import SERVES, owner_hash
from nightingale_hub.services.supervisor.ground import find_ground, name_home_path
from nightingale_hub.tables.instances import instance
from nightingale_hub.usage import begin_holding, end_holding, find_holder

DISK = "disk"


def hold_home(conn: Connection, row: Row[Any], at_us: int, disk: str | None = None) -> None:
    """Record that the home is instance *row*'s from *at_us* on, with the size *disk* (its own)."""
    resource_id = _find_id(conn, row)
    if resource_id is not None:
        begin_holding(conn, row.id, DISK, resource_id, f"disk.{disk or row.disk}", at_us)


def pass_home_on(conn: Connection, row: Row[Any]) -> None:
    """Give the home of *row*, which has stopped, to another server that runs on it, from then on.

    Only on this machine do two servers of one person share a home.
    """
    resource_id = _find_id(conn, row)
    if row.cloud != "local" or resource_id is None or row.stop_accepted_us is None:
        return
    if find_holder(conn, DISK, resource_id) != row.id:
        return
    other = conn.execute(
        select(instance)
        .where(
            instance.c.owner == row.owner,
            instance.c.cloud == row.cloud,
            instance.c.actual.in_(SERVES),
            instance.c.id != row.id,
        )
        .order_by(instance.c.created_us)
        .limit(1)
    ).one_or_none()
    if other is not None:
        hold_home(conn, other, row.stop_accepted_us)


def drop_home(conn: Connection, row: Row[Any], at_us: int) -> None:
    """Record that the home of *row* is gone since *at_us*."""
    resource_id = _find_id(conn, row)
    if resource_id is not None:
        end_holding(conn, DISK, resource_id, at_us)


def _find_id(conn: Connection, row: Row[Any]) -> str | None:
    """Return the cloud's name for the home of *row*, or None where it was not made."""
    if row.cloud == "local":
        return f"local/{row.region}/{owner_hash(row.owner)}"
    ground = find_ground(conn, name_home_path(row))
    if ground is None:
        return None
    found = json.loads(ground.outputs).get("home_ref", {}).get("id")
    return None if found is None else str(found)
