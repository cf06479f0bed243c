"""Lines: what each ended segment came to, posted once, with its journal or not at all."""

from typing import Any

from sqlalchemy import Connection, Row, select

from nightingale_hub.services.billing.ledger import charge
from nightingale_hub.services.billing.posting import insert_once, post
from nightingale_hub.services.billing.rating import rate
from nightingale_hub.services.billing.usage import Usage
from nightingale_hub.tables import instance, line_item, segment


def post_line(conn: Connection, usage: Usage, at_us: int) -> bool:
    """Rate an ended segment, write its line and its journal; False when it has them already.

    Raises `Conflict` when the segment was posted with another amount.
    """
    assert usage.end_us is not None, "an open segment has no line"
    rating = rate(usage.start_us, usage.end_us, usage.nano_usd_per_hour)
    description = f"{usage.instance_id}: {rating.seconds} s at {usage.nano_usd_per_hour} nUSD/h"
    journal = charge(
        f"segment:{usage.segment_id}", description, usage.owner, rating.amount_micro_usd
    )
    is_new = post(conn, journal, at_us)
    line_id = insert_once(
        conn,
        line_item,
        ["segment_id"],
        segment_id=usage.segment_id,
        owner=usage.owner,
        start_us=usage.start_us,
        end_us=usage.end_us,
        seconds=rating.seconds,
        nano_usd_per_hour=usage.nano_usd_per_hour,
        amount_micro_usd=rating.amount_micro_usd,
    )
    assert is_new == (line_id is not None), "line and journal are written together"
    return is_new


def list_lines(conn: Connection, owner: str, start_us: int, end_us: int) -> list[Row[Any]]:
    """Return *owner*'s lines that start in [start, end), in order, with their instances."""
    named = (instance.c.id.label("instance_id"), instance.c.server_name)
    sizes = (instance.c.cpu, instance.c.gpu, instance.c.disk)
    return list(
        conn.execute(
            select(line_item, *named, *sizes)
            .join(segment, segment.c.id == line_item.c.segment_id)
            .join(instance, instance.c.id == segment.c.instance_id)
            .where(
                line_item.c.owner == owner,
                line_item.c.start_us >= start_us,
                line_item.c.start_us < end_us,
            )
            .order_by(line_item.c.start_us, line_item.c.id)
        )
    )
