"""Writes many rows with one statement, on either engine: what the database does best.

SQLAlchemy's own way spends several times as long on each row as the databases do.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table


def insert_rows(
    conn: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    *,
    skip_known: str | None = None,
) -> None:
    """Insert *rows*, each with a value for each of *columns*, in order.

    A row whose *skip_known* column holds a value that is there already is left out.
    """
    if not rows:
        return
    assert set(columns) <= set(table.c.keys())
    names = ", ".join(columns)
    tail = f" ON CONFLICT ({skip_known}) DO NOTHING" if skip_known else ""
    if conn.dialect.name == "sqlite":
        marks = ", ".join("?" for _ in columns)
        # The names are those of our own schema.
        conn.exec_driver_sql(
            f"INSERT INTO {table.name} ({names}) VALUES ({marks}){tail}",  # noqa: S608
            list(rows),
        )
        return
    types = [table.c[name].type.compile(conn.dialect) for name in columns]
    arrays = ", ".join(f"%s::{kind}[]" for kind in types)
    conn.exec_driver_sql(
        f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays}){tail}",  # noqa: S608
        tuple(list(column) for column in zip(*rows, strict=True)),
    )


def insert_numbers(
    conn: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[int, ...]]
) -> None:
    """Insert *rows* of whole numbers alone, by COPY where the engine has it."""
    if conn.dialect.name == "sqlite" or not rows:
        insert_rows(conn, table, columns, rows)
        return
    text = "\n".join(["\t".join(map(str, row)) for row in rows])
    cursor = conn.connection.cursor()
    # The names are those of our own schema.
    with cursor.copy(f"COPY {table.name} ({', '.join(columns)}) FROM STDIN") as copy:
        copy.write(f"{text}\n")


def reserve_ids(conn: Connection, table: Table, count: int) -> list[int]:
    """Return *count* ids of *table* that nobody else will get, in order."""
    if conn.dialect.name == "sqlite":
        # The transaction holds the only write lock there is.
        last = conn.exec_driver_sql(f"SELECT coalesce(max(id), 0) FROM {table.name}")  # noqa: S608
        first = int(last.scalar_one()) + 1
        return list(range(first, first + count))
    rows = conn.exec_driver_sql(
        f"SELECT nextval(pg_get_serial_sequence('{table.name}', 'id')) "  # noqa: S608
        f"FROM generate_series(1, {count})"
    )
    return [int(row[0]) for row in rows]
