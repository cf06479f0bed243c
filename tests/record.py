"""Instances as the spawner and the supervisor write them down, for tests of what reads them."""

import secrets
from typing import Any

from sqlalchemy import Connection, insert, select, update

from nightingale_hub.auth import sha256_hex
from nightingale_hub.instances import find_current
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import segment
from nightingale_hub.tables.supervision import shape

S = 1_000_000
BOOT = "b0071e57" * 4


def add_instance(conn: Connection, instance_id: str | None = None, **columns: Any) -> str:
    """Write an instance that runs and was ready at second 100, but for *columns*.

    It is of its owner's default server, or of one named after it where that has one already.
    """
    instance_id = instance_id or f"i-{secrets.token_hex(6)}"
    owner = columns.get("owner", "alice")
    values = {
        "id": instance_id,
        "owner": owner,
        "server_name": "" if find_current(conn, owner, "") is None else instance_id,
        "cloud": "local",
        "region": "here",
        "instance_type": "local-M-none-M",
        "cpu": "M",
        "gpu": "none",
        "disk": "M",
        "nano_usd_per_hour": 45_000_000,
        "wanted": "running",
        "actual": "running",
        "credential_sha256": sha256_hex(f"credential of {instance_id}"),
        "api_nonce": f"nonce of {instance_id}",
        "boot_id": BOOT,
        "host": "127.0.0.1",
        "created_us": 80 * S,
        "allocated_us": 90 * S,
        "ready_us": 100 * S,
    }
    conn.execute(insert(instance).values(values | columns))
    return instance_id


def change(conn: Connection, instance_id: str, **columns: Any) -> None:
    """Change *columns* of an instance."""
    conn.execute(update(instance).where(instance.c.id == instance_id).values(columns))


def list_segments(conn: Connection, instance_id: str, meter: str = "ready") -> list[Any]:
    """Return (boot, start, end, cause) of the instance's segments of *meter*, oldest first."""
    columns = (segment.c.boot_id, segment.c.start_us, segment.c.end_us, segment.c.cause)
    rows = conn.execute(
        select(*columns)
        .where(segment.c.instance_id == instance_id, segment.c.meter == meter)
        .order_by(segment.c.start_us, segment.c.id)
    )
    return [tuple(row) for row in rows]


def list_shapes(conn: Connection, instance_id: str) -> list[Any]:
    """Return the row of every shape that an instance had, in order."""
    query = select(shape).where(shape.c.instance_id == instance_id)
    return list(conn.execute(query.order_by(shape.c.effective_us)))
