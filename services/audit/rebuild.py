"""Makes the rows of every batch anew from the segment files alone.

A file may hold frames whose commit failed: they were never acknowledged, and the lines came
again. A number is only ever given again when the batch that had it was not committed, so a frame
numbered n proves that no earlier frame from n on was, and takes their place.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from nightingale_hub.audit_chain import begin
from nightingale_hub.services.audit.cold import DROPPING
from nightingale_hub.services.audit.frame import Header
from nightingale_hub.services.audit.names import TABLES
from nightingale_hub.services.audit.retention import DROPPED
from nightingale_hub.services.audit.segments import Place, list_files, scan
from nightingale_hub.tables.audit import audit_batch, audit_event, audit_part, audit_stream
from nightingale_hub.tables.instances import instance

log = logging.getLogger("nightingale")
Stored = tuple[Header, Place]


def replay(
    directory: Path, dropped: Mapping[str, tuple[int, str]] | None = None
) -> dict[str, list[Stored]]:
    """Return the batches of each stream that the segment files hold, contiguous from 1.

    *dropped* says up to which line and chain a stream's lines were dropped after their time.
    """
    streams: dict[str, list[Stored]] = {}
    for header, place in _list_committed(directory):
        stored = streams.setdefault(header.stream_id, [])
        if stored:
            last_seq, chain = stored[-1][0].last_seq, stored[-1][0].chain
        else:
            first = (0, begin(header.stream_id, header.public_key))
            last_seq, chain = (dropped or {}).get(header.stream_id, first)
        if header.first_seq == last_seq + 1 and header.prev_chain == chain:
            stored.append((header, place))
        else:
            log.critical(
                "audit stream %s: lines %d to %d are lost, so %s at %d is left out",
                header.stream_id,
                last_seq + 1,
                header.first_seq - 1,
                place.file,
                place.position,
            )
    return {stream_id: stored for stream_id, stored in streams.items() if stored}


def rebuild(conn: Connection, directory: Path) -> list[str]:
    """Replace every stream, batch and event by what the segment files hold.

    The index is empty afterwards and fills up as batches are indexed. Returns the streams of
    instances that the database does not know, which are left out. Run it while nothing ingests.
    """
    for table in (audit_event, *TABLES):
        conn.execute(delete(table))
    conn.execute(delete(audit_batch).where(audit_batch.c.file != DROPPED))
    # What is in them comes again from the segments; the mover removes their files.
    conn.execute(update(audit_part).values(state=DROPPING))
    dropped = _list_dropped(conn)
    for stream_id in set(conn.execute(select(audit_stream.c.id)).scalars()) - dropped.keys():
        conn.execute(update(audit_stream).where(audit_stream.c.id == stream_id).values(last_seq=0))
    known = set(conn.execute(select(instance.c.id)).scalars())
    opened = set(conn.execute(select(audit_stream.c.id)).scalars())
    left_out = []
    for stream_id, stored in replay(directory, dropped).items():
        first, last = stored[0][0], stored[-1][0]
        if first.instance_id not in known:
            left_out.append(stream_id)
            continue
        if stream_id not in opened:
            conn.execute(
                insert(audit_stream).values(
                    id=stream_id,
                    instance_id=first.instance_id,
                    owner=first.owner,
                    opened_us=first.received_us,
                    last_seq=0,
                    public_key=first.public_key,
                )
            )
        conn.execute(
            update(audit_stream)
            .where(audit_stream.c.id == stream_id)
            .values(last_seq=last.last_seq, chain=last.chain, seen_us=last.received_us)
        )
        _insert_batches(conn, stored)
    return left_out


def _list_dropped(conn: Connection) -> dict[str, tuple[int, str]]:
    query = select(audit_batch).where(audit_batch.c.file == DROPPED)
    rows = conn.execute(query.order_by(audit_batch.c.number))
    return {row.stream_id: (row.last_seq, row.chain) for row in rows}


def _list_committed(directory: Path) -> list[Stored]:
    committed: list[Stored] = []
    for name in list_files(directory):
        for place, frame in scan(directory, name):
            while committed and committed[-1][0].number >= frame.header.number:
                committed.pop()
            committed.append((frame.header, place))
    return committed


def _insert_batches(conn: Connection, stored: Iterable[Stored]) -> None:
    conn.execute(
        insert(audit_batch),
        [
            {
                "stream_id": header.stream_id,
                "first_seq": header.first_seq,
                "last_seq": header.last_seq,
                "sha256": header.sha256,
                "file": place.file,
                "position": place.position,
                "length": place.length,
                "received_us": header.received_us,
                "number": header.number,
                "prev_chain": header.prev_chain,
                "chain": header.chain,
                "root": header.root,
                "signature": header.signature,
            }
            for header, place in stored
        ],
    )
