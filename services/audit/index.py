"""The index: stored batches become rows that can be searched, each line exactly once.

A batch's rows and the flag that they are there are one transaction. The segment files stay the
truth: `rebuild` makes the index anew from them alone.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, insert, select, tuple_, update
from sqlalchemy.exc import SQLAlchemyError

from nightingale_hub.service import Context
from nightingale_hub.services.audit.event import Event, parse_lines
from nightingale_hub.services.audit.frame import DamagedFrame
from nightingale_hub.services.audit.segments import Place, Segments
from nightingale_hub.tables.audit import audit_batch, audit_event

log = logging.getLogger("nightingale")
BATCHES_PER_LOOK = 32

Key = tuple[str, int]  # stream id, first seq


class Index:
    """Follows the stored batches."""

    def __init__(self, context: Context, segments: Segments) -> None:
        """Read *segments* and write the database of *context*."""
        self._context = context
        self._segments = segments
        self._damaged: set[Key] = set()

    async def step(self) -> None:
        """Index every batch that is not yet; one that fails does not hold up the others."""
        failed: dict[Key, SQLAlchemyError] = {}
        while rows := await self._context.read(
            partial(_list_missing, but={*failed, *self._damaged})
        ):
            for row in rows:
                key = (row.stream_id, row.first_seq)
                try:
                    events = await asyncio.to_thread(load_events, self._segments, row)
                    await self._context.write(partial(insert_events, row=row, events=events))
                except DamagedFrame as error:
                    # Told once per process: no retry mends a file.
                    log.critical("audit batch %s from %d: %s", *key, error)
                    self._damaged.add(key)
                except SQLAlchemyError as error:
                    log.error("audit batch %s from %d was not indexed", *key)
                    failed[key] = error
        for failure in failed.values():
            raise failure  # the loop backs off


def load_events(segments: Segments, row: Row[Any]) -> list[Event]:
    """Return the events of the stored batch *row*; raises `DamagedFrame` unless all are there."""
    return parse_lines(segments.load_lines(Place(row.file, row.position, row.length), row.sha256))


def insert_events(conn: Connection, row: Row[Any], events: Sequence[Event]) -> None:
    """Add *events* of the batch *row* to the index, unless they are there already."""
    flagged = conn.execute(
        update(audit_batch)
        .where(
            audit_batch.c.stream_id == row.stream_id,
            audit_batch.c.first_seq == row.first_seq,
            audit_batch.c.is_indexed.is_(False),
        )
        .values(is_indexed=True)
    ).rowcount
    if flagged == 1:
        conn.execute(insert(audit_event), [_to_row(row.stream_id, event) for event in events])


def _list_missing(conn: Connection, but: Collection[Key]) -> list[Row[Any]]:
    query = select(audit_batch).where(audit_batch.c.is_indexed.is_(False))
    if but:
        key = tuple_(audit_batch.c.stream_id, audit_batch.c.first_seq)
        query = query.where(key.not_in(sorted(but)))
    return list(conn.execute(query.order_by(audit_batch.c.received_us).limit(BATCHES_PER_LOOK)))


def _to_row(stream_id: str, event: Event) -> dict[str, Any]:
    return {
        "stream_id": stream_id,
        "seq": event.seq,
        "at_us": event.ts,
        "owner": event.user,
        "action": event.act,
        "dataset": event.ds,
        "path": event.path,
        "offset": event.off,
        "length": event.len,
        "duration_us": event.dur,
        "file_id": event.fid,
        "uid": event.uid,
        "pid": event.pid,
        "executable": event.exe,
        "errno": event.rc,
    }
