"""Finds events in the cold parts, by the same filters as the hot index, through DuckDB.

Every value is a bound parameter. Only parts whose time may match are opened, and of those only
what their page index does not rule out. Nothing is cached but DuckDB's own reading of footers.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
from sqlalchemy import Connection, Row, select

from nightingale_hub.errors import Unavailable
from nightingale_hub.services.audit.cold import COLD, Store
from nightingale_hub.services.audit.event import ACTIONS, LARGEST
from nightingale_hub.services.audit.search import OPEN, READ, Cursor, Filters
from nightingale_hub.tables.audit import audit_part

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "memory_limit": "512MB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "enable_object_cache": True,
}
TOTALS = f"""
    count(*) FILTER (action = {OPEN}) AS opens, count(*) FILTER (action = {READ}) AS reads,
    coalesce(sum(length) FILTER (action = {READ}), 0)::BIGINT AS bytes,
    min(at_us) AS first_us, max(at_us) AS last_us"""
KEY = ("dataset", "path")


@dataclass(frozen=True)
class Parts:
    """The parts that a question is about, newest last."""

    rows: Sequence[Row[Any]]

    def until(self, at_us: int) -> "Parts":
        """Return those that may hold anything from *at_us* on."""
        return Parts([row for row in self.rows if row.until_us > at_us])


def list_parts(conn: Connection, filters: Filters) -> Parts:
    """Return the parts whose time *filters* do not rule out."""
    query = select(audit_part).where(audit_part.c.state == COLD)
    if filters.since_us is not None:
        query = query.where(audit_part.c.until_us > filters.since_us)
    if filters.until_us is not None:
        query = query.where(audit_part.c.since_us < filters.until_us)
    return Parts(conn.execute(query.order_by(audit_part.c.since_us, audit_part.c.id)).all())


class Archive:
    """The cold parts of one hub."""

    def __init__(self, store: Store) -> None:
        """Read from *store*; opens nothing yet."""
        self._store = store
        self._lock = threading.Lock()
        self._duckdb: duckdb.DuckDBPyConnection | None = None

    def list_events(
        self, parts: Parts, filters: Filters, limit: int, before: Cursor | None
    ) -> list[dict[str, Any]]:
        """Return at most *limit* events, newest first, each with its `source` number."""
        terms, values = _match(filters)
        if before is not None:
            terms.append("(at_us, source, seq) < (?, ?, ?)")
            values += [before.at_us, before.source, before.seq]
        found = self._ask(
            parts, "*", terms, values, f"ORDER BY at_us DESC, source DESC, seq DESC LIMIT {limit:d}"
        )
        return [{**row, "action": ACTIONS[row["action"]]} for row in found]

    def list_readers(self, parts: Parts, filters: Filters) -> list[dict[str, Any]]:
        """Return a row of totals for each owner."""
        terms, values = _match(filters)
        return self._ask(parts, f"owner, {TOTALS}", terms, values, "GROUP BY owner")

    def list_files(
        self, parts: Parts, filters: Filters, limit: int, after: tuple[str, str] | None
    ) -> list[dict[str, Any]]:
        """Return totals of the first *limit* files behind *after*, by dataset and path."""
        terms, values = _match(filters)
        if after is not None:
            terms.append("(dataset, path) > (?, ?)")
            values += after
        tail = f"GROUP BY dataset, path ORDER BY dataset, path LIMIT {limit:d}"
        return self._ask(parts, f"dataset, path, {TOTALS}", terms, values, tail)

    def list_record(self, parts: Parts, filters: Filters) -> list[dict[str, Any]]:
        """Return a row of totals for each owner and path, with what was refused."""
        denied = f"count(*) FILTER (action = {ACTIONS.index('denied')}) AS refused"
        terms, values = _match(filters)
        columns = f"owner, path, {denied}, {TOTALS}"
        return self._ask(parts, columns, terms, values, "GROUP BY owner, path")

    def _ask(
        self, parts: Parts, columns: str, terms: list[str], values: list[Any], tail: str
    ) -> list[dict[str, Any]]:
        if not parts.rows:
            return []
        places = [self._store.locate(row.name) for row in parts.rows]
        where = f"WHERE {' AND '.join(terms)}" if terms else ""
        # Columns, terms and tail are this module's own text; what is asked for is bound.
        query = f"SELECT {columns} FROM read_parquet(?) {where} {tail}"  # noqa: S608
        try:
            with self._open() as cursor:
                cursor.execute(query, [places, *values])
                names = [each[0] for each in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except (duckdb.Error, OSError) as error:
            raise Unavailable(f"old reads cannot be read now: {str(error)[:200]}") from error

    def _open(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._duckdb is None:
                self._duckdb = duckdb.connect(config=SETTINGS)
                if not self._store.is_local:
                    self._duckdb.register_filesystem(self._store.files)
            return self._duckdb.cursor()


def _match(filters: Filters) -> tuple[list[str], list[Any]]:
    terms: list[str] = []
    values: list[Any] = []
    for name in ("owner", "dataset", "executable", "pid"):
        value = getattr(filters, name)
        if value is not None:
            terms.append(f"{name} = ?")
            values.append(value)
    if filters.path is not None:
        is_prefix = filters.path.endswith("*")
        terms.append("starts_with(path, ?)" if is_prefix else "path = ?")
        values.append(filters.path[:-1] if is_prefix else filters.path)
    if filters.instance is not None:
        terms.append("starts_with(stream_id, ?)")
        values.append(f"{filters.instance}:")
    if filters.project is not None:
        spans = ["(owner = ? AND at_us >= ? AND at_us < ?)" for _ in filters.project]
        terms.append(f"({' OR '.join(spans or ['false'])})")
        for each in filters.project:
            values += [each.owner, each.from_us, each.until_us or LARGEST]
    if filters.since_us is not None:
        terms.append("at_us >= ?")
        values.append(filters.since_us)
    if filters.until_us is not None:
        terms.append("at_us < ?")
        values.append(filters.until_us)
    return terms, values
