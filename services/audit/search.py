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
    Select,
    Text,
    and_,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)

from nightingale_hub.errors import BadInput
from nightingale_hub.services.audit.event import ACTIONS
from nightingale_hub.tables.audit import (
    audit_event,
    audit_file,
    audit_process,
    audit_reader,
    audit_source,
    audit_stream,
)

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
HEAD_CHARACTERS = 200
OPEN, READ, DENIED = map(ACTIONS.index, ("open", "read", "denied"))

columns = audit_event.c
# Written out, for an expression with bound parameters is not the one that was indexed.
_indexed_head = literal_column(f"substr(audit_file.path, 1, {HEAD_CHARACTERS})", Text)


@dataclass(frozen=True)
class Membership:
    """From when to when (exclusive; None: still) what *owner* read was a project's."""

    owner: str
    from_us: int
    until_us: int | None


@dataclass(frozen=True)
class Filters:
    """What events must be, all of it; None is anything."""

    owner: str | None = None
    dataset: str | None = None
    path: str | None = None  # exactly, or its beginning when it ends with `*`
    instance: str | None = None
    pid: int | None = None
    executable: str | None = None
    since_us: int | None = None
    until_us: int | None = None  # exclusive
    project: tuple[Membership, ...] | None = None  # whose reads, and when they counted

    def condition(self) -> ColumnElement[bool]:
        """Return the condition on `audit_event`."""
        terms: list[ColumnElement[bool]] = []
        if self.owner is not None:
            readers = select(audit_reader.c.id).where(audit_reader.c.owner == self.owner)
            # With a file named, that is the index to use: a file is read less than a person reads.
            reader = literal_column("+audit_event.reader") if self.path else columns.reader
            terms.append(reader == readers.scalar_subquery())
        if self.dataset is not None or self.path is not None:
            terms.append(self._match_files())
        if self.instance is not None:
            terms.append(columns.source.in_(self._list_sources()))
        if self.pid is not None or self.executable is not None:
            terms.append(columns.process.in_(self._list_processes()))
        if self.project is not None:
            terms.append(or_(False, *map(_match_membership, self.project)))
        if self.since_us is not None:
            terms.append(columns.at_us >= self.since_us)
        if self.until_us is not None:
            terms.append(columns.at_us < self.until_us)
        return and_(True, *terms)

    def _match_files(self) -> ColumnElement[bool]:
        files = select(audit_file.c.id)
        if self.dataset is not None:
            files = files.where(audit_file.c.dataset == self.dataset)
        if self.path is None:
            # Most of what there is: not the index to begin with.
            return literal_column("+audit_event.file").in_(files)
        return columns.file.in_(files.where(match_path(self.path)))

    def _list_sources(self) -> Select[Any]:
        return (
            select(audit_source.c.id)
            .join(audit_stream, audit_stream.c.id == audit_source.c.stream_id)
            .where(audit_stream.c.instance_id == self.instance)
        )

    def _list_processes(self) -> Select[Any]:
        processes = select(audit_process.c.id)
        if self.instance is not None:
            processes = processes.where(audit_process.c.source.in_(self._list_sources()))
        if self.pid is not None:
            processes = processes.where(audit_process.c.pid == self.pid)
        if self.executable is not None:
            processes = processes.where(audit_process.c.executable == self.executable)
        return processes


@dataclass(frozen=True)
class Cursor:
    """The last event of a page; the next page starts after it."""

    at_us: int
    source: int
    seq: int


def parse_cursor(text: str) -> Cursor:
    """Return the cursor that `format_cursor` gave; raises `BadInput`."""
    parts = text.split(".")
    if len(parts) != 3 or not all(
        part.isascii() and part.isdigit() and len(part) <= 18 for part in parts
    ):
        raise BadInput("before must be the `next` of an earlier answer")
    return Cursor(*map(int, parts))


def format_cursor(at_us: int, source: int, seq: int) -> str:
    """Return the cursor after an event."""
    return f"{at_us}.{source}.{seq}"


def list_rows(
    conn: Connection, filters: Filters, limit: int, before: Cursor | None
) -> list[dict[str, Any]]:
    """Return at most *limit* events of the hot index, newest first, each with its `source`."""
    key = tuple_(columns.at_us, columns.source, columns.seq)
    query = select(audit_event).where(filters.condition())
    if before is not None:
        # The first term alone is what an index can begin at.
        query = query.where(columns.at_us <= before.at_us)
        query = query.where(key < tuple_(before.at_us, before.source, before.seq))
    order = (columns.at_us.desc(), columns.source.desc(), columns.seq.desc())
    return _name(conn, list(conn.execute(query.order_by(*order).limit(limit))))


def summarise(conn: Connection, filters: Filters) -> dict[str, int | None]:
    """Return how many files were opened, how often, how much was read, and when last."""
    opened = and_(filters.condition(), columns.action == OPEN)
    files = select(columns.file).where(opened).distinct().subquery()
    is_read = columns.action == READ
    totals = conn.execute(
        select(
            func.count().filter(columns.action == OPEN).label("opens"),
            func.count().filter(is_read).label("reads"),
            func.sum(columns.length).filter(is_read).label("bytes"),
            func.max(columns.at_us).label("last_us"),
        ).where(filters.condition())
    ).one()
    return {
        "files": conn.execute(select(func.count()).select_from(files)).scalar_one(),
        "opens": totals.opens,
        "reads": totals.reads,
        "bytes": int(totals.bytes or 0),
        "last_us": totals.last_us,
    }


def match_path(path: str) -> ColumnElement[bool]:
    """Return the condition on `audit_file` that *path* is, exactly or up to its `*`."""
    if not path.endswith("*"):
        is_head = _indexed_head == path[:HEAD_CHARACTERS]
        # The whole of a shorter path is its head.
        is_short = len(path) < HEAD_CHARACTERS
        return is_head if is_short else and_(is_head, audit_file.c.path == path)
    # LIKE would give `_` and `%` a meaning, and takes `CT` for `ct` on SQLite.
    prefix = path[:-1]
    return func.substr(audit_file.c.path, 1, len(prefix)) == prefix


def _match_membership(each: Membership) -> ColumnElement[bool]:
    reader = select(audit_reader.c.id).where(audit_reader.c.owner == each.owner)
    term = and_(columns.reader == reader.scalar_subquery(), columns.at_us >= each.from_us)
    return term if each.until_us is None else and_(term, columns.at_us < each.until_us)


def _name(conn: Connection, rows: list[Row[Any]]) -> list[dict[str, Any]]:
    """Return the rows with their names, which are few beside the events."""
    files = _load(conn, select(audit_file), {row.file for row in rows})
    processes = _load(conn, select(audit_process), {row.process for row in rows})
    readers = _load(conn, select(audit_reader), {row.reader for row in rows})
    sources = _load(conn, select(audit_source), {row.source for row in rows})
    return [
        {
            "stream_id": sources[row.source].stream_id,
            "source": row.source,
            "seq": row.seq,
            "at_us": row.at_us,
            "owner": readers[row.reader].owner,
            "action": ACTIONS[row.action],
            "dataset": files[row.file].dataset,
            "path": files[row.file].path,
            "offset": row.start,
            "length": row.length,
            "duration_us": row.duration_us,
            "file_id": row.handle,
            "uid": processes[row.process].uid,
            "pid": processes[row.process].pid,
            "executable": processes[row.process].executable,
            "errno": row.errno,
        }
        for row in rows
    ]


def _load(conn: Connection, query: Select[Any], ids: set[int]) -> dict[int, Row[Any]]:
    table = query.get_final_froms()[0]
    return {row.id: row for row in conn.execute(query.where(table.c.id.in_(ids)))}
