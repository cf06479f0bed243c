"""A stream: one instance boot's lines, contiguous from 1, of which the database knows the end.

A batch is settled against what is stored before it is written: it is new, a repetition, ahead
of a gap, or it contradicts what was acknowledged. The decision is a value, not an error.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from nightingale_hub.errors import BadInput, Unavailable
from nightingale_hub.services.audit.batch import Batch, cut, unpack
from nightingale_hub.services.audit.event import split_lines
from nightingale_hub.services.audit.segments import Place, Segments
from nightingale_hub.tables.audit import audit_batch, audit_stream


@dataclass(frozen=True)
class Ack:
    """Everything up to *last_seq* is durable."""

    last_seq: int


@dataclass(frozen=True)
class Gap:
    """The batch starts after line *expect*, which has not come yet."""

    expect: int


@dataclass(frozen=True)
class Contradiction:
    """Line *seq* was acknowledged with other content."""

    seq: int


def parse_stream_id(text: str) -> tuple[str, str]:
    """Return the instance id and the boot id of a stream id; raises `BadInput`."""
    match = re.fullmatch(r"([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]{1,64})", text)
    if match is None:
        raise BadInput("a stream id is <instance id>:<boot id>")
    return match[1], match[2]


def find(conn: Connection, stream_id: str) -> Row[Any] | None:
    """Return the record of a stream, or None."""
    return conn.execute(select(audit_stream).where(audit_stream.c.id == stream_id)).one_or_none()


def get_indexed_seq(conn: Connection, stream: Row[Any]) -> int:
    """Return up to which line the index holds *stream* without a gap."""
    first_missing = conn.execute(
        select(func.min(audit_batch.c.first_seq)).where(
            audit_batch.c.stream_id == stream.id, audit_batch.c.is_indexed.is_(False)
        )
    ).scalar_one()
    return int(stream.last_seq if first_missing is None else first_missing - 1)


def settle(conn: Connection, segments: Segments, batch: Batch) -> Ack | Gap | Contradiction | Batch:
    """Return what becomes of *batch*: an answer, or the part of it that is new.

    Reads segment files where the batch overlaps what is stored; raises `DamagedFrame` when
    those cannot be read.
    """
    stream = find(conn, batch.stream_id)
    last_seq = 0 if stream is None else stream.last_seq
    if batch.first_seq > last_seq + 1:
        return Gap(last_seq + 1)
    if batch.first_seq == last_seq + 1:
        return batch
    if _is_stored(conn, batch):
        return Ack(last_seq)
    lines = split_lines(unpack(batch.payload))
    for seq, line in _iterate_stored(conn, segments, batch):
        if line != lines[seq - batch.first_seq]:
            return Contradiction(seq)
    return Ack(last_seq) if batch.last_seq <= last_seq else cut(batch, last_seq)


def record(conn: Connection, written: Sequence[tuple[Batch, Place]], at_us: int) -> None:
    """Write down that each batch is durable at its place; the caller commits.

    Recording the same write again changes nothing, for a commit whose answer was lost is tried
    again.
    """
    for batch, place in written:
        if _is_recorded(conn, batch, place):
            continue
        if find(conn, batch.stream_id) is None:
            conn.execute(
                insert(audit_stream).values(
                    id=batch.stream_id,
                    instance_id=batch.instance_id,
                    owner=batch.owner,
                    opened_us=at_us,
                    last_seq=0,
                )
            )
        advanced = conn.execute(
            update(audit_stream)
            .where(
                audit_stream.c.id == batch.stream_id,
                audit_stream.c.last_seq == batch.first_seq - 1,
            )
            .values(last_seq=batch.last_seq)
        ).rowcount
        if advanced != 1:
            raise Unavailable(f"stream {batch.stream_id} moved meanwhile; send the batch again")
        conn.execute(
            insert(audit_batch).values(
                stream_id=batch.stream_id,
                first_seq=batch.first_seq,
                last_seq=batch.last_seq,
                sha256=batch.sha256,
                file=place.file,
                position=place.position,
                length=place.length,
                received_us=at_us,
            )
        )


def _is_stored(conn: Connection, batch: Batch) -> bool:
    return (
        conn.execute(
            select(audit_batch.c.first_seq).where(
                audit_batch.c.stream_id == batch.stream_id,
                audit_batch.c.first_seq == batch.first_seq,
                audit_batch.c.last_seq == batch.last_seq,
                audit_batch.c.sha256 == batch.sha256,
            )
        ).one_or_none()
        is not None
    )


def _is_recorded(conn: Connection, batch: Batch, place: Place) -> bool:
    return (
        conn.execute(
            select(audit_batch.c.first_seq).where(
                audit_batch.c.stream_id == batch.stream_id,
                audit_batch.c.first_seq == batch.first_seq,
                audit_batch.c.file == place.file,
                audit_batch.c.position == place.position,
            )
        ).one_or_none()
        is not None
    )


def _iterate_stored(
    conn: Connection, segments: Segments, batch: Batch
) -> Iterator[tuple[int, bytes]]:
    rows = conn.execute(
        select(audit_batch)
        .where(
            audit_batch.c.stream_id == batch.stream_id,
            audit_batch.c.first_seq <= batch.last_seq,
            audit_batch.c.last_seq >= batch.first_seq,
        )
        .order_by(audit_batch.c.first_seq)
    )
    for row in rows:
        lines = segments.load_lines(Place(row.file, row.position, row.length), row.sha256)
        for seq, line in enumerate(split_lines(lines), row.first_seq):
            if batch.first_seq <= seq <= batch.last_seq:
                yield seq, line
