"""Ends the streams of instances that are gone, each with a leaf of where it ended."""

from sqlalchemy import Connection, and_, func, select, update

from nightingale_hub.clock import US_PER_S
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.tables.audit import audit_stream
from nightingale_hub.tables.instances import instance

# A spool that is drained later opens its stream again, until that is quiet too.
QUIET_FOR_US = 15 * 60 * US_PER_S


def end_streams(conn: Connection, at_us: int, limit: int = 200) -> int:
    """End each stream that nothing comes to any more and return how many; the caller commits."""
    newest_us = func.coalesce(audit_stream.c.seen_us, audit_stream.c.opened_us)
    quiet_us = at_us - QUIET_FOR_US
    rows = conn.execute(
        select(audit_stream.c.id, audit_stream.c.last_seq, audit_stream.c.chain)
        .join(instance, instance.c.id == audit_stream.c.instance_id)
        .where(
            audit_stream.c.ended_us.is_(None),
            audit_stream.c.chain.is_not(None),
            and_(instance.c.gone_us < quiet_us, newest_us < quiet_us),
        )
        .order_by(audit_stream.c.id)
        .limit(limit)
    ).all()
    for row in rows:
        conn.execute(update(audit_stream).where(audit_stream.c.id == row.id).values(ended_us=at_us))
        payload = {"stream_id": row.id, "last_seq": row.last_seq, "chain": row.chain}
        append_leaf(conn, "stream_end", payload, at_us)
    return len(rows)
