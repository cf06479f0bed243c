"""A stream: one instance boot's lines, contiguous from 1, of which the database knows the end.

A batch is settled against what is stored before it is written: it is new, a repetition, ahead
of a gap, or it contradicts what was acknowledged. The decision is a value, not an error. What is
written down here has its leaf in the same transaction.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from nightingale_hub.audit_chain import Seal, begin
from nightingale_hub.errors import BadInput, Unavailable
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.services.audit.batch import Batch
from nightingale_hub.services.audit.segments import Place
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
    """Line *seq* was acknowledged with other content, or behind another chain."""

    seq: int


@dataclass(frozen=True)
class NotOpen:
    """The stream has no key yet."""


Answer = Ack | Gap | Contradiction | NotOpen


def parse_stream_id(text: str) -> tuple[str, str]:
    """Return the instance id and the boot id of a stream id; raises `BadInput`."""
    match = re.fullmatch(r"([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]{1,64})", text)
    if match is None:
        raise BadInput("a stream id is <instance id>:<boot id>")
    return match[1], match[2]


def find(conn: Connection, stream_id: str) -> Row[Any] | None:
    """Return the record of a stream, or None."""
    return conn.execute(select(audit_stream).where(audit_stream.c.id == stream_id)).one_or_none()


def open_stream(
    conn: Connection, stream_id: str, owner: str, public_key: str, at_us: int
) -> Ack | Contradiction:
    """Give the stream its key, once, with a leaf; another key than it has is a contradiction."""
    found = find(conn, stream_id) or _insert(conn, stream_id, owner, public_key, at_us)
    is_same = found.public_key == public_key
    return Ack(found.last_seq) if is_same else Contradiction(found.last_seq)


def get_indexed_seq(conn: Connection, stream: Row[Any]) -> int:
    """Return up to which line the index holds *stream* without a gap."""
    first_missing = conn.execute(
        select(func.min(audit_batch.c.first_seq)).where(
            audit_batch.c.stream_id == stream.id, audit_batch.c.is_indexed.is_(False)
        )
    ).scalar_one()
    return int(stream.last_seq if first_missing is None else first_missing - 1)


def get_newest_number(conn: Connection) -> int:
    """Return the number of the batch that became durable last; 0 before the first."""
    return int(conn.execute(select(func.max(audit_batch.c.number))).scalar_one() or 0)


def settle(conn: Connection, batch: Batch) -> Answer | Batch:
    """Return what becomes of *batch*: an answer, or itself when it is new and next."""
    stream = find(conn, batch.stream_id)
    if stream is None or stream.public_key is None:
        return NotOpen()
    if batch.first_seq > stream.last_seq + 1:
        return Gap(stream.last_seq + 1)
    if batch.first_seq == stream.last_seq + 1:
        is_next = batch.seal.prev_chain == stream.chain
        return batch if is_next else Contradiction(batch.first_seq)
    stored = conn.execute(
        select(audit_batch.c.chain).where(
            audit_batch.c.stream_id == batch.stream_id, audit_batch.c.first_seq == batch.first_seq
        )
    ).scalar_one_or_none()
    # A sealed batch comes again as it was: in other bounds it is another history.
    is_same = stored == batch.seal.chain
    return Ack(stream.last_seq) if is_same else Contradiction(batch.first_seq)


def record(conn: Connection, written: Sequence[tuple[Batch, Place]], at_us: int) -> None:
    """Write down that each batch is durable at its place; the caller commits.

    Recording the same write again changes nothing, for a commit whose answer was lost is tried
    again.
    """
    for batch, place in written:
        if _is_recorded(conn, batch, place):
            continue
        seal = _describe(batch.seal)
        advanced = conn.execute(
            update(audit_stream)
            .where(
                audit_stream.c.id == batch.stream_id,
                audit_stream.c.chain == batch.seal.prev_chain,
            )
            .values(last_seq=batch.last_seq, chain=batch.seal.chain, seen_us=at_us, ended_us=None)
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
                number=batch.number,
                **seal,
            )
        )
        header = {
            "stream_id": batch.stream_id,
            "number": batch.number,
            "first_seq": batch.first_seq,
            "last_seq": batch.last_seq,
            "sha256": batch.sha256,
        }
        append_leaf(conn, "batch", header | seal, at_us)


def _insert(conn: Connection, stream_id: str, owner: str, public_key: str, at_us: int) -> Row[Any]:
    instance_id, _ = parse_stream_id(stream_id)
    values = {
        "id": stream_id,
        "instance_id": instance_id,
        "owner": owner,
        "opened_us": at_us,
        "last_seq": 0,
        "public_key": public_key,
        "chain": begin(stream_id, public_key),
    }
    # Of two that open at once the second waits here, then finds it opened.
    with suppress(IntegrityError), conn.begin_nested():
        conn.execute(insert(audit_stream).values(**values))
        payload = {"stream_id": stream_id, "owner": owner, "public_key": public_key}
        append_leaf(conn, "stream_open", payload, at_us)
    found = find(conn, stream_id)
    assert found is not None
    return found


def _describe(seal: Seal) -> dict[str, str]:
    return {name: getattr(seal, name) for name in ("prev_chain", "chain", "root", "signature")}


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
