"""Rates each `ready` segment that ended, once: its line and its journal in one transaction."""

from typing import Any

from sqlalchemy import Connection, Row, insert, select

from nightingale_hub.services.billing.ledger import REVENUE, Entry, Journal, post, receivable
from nightingale_hub.services.billing.rating import count_seconds, rate
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import segment

METER = "ready"  # the meter that the customer pays by


def list_unrated(conn: Connection, limit: int = 500) -> list[Row[Any]]:
    """Return ended segments without a line, oldest first, with owner and rate."""
    return list(
        conn.execute(
            select(segment, instance.c.owner, instance.c.nano_usd_per_hour)
            .join(instance, instance.c.id == segment.c.instance_id)
            .outerjoin(line_item, line_item.c.segment_id == segment.c.id)
            .where(
                segment.c.meter == METER, segment.c.end_us.is_not(None), line_item.c.id.is_(None)
            )
            .order_by(segment.c.id)
            .limit(limit)
        )
    )


def post_segment(conn: Connection, row: Row[Any], at_us: int) -> bool:
    """Write the line and the journal of the segment *row*; returns False when they are there."""
    seconds = count_seconds(row.start_us, row.end_us)
    amount = rate(seconds, row.nano_usd_per_hour)
    posted = Journal(
        idem_key=f"segment:{row.id}",
        description=f"{row.instance_id}: {seconds} s at {row.nano_usd_per_hour} nano-USD/h",
        entries=(Entry(receivable(row.owner), amount), Entry(REVENUE, -amount)),
    )
    if not post(conn, posted, at_us):
        return False
    conn.execute(
        insert(line_item).values(
            segment_id=row.id,
            owner=row.owner,
            start_us=row.start_us,
            end_us=row.end_us,
            seconds=seconds,
            nano_usd_per_hour=row.nano_usd_per_hour,
            amount_micro_usd=amount,
        )
    )
    return True
