"""The index: stored batches become rows that can be searched, each line exactly once.

The rows of some batches and the flags that they are there are one transaction. The segment files
stay the truth: `rebuild` makes the index anew from them alone.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.exc import SQLAlchemyError

from nightingale_hub.bulk import insert_numbers
from nightingale_hub.service import Context
from nightingale_hub.services.audit.event import Event, parse_lines
from nightingale_hub.services.audit.frame import DamagedFrame
from nightingale_hub.services.audit.months import ensure_months, format_month
from nightingale_hub.services.audit.numbers import COLUMNS, Loaded, Numbers
from nightingale_hub.services.audit.segments import Place, Segments
from nightingale_hub.tables.audit import audit_batch, audit_event, audit_stream

log = logging.getLogger("nightingale")
BATCHES_PER_LOOK = 32
# What one transaction adds at most, beyond its first batch: others wait for it on SQLite. Behind,
# it is more: the pages of the index by file are written once in each transaction.
EVENTS_AT_ONCE, EVENTS_BEHIND = 5000, 20_000


class Index:
    """Follows the stored batches."""

    def __init__(self, context: Context, segments: Segments) -> None:
        """Read *segments* and write the database of *context*."""
        self._context = context
        self._segments = segments
        self._damaged: set[int] = set()
        self._numbers = Numbers()
        self._months: set[str] = set()

    async def step(self) -> None:
        """Index every batch that is not yet; one that fails does not hold up the others."""
        after = 0
        failure: SQLAlchemyError | None = None
        while rows := await self._context.read(partial(_list_missing, after=after)):
            after = rows[-1].number
            most = EVENTS_BEHIND if len(rows) == BATCHES_PER_LOOK else EVENTS_AT_ONCE
            for group in _group(await asyncio.to_thread(self._load, rows), most):
                failure = await self._store(group) or failure
        if failure is not None:
            raise failure  # the loop backs off

    async def _store(self, group: Sequence[Loaded]) -> SQLAlchemyError | None:
        try:
            await self._number(group)
            rows = [self._numbers.format(*each) for each in group]
            await self._context.write(partial(insert_events, group=group, rows=rows))
            return None
        except SQLAlchemyError as error:
            if len(group) == 1:
                row = group[0][0]
                log.error("audit batch %s from %d was not indexed", row.stream_id, row.first_seq)
                return error
        # One of them is to blame: alone it fails alone.
        failure = None
        for each in group:
            failure = await self._store([each]) or failure
        return failure

    async def _number(self, group: Sequence[Loaded]) -> None:
        months = _list_months([event.ts for _, events in group for event in events])
        if not months <= self._months:
            # By itself: for the moment that it takes nobody else gets at the index.
            await self._context.write(partial(ensure_months, months=months))
            self._months |= months
        missing = self._numbers.find_missing(group)
        if missing is not None:
            self._numbers.remember(await self._context.write(missing.ensure))

    def _load(self, rows: Sequence[Row[Any]]) -> list[Loaded]:
        loaded: list[Loaded] = []
        for row in rows:
            if row.number in self._damaged:
                continue
            try:
                loaded.append((row, load_events(self._segments, row)))
            except DamagedFrame as error:
                # Told once per process: no retry mends a file.
                log.critical("audit batch %s from %d: %s", row.stream_id, row.first_seq, error)
                self._damaged.add(row.number)
        return loaded


def insert_events(
    conn: Connection, group: Sequence[Loaded], rows: Sequence[list[tuple[Any, ...]]]
) -> None:
    """Add the rows of each batch of *group* to the index, unless they are there already."""
    fresh = [
        each
        for (row, _), batch_rows in zip(group, rows, strict=True)
        if _flag(conn, row)
        for each in batch_rows
    ]
    insert_numbers(conn, audit_event, COLUMNS, fresh)


def load_events(segments: Segments, row: Row[Any]) -> list[Event]:
    """Return the events of the stored batch *row*; raises `DamagedFrame` unless all are there."""
    return parse_lines(segments.load_lines(Place(row.file, row.position, row.length), row.sha256))


def _list_months(times_us: Sequence[int]) -> set[str]:
    ends = {format_month(min(times_us)), format_month(max(times_us))}
    return ends if len(ends) == 1 else {format_month(each) for each in times_us}


def _flag(conn: Connection, row: Row[Any]) -> bool:
    flagged = update(audit_batch).where(
        audit_batch.c.number == row.number, audit_batch.c.is_indexed.is_(False)
    )
    return conn.execute(flagged.values(is_indexed=True)).rowcount == 1


def _list_missing(conn: Connection, after: int) -> list[Row[Any]]:
    query = (
        select(audit_batch, audit_stream.c.owner)
        .join(audit_stream, audit_stream.c.id == audit_batch.c.stream_id)
        .where(audit_batch.c.is_indexed.is_(False), audit_batch.c.number > after)
        .order_by(audit_batch.c.number)
        .limit(BATCHES_PER_LOOK)
    )
    return list(conn.execute(query))


def _group(loaded: Sequence[Loaded], most: int) -> list[list[Loaded]]:
    groups: list[list[Loaded]] = []
    count = most
    for each in loaded:
        if count + len(each[1]) > most:
            groups.append([])
            count = 0
        groups[-1].append(each)
        count += len(each[1])
    return groups
