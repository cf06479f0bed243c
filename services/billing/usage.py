"""Usage: the `ready` segments with whose they are and at which rate, and which have a line.

Metering writes segments and the rate stands in the instance record: the price that was shown
before the start holds for the launch. Billing only reads both.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, and_, select

from nightingale_hub.services.billing.rating import Rating, rate
from nightingale_hub.tables import instance, line_item, segment


@dataclass(frozen=True)
class Usage:
    """A `ready` segment that has no line yet."""

    segment_id: int
    instance_id: str
    owner: str
    start_us: int
    end_us: int | None  # None: the segment is open
    stop_us: int | None  # when the record says that billing ends, which may be known before end_us
    nano_usd_per_hour: int

    def rate_at(self, at_us: int) -> Rating:
        """Return what it costs so far: until its end, the accepted stop, or *at_us*."""
        ends = [at for at in (self.end_us, self.stop_us) if at is not None]
        end_us = ends[0] if ends else at_us
        return rate(self.start_us, max(end_us, self.start_us), self.nano_usd_per_hour)

    def state_at(self, at_us: int) -> str:
        """Return `running`, or `pending` when it ended and only its line is missing."""
        has_ended = self.end_us is not None or (self.stop_us is not None and self.stop_us <= at_us)
        return "pending" if has_ended else "running"


def list_unposted(
    conn: Connection, owner: str | None = None, *, ended: bool = False, limit: int | None = None
) -> list[Usage]:
    """Return usage without a line, oldest first: of *owner* or everyone's, all or the *ended*."""
    query = (
        select(segment, instance.c.owner, instance.c.nano_usd_per_hour)
        .add_columns(instance.c.stop_accepted_us, instance.c.gone_us)
        .join(instance, instance.c.id == segment.c.instance_id)
        .outerjoin(line_item, line_item.c.segment_id == segment.c.id)
        .where(and_(segment.c.meter == "ready", line_item.c.id.is_(None)))
        .order_by(segment.c.id)
        .limit(limit)
    )
    if owner is not None:
        query = query.where(instance.c.owner == owner)
    if ended:
        query = query.where(segment.c.end_us.is_not(None))
    found = []
    for row in conn.execute(query):
        stops = [at for at in (row.stop_accepted_us, row.gone_us) if at is not None]
        found.append(
            Usage(
                row.id,
                row.instance_id,
                row.owner,
                row.start_us,
                row.end_us,
                min(stops, default=None),
                row.nano_usd_per_hour,
            )
        )
    return found
