"""Names in the index: each stands once, and events refer to it by number.

Only the indexer makes them. They are committed before the events that refer to them, and what is
remembered was committed; a name without an event does no harm.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, select

from nightingale_hub.bulk import insert_rows
from nightingale_hub.tables.audit import audit_file, audit_process, audit_reader, audit_source

# Those that refer to others first.
TABLES = (audit_process, audit_source, audit_file, audit_reader)
MAX_REMEMBERED = 200_000
NAMES_AT_ONCE = 500  # below what SQLite takes as parameters of one statement

Key = str | bytes


def ensure_numbers(
    conn: Connection, key: Column[Any], columns: Sequence[str], rows: dict[Any, tuple[Any, ...]]
) -> dict[Any, int]:
    """Return the number of each name of *rows*, inserting those that are new; by *key*.

    A row's values are those of *columns*, of which the first is the key.
    """
    found = _find_numbers(conn, key, list(rows))
    new = [values for name, values in rows.items() if name not in found]
    if new:
        insert_rows(conn, key.table, columns, new)
        found |= _find_numbers(conn, key, [values[0] for values in new])
    return found


def _find_numbers(conn: Connection, key: Column[Any], names: list[Any]) -> dict[Any, int]:
    found = {}
    for at in range(0, len(names), NAMES_AT_ONCE):
        some = names[at : at + NAMES_AT_ONCE]
        for name, number in conn.execute(select(key, key.table.c.id).where(key.in_(some))):
            found[bytes(name) if isinstance(name, memoryview) else name] = number
    return found


def ensure_readers(conn: Connection, owners: Sequence[str]) -> dict[Any, int]:
    """Return the number of each owner."""
    rows = {owner: (owner,) for owner in owners}
    return ensure_numbers(conn, audit_reader.c.owner, ("owner",), rows)


def ensure_sources(conn: Connection, stream_ids: Sequence[str]) -> dict[Any, int]:
    """Return the number of each stream."""
    rows = {stream_id: (stream_id,) for stream_id in stream_ids}
    return ensure_numbers(conn, audit_source.c.stream_id, ("stream_id",), rows)


def ensure_files(conn: Connection, files: Sequence[tuple[str, str]]) -> dict[Any, int]:
    """Return the number of each (dataset, path), by its hash."""
    rows = {}
    for dataset, path in files:
        key = hash_file(dataset, path)
        rows[key] = (key, dataset, path)
    return ensure_numbers(conn, audit_file.c.key, ("key", "dataset", "path"), rows)


def ensure_processes(
    conn: Connection, processes: Sequence[tuple[int, int, int, str]]
) -> dict[Any, int]:
    """Return the number of each (source, uid, pid, executable), by its hash."""
    rows = {}
    for process in processes:
        key = hash_process(*process)
        rows[key] = (key, *process)
    columns = ("key", "source", "uid", "pid", "executable")
    return ensure_numbers(conn, audit_process.c.key, columns, rows)


def hash_file(dataset: str, path: str) -> bytes:
    """Return the key of a file."""
    return hashlib.sha256(f"{dataset}\0{path}".encode()).digest()


def hash_process(source: int, uid: int, pid: int, executable: str) -> bytes:
    """Return the key of a process."""
    return hashlib.sha256(f"{source}\0{uid}\0{pid}\0{executable}".encode()).digest()
