"""What runs in a cloud and no record stands for: in quarantine until it is removed."""

from typing import Any

from sqlalchemy import Connection, Row, select

from nightingale_hub.tables.orphans import orphan


def list_orphans(conn: Connection) -> list[Row[Any]]:
    """Return what is in quarantine, oldest first."""
    return list(
        conn.execute(select(orphan).where(orphan.c.removed_us.is_(None)).order_by(orphan.c.seen_us))
    )
