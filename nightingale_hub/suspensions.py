"""Whether somebody's datasets are closed for now, and the reason that they are shown."""

from typing import Any

from sqlalchemy import Connection, Row, select

from nightingale_hub.tables.incidents import suspension


def find_suspension(conn: Connection, owner: str, at_us: int) -> Row[Any] | None:
    """Return the suspension of *owner* that ends last of those in force at *at_us*, or None."""
    query = (
        select(suspension)
        .where(
            suspension.c.owner == owner,
            suspension.c.since_us <= at_us,
            suspension.c.until_us > at_us,
        )
        .order_by(suspension.c.until_us.desc())
        .limit(1)
    )
    return conn.execute(query).one_or_none()
