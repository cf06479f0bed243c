"""What Prometheus is told of the meter."""

from sqlalchemy import Connection, func, select

from nightingale_hub.metrics import Fact, Rows
from nightingale_hub.tables.metering import segment


def _open_segments(conn: Connection) -> Rows:
    return conn.execute(
        select(segment.c.meter, func.count())
        .where(segment.c.end_us.is_(None))
        .group_by(segment.c.meter)
    ).all()


def _seen(conn: Connection) -> Rows:
    oldest = conn.scalar(
        select(func.min(segment.c.seen_us)).where(
            segment.c.end_us.is_(None), segment.c.meter == "ready"
        )
    )
    return [(None if oldest is None else oldest / 1e6,)]


FACTS = (
    Fact("segments_open", "Segments that go on.", ("meter",), _open_segments),
    Fact(
        "meter_seen_timestamp_seconds",
        "Until when the instance that was seen longest ago is measured.",
        (),
        _seen,
    ),
)
