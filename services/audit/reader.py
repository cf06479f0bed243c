"""Reads acknowledged events in the order in which they became durable, from any position on.

Whoever follows the log (detectors, exporters) keeps the number of the last batch that it has
dealt with, and commits that number with what it made of it: then each event is seen at least
once, and each stream's events in order. Numbers go up by one; nothing appears behind a cursor.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from nightingale_hub.service import Context
from nightingale_hub.services.audit.event import Event, parse_lines
from nightingale_hub.services.audit.frame import DamagedFrame
from nightingale_hub.services.audit.segments import Place, Segments
from nightingale_hub.tables.audit import audit_batch, audit_stream

log = logging.getLogger("nightingale")
BATCHES_AT_ONCE = 32


@dataclass(frozen=True)
class StoredBatch:
    """Acknowledged lines of one stream; without events where the file is damaged."""

    number: int
    stream_id: str
    instance_id: str
    owner: str
    first_seq: int
    last_seq: int
    received_us: int
    events: Sequence[Event]
    is_damaged: bool = False


class EventReader:
    """Reads one hub's segments by cursor."""

    def __init__(self, context: Context, segments: Segments) -> None:
        """Read the batches that the database of *context* knows from *segments*."""
        self._context = context
        self._segments = segments

    async def read_after(self, number: int, limit: int = BATCHES_AT_ONCE) -> list[StoredBatch]:
        """Return at most *limit* batches after batch *number*, in order; 0 is the beginning.

        A damaged file is logged as critical and its batches come without events: the rest goes
        on, and nobody takes them for empty.
        """
        rows = await self._context.read(lambda conn: list_batches(conn, number, limit))
        return await asyncio.to_thread(lambda: [load_batch(self._segments, row) for row in rows])


def list_batches(conn: Connection, number: int, limit: int) -> list[Row[Any]]:
    """Return the rows of at most *limit* batches after batch *number*, in order."""
    query = (
        select(audit_batch, audit_stream.c.instance_id, audit_stream.c.owner)
        .join(audit_stream, audit_stream.c.id == audit_batch.c.stream_id)
        .where(audit_batch.c.number > number, audit_batch.c.file != "")
        .order_by(audit_batch.c.number)
        .limit(limit)
    )
    return list(conn.execute(query))


def load_batch(segments: Segments, row: Row[Any]) -> StoredBatch:
    """Return the batch of the row that `list_batches` gave, with its events."""
    events: Sequence[Event] = ()
    is_damaged = False
    try:
        place = Place(row.file, row.position, row.length)
        events = parse_lines(segments.load_lines(place, row.sha256))
    except DamagedFrame as error:
        log.critical("audit batch %s from %d: %s", row.stream_id, row.first_seq, error)
        is_damaged = True
    return StoredBatch(
        number=row.number,
        stream_id=row.stream_id,
        instance_id=row.instance_id,
        owner=row.owner,
        first_seq=row.first_seq,
        last_seq=row.last_seq,
        received_us=row.received_us,
        events=events,
        is_damaged=is_damaged,
    )
