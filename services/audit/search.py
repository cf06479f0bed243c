"""Finds events in the index: newest first, page by page, by any combination of filters.

Every value reaches the database as a bound parameter. A page starts after the last row of the
one before, so rows that arrive meanwhile move nothing.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    func,
    literal_column,
    select,
    tuple_,
)

from nightingale_hub.errors import BadInput
from nightingale_hub.tables.audit import audit_event, audit_stream

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
HEAD_CHARACTERS = 200

_columns = audit_event.c
# Written out, for an expression with bound parameters is not the one that was indexed.
_indexed_head = literal_column(f"substr(audit_event.path, 1, {HEAD_CHARACTERS})", Text)


@dataclass(frozen=True)
class Filters:
    """What events must be, all of it; None is anything."""

    owner: str | None = None
    dataset: str | None = None
    path: str | None = None  # exactly, or its beginning when it ends with `*`
    instance: str | None = None
    since_us: int | None = None
    until_us: int | None = None  # exclusive

    def condition(self) -> ColumnElement[bool]:
        """Return the condition on `audit_event`."""
        terms: list[ColumnElement[bool]] = []
        if self.owner is not None:
            terms.append(_columns.owner == self.owner)
        if self.dataset is not None:
            terms.append(_columns.dataset == self.dataset)
        if self.path is not None:
            terms.append(_match_path(self.path))
        if self.instance is not None:
            streams = select(audit_stream.c.id).where(audit_stream.c.instance_id == self.instance)
            terms.append(_columns.stream_id.in_(streams))
        if self.since_us is not None:
            terms.append(_columns.at_us >= self.since_us)
        if self.until_us is not None:
            terms.append(_columns.at_us < self.until_us)
        return and_(True, *terms)


@dataclass(frozen=True)
class Cursor:
    """The last event of a page; the next page starts after it."""

    at_us: int
    stream_id: str
    seq: int


def parse_cursor(text: str) -> Cursor:
    """Return the cursor that `format_cursor` gave; raises `BadInput`."""
    at_us, _, rest = text.partition(".")
    seq, _, stream_id = rest.partition(".")
    for number in (at_us, seq):
        if not (number.isascii() and number.isdigit() and len(number) <= 18):
            raise BadInput("before must be the `next` of an earlier answer")
    return Cursor(int(at_us), stream_id, int(seq))


def format_cursor(row: Row[Any]) -> str:
    """Return the cursor after *row*."""
    return f"{row.at_us}.{row.seq}.{row.stream_id}"


def list_events(
    conn: Connection, filters: Filters, limit: int, before: Cursor | None
) -> tuple[list[Row[Any]], str | None]:
    """Return at most *limit* events, newest first, and the cursor of the next page or None."""
    key = tuple_(_columns.at_us, _columns.stream_id, _columns.seq)
    query = select(audit_event).where(filters.condition())
    if before is not None:
        query = query.where(key < tuple_(before.at_us, before.stream_id, before.seq))
    order = (_columns.at_us.desc(), _columns.stream_id.desc(), _columns.seq.desc())
    rows = list(conn.execute(query.order_by(*order).limit(limit + 1)))
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], format_cursor(rows[limit - 1])


def summarise(conn: Connection, filters: Filters) -> dict[str, int | None]:
    """Return how many files were opened, how often, how much was read, and when last."""
    opened = and_(filters.condition(), _columns.action == "open")
    files = select(_columns.dataset, _columns.path).where(opened).distinct().subquery()
    is_read = _columns.action == "read"
    totals = conn.execute(
        select(
            func.count().filter(_columns.action == "open").label("opens"),
            func.count().filter(is_read).label("reads"),
            func.sum(_columns.length).filter(is_read).label("bytes"),
            func.max(_columns.at_us).label("last_us"),
        ).where(filters.condition())
    ).one()
    return {
        "files": conn.execute(select(func.count()).select_from(files)).scalar_one(),
        "opens": totals.opens,
        "reads": totals.reads,
        "bytes": int(totals.bytes or 0),
        "last_us": totals.last_us,
    }


def _match_path(path: str) -> ColumnElement[bool]:
    if not path.endswith("*"):
        is_head = _indexed_head == path[:HEAD_CHARACTERS]
        # The whole of a shorter path is its head.
        return is_head if len(path) < HEAD_CHARACTERS else and_(is_head, _columns.path == path)
    # LIKE would give `_` and `%` a meaning, and takes `CT` for `ct` on SQLite.
    prefix = path[:-1]
    return func.substr(_columns.path, 1, len(prefix)) == prefix
