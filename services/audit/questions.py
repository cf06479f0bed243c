"""Answers to whole questions: who read this file, and what did this person or this run read."""

from typing import Any

from sqlalchemy import Connection, Select, collate, func, select, tuple_

from nightingale_hub.services.audit.search import DENIED, OPEN, READ, Filters, columns
from nightingale_hub.tables.audit import audit_event, audit_file, audit_reader, audit_stream


def list_readers(conn: Connection, filters: Filters) -> list[dict[str, Any]]:
    """Return who read what *filters* name, how often and how much, the last reader first."""
    query = (
        select(audit_reader.c.owner, *_totals())
        .select_from(audit_event)
        .join(audit_reader, audit_reader.c.id == columns.reader)
        .where(filters.condition())
        .group_by(audit_reader.c.owner)
        .order_by(func.max(columns.at_us).desc(), audit_reader.c.owner)
    )
    return [_to_dict(row._mapping) for row in conn.execute(query)]


def list_files(
    conn: Connection, filters: Filters, limit: int, after: tuple[str, str] | None
) -> list[dict[str, Any]]:
    """Return at most *limit* files that were read as *filters* say, by dataset and path."""
    # By code point on every database, as the cold parts are: a page begins where one ended.
    order = "C" if conn.dialect.name == "postgresql" else "BINARY"
    names = (collate(audit_file.c.dataset, order), collate(audit_file.c.path, order))
    key = tuple_(*names)
    query: Select[Any] = (
        select(audit_file.c.dataset, audit_file.c.path, *_totals())
        .select_from(audit_event)
        .join(audit_file, audit_file.c.id == columns.file)
        .where(filters.condition())
        .group_by(audit_file.c.dataset, audit_file.c.path)
        .order_by(*names)
        .limit(limit)
    )
    if after is not None:
        query = query.where(key > tuple_(*after))
    return [_to_dict(row._mapping) for row in conn.execute(query)]


def list_record(conn: Connection, filters: Filters) -> list[dict[str, Any]]:
    """Return totals, and how often it was refused, for each person and path of a dataset."""
    refused = func.count().filter(columns.action == DENIED).label("refused")
    query = (
        select(audit_reader.c.owner, audit_file.c.path, refused, *_totals())
        .select_from(audit_event)
        .join(audit_reader, audit_reader.c.id == columns.reader)
        .join(audit_file, audit_file.c.id == columns.file)
        .where(filters.condition())
        .group_by(audit_reader.c.owner, audit_file.c.path)
    )
    return [_to_dict(row._mapping) for row in conn.execute(query)]


def list_streams(conn: Connection, instance_id: str) -> list[dict[str, Any]]:
    """Return an instance's streams and how far each is durable, as its manifest names them."""
    query = select(audit_stream).where(audit_stream.c.instance_id == instance_id)
    return [
        {
            "stream_id": row.id,
            "public_key": row.public_key,
            "last_seq": row.last_seq,
            "chain": row.chain,
            "ended_us": row.ended_us,
        }
        for row in conn.execute(query.order_by(audit_stream.c.id))
    ]


def _totals() -> list[Any]:
    is_read = columns.action == READ
    return [
        func.count().filter(columns.action == OPEN).label("opens"),
        func.count().filter(is_read).label("reads"),
        func.sum(columns.length).filter(is_read).label("bytes"),
        func.min(columns.at_us).label("first_us"),
        func.max(columns.at_us).label("last_us"),
    ]


def _to_dict(row: Any) -> dict[str, Any]:
    return {**row, "bytes": int(row["bytes"] or 0)}
