"""Old months of the index as Parquet, in a folder or an object store: moved, verified, dropped.

A part is written down before its file exists, its file is read back and compared row by row, and
only then do its rows leave the hot index, in the transaction that makes the part count: a row is
in exactly one of the two at any time. What a move that died left is removed by the next.
"""

import asyncio
import hashlib
import io
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as arrow
from pyarrow import parquet
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from nightingale_hub.clock import month_bounds_us, now_us, to_datetime
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.service import Context
from nightingale_hub.services.audit.months import drop_months, format_month
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.audit import (
    audit_event,
    audit_file,
    audit_part,
    audit_process,
    audit_reader,
    audit_source,
)

log = logging.getLogger("nightingale")
PART_ROWS = 250_000  # what leaves the hot index in one transaction, for which others wait
ROW_GROUP_ROWS = 20_000
ROWS_AT_ONCE = 20_000
WRITING, COLD, DROPPING = "writing", "cold", "dropping"

whole, text = arrow.int64(), arrow.string()
SCHEMA = arrow.schema(
    [
        ("stream_id", text), ("source", arrow.int32()), ("seq", whole), ("at_us", whole),
        ("owner", text), ("action", arrow.int8()), ("dataset", text), ("path", text),
        ("offset", whole), ("length", whole), ("duration_us", whole), ("file_id", whole),
        ("uid", whole), ("pid", whole), ("executable", text), ("errno", arrow.int16()),
    ]
)  # fmt: skip
SORTED = [("dataset", "ascending"), ("path", "ascending"), ("at_us", "ascending")]


class LinesCame(Exception):
    """The hot index holds other rows of a part's time than went into it."""


class Store:
    """Where the files of parts are; every failure to reach it is an `OSError`."""

    def __init__(self, settings: NightingaleHub) -> None:
        """Use `audit_cold`, by default a folder of the state directory."""
        self.place = settings.audit_cold or str(settings.state_path / "audit" / "cold")
        try:
            self.files, self.root = fsspec.core.url_to_fs(self.place, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise OSError(f"audit_cold {self.place} cannot be used: {error}") from error
        self.is_local = "://" not in self.place

    def locate(self, name: str) -> str:
        """Return the address of the file *name*, as DuckDB takes it."""
        return f"{self.root}/{name}" if self.is_local else f"{self.place.rstrip('/')}/{name}"

    def put(self, name: str, data: bytes) -> None:
        """Write a new file."""
        path = f"{self.root}/{name}"
        self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.files.pipe_file(path, data)
        if self.is_local:
            Path(path).chmod(0o600)

    def get(self, name: str) -> bytes:
        """Return what is in a file."""
        return bytes(self.files.cat_file(f"{self.root}/{name}"))

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone is no error."""
        with suppress(FileNotFoundError):
            self.files.rm_file(f"{self.root}/{name}")


class Mover:
    """Moves what is old enough, a part at a time."""

    def __init__(self, context: Context, store: Store, clock: Callable[[], int] = now_us) -> None:
        """Move from the database of *context* into *store*."""
        self._context = context
        self._store = store
        self._clock = clock

    async def step(self) -> None:
        """Remove what is left over, then move every part of a month that is no longer hot."""
        await self.clean()
        while await self.move_next():
            pass
        before_us = find_hot_since(self._context.settings.audit_hot_months, self._clock())
        await self._context.write(lambda conn: drop_months(conn, before_us))

    async def clean(self) -> None:
        """Remove the files of parts that do not count, then their rows."""
        for row in await self._context.read(_list_uncounted):
            await asyncio.to_thread(self._store.remove, row.name)
            gone = delete(audit_part).where(audit_part.c.id == row.id)
            await self._context.write(lambda conn, gone=gone: conn.execute(gone))  # type: ignore[misc]

    async def move_next(self) -> bool:
        """Move the oldest part; return False when there is none to move."""
        before_us = find_hot_since(self._context.settings.audit_hot_months, self._clock())
        span = await self._context.read(lambda conn: find_span(conn, before_us))
        if span is None:
            return False
        since_us, until_us = span
        part = await self._context.write(lambda conn: self._note(conn, since_us, until_us))
        table = await self._context.read(lambda conn: load(conn, since_us, until_us))
        data = await asyncio.to_thread(write, table)
        await asyncio.to_thread(self._store.put, part.name, data)
        back = await asyncio.to_thread(self._store.get, part.name)
        if not await asyncio.to_thread(is_same, back, table):
            raise OSError(f"cold part {part.name} is not what was written; it stays hot")
        digest = hashlib.sha256(back).hexdigest()
        try:
            await self._context.write(
                lambda conn: self._switch(conn, part, table.num_rows, len(back), digest)
            )
        except LinesCame:
            log.info("lines came for %s while it was made; they are moved anew", part.name)
            return True
        return True

    def _note(self, conn: Connection, since_us: int, until_us: int) -> Row[Any]:
        name = f"{format_month(since_us)}/{since_us}-{secrets.token_hex(6)}.parquet"
        values = {"name": name, "since_us": since_us, "until_us": until_us, "state": WRITING}
        conn.execute(insert(audit_part).values(**values, rows=0, size=0, sha256="", at_us=0))
        return conn.execute(select(audit_part).where(audit_part.c.name == name)).one()

    def _switch(self, conn: Connection, part: Row[Any], rows: int, size: int, sha256: str) -> None:
        """Let the part count and its rows leave; raises `LinesCame` when there are others now."""
        if conn.execute(delete(audit_event).where(_between(part))).rowcount != rows:
            raise LinesCame
        at_us = self._clock()
        conn.execute(
            update(audit_part)
            .where(audit_part.c.id == part.id)
            .values(rows=rows, size=size, sha256=sha256, state=COLD, at_us=at_us)
        )
        said = {"name": part.name, "rows": rows, "sha256": sha256}
        said |= {"since_us": part.since_us, "until_us": part.until_us}
        append_leaf(conn, "cold_part", said, at_us)


def find_hot_since(hot_months: int, at_us: int) -> int:
    """Return the beginning of the oldest month that stays hot: this one and those before it."""
    now = to_datetime(at_us)
    months = now.year * 12 + now.month - 1 - hot_months
    return month_bounds_us(f"{months // 12:04d}-{months % 12 + 1:02d}")[0]


def find_span(conn: Connection, before_us: int) -> tuple[int, int] | None:
    """Return the time, within one month, of the oldest part of rows before *before_us*."""
    at_us = audit_event.c.at_us
    oldest = conn.execute(select(func.min(at_us)).where(at_us < before_us)).scalar_one()
    if oldest is None:
        return None
    until_us = month_bounds_us(format_month(oldest))[1]
    next_us = conn.execute(
        select(at_us)
        .where(at_us >= oldest, at_us < until_us)
        .order_by(at_us)
        .offset(PART_ROWS)
        .limit(1)
    ).scalar_one_or_none()
    if next_us is not None:
        until_us = next_us if next_us > oldest else oldest + 1
    return oldest, until_us


def load(conn: Connection, since_us: int, until_us: int) -> arrow.Table:
    """Return the rows of a time as a table, with their names, sorted by file."""
    event = audit_event.c
    query = (
        select(
            audit_source.c.stream_id, event.source, event.seq, event.at_us, audit_reader.c.owner,
            event.action, audit_file.c.dataset, audit_file.c.path, event.start, event.length,
            event.duration_us, event.handle, audit_process.c.uid, audit_process.c.pid,
            audit_process.c.executable, event.errno,
        )
        .select_from(audit_event)
        .join(audit_source, audit_source.c.id == event.source)
        .join(audit_reader, audit_reader.c.id == event.reader)
        .join(audit_file, audit_file.c.id == event.file)
        .join(audit_process, audit_process.c.id == event.process)
        .where(event.at_us >= since_us, event.at_us < until_us)
    )  # fmt: skip
    found = conn.execute(query.execution_options(yield_per=ROWS_AT_ONCE))
    batches = [
        arrow.record_batch(
            [arrow.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=True)],
            schema=SCHEMA,
        )
        for rows in found.partitions(ROWS_AT_ONCE)
        if (columns := list(zip(*rows, strict=True)))
    ]
    return arrow.Table.from_batches(batches, SCHEMA).sort_by([*SORTED, ("seq", "ascending")])


def write(table: arrow.Table) -> bytes:
    """Return *table* as Parquet."""
    file = io.BytesIO()
    parquet.write_table(
        table, file, compression="zstd", compression_level=9, row_group_size=ROW_GROUP_ROWS,
        use_dictionary=["stream_id", "source", "owner", "action", "dataset", "path", "executable",
                        "uid", "pid", "errno", "length", "offset"],
        column_encoding={"seq": "DELTA_BINARY_PACKED", "at_us": "DELTA_BINARY_PACKED",
                         "duration_us": "DELTA_BINARY_PACKED", "file_id": "DELTA_BINARY_PACKED"},
        write_page_index=True,
    )  # fmt: skip
    return file.getvalue()


def is_same(data: bytes, table: arrow.Table) -> bool:
    """Tell whether the Parquet *data* holds exactly *table*."""
    try:
        return bool(parquet.read_table(io.BytesIO(data)).equals(table))
    except (arrow.ArrowException, OSError):
        return False


def _between(part: Row[Any]) -> Any:
    return (audit_event.c.at_us >= part.since_us) & (audit_event.c.at_us < part.until_us)


def _list_uncounted(conn: Connection) -> list[Row[Any]]:
    return list(conn.execute(select(audit_part).where(audit_part.c.state != COLD)))
