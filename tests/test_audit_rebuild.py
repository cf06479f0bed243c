"""The index is exactly what the segment files hold, whatever happened to either."""

import asyncio
import logging
from dataclasses import replace

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError

from nightingale_hub.services.audit import index, service, stream
from nightingale_hub.services.audit.batch import Batch, hash_lines
from nightingale_hub.services.audit.frame import encode
from nightingale_hub.services.audit.names import TABLES
from nightingale_hub.services.audit.numbers import Numbers
from nightingale_hub.services.audit.reader import list_batches
from nightingale_hub.services.audit.rebuild import rebuild, replay
from nightingale_hub.services.audit.search import Filters
from nightingale_hub.services.audit.search import list_rows as search
from nightingale_hub.services.audit.segments import Place, Segments, list_files
from nightingale_hub.tables.audit import audit_batch, audit_event, audit_stream
from tests.audit import (
    AT_US,
    add_instance,
    audit_service,
    count_batches,
    list_sent,
    list_stored,
    make_line,
    make_lines,
    pack,
)


def list_rows(database):
    """Every row that a rebuild makes; when a stream was opened before its first line is lost."""
    streams = select(*(each for each in audit_stream.c if each.name != "opened_us"))
    with database.read() as conn:
        return [
            [tuple(row) for row in conn.execute(query.order_by(*table.primary_key))]
            for table, query in (
                (audit_stream, streams),
                (audit_batch, select(audit_batch)),
            )
        ] + [
            sorted(
                ({**row, "source": 0} for row in search(conn, Filters(), 1000, None)),
                key=lambda each: (each["stream_id"], each["seq"]),
            )
        ]


def make_batch(sender, first_seq, lines, number=None):
    text = b"".join(line + b"\n" for line in lines)
    last_seq = first_seq + len(lines) - 1
    return Batch(
        sender.stream_id, sender.instance_id, sender.owner, first_seq, last_seq,
        hash_lines(text), pack(lines), sender.seal(first_seq, lines),
        sender.signer.public_key, number or first_seq,
    )  # fmt: skip


def make_frame(sender, first_seq, lines, number=None):
    """A frame that was written and never committed."""
    return encode(make_batch(sender, first_seq, lines, number), AT_US)


async def test_the_files_alone_give_every_row_again(database, tmp_path):
    state = tmp_path / "state"
    senders = [add_instance(database, owner) for owner in ("alice", "bob")]
    for first in (1, 6, 11):  # each in a process, and so a file, of its own
        async with audit_service(database, state) as audit:
            for sender in senders:
                lines = make_lines(first, first + 4, owner=sender.owner)
                assert (await audit.send(sender, first, lines)).status_code == 200
                await audit.wait_indexed(sender, first + 4)
            newest = audit.segments / list_files(audit.segments)[-1]
        if first < 11:
            # What a killed process leaves: lines that were never acknowledged, and a torn frame.
            orphan = [make_line(first + 5 + n, path="orphan") for n in range(8)]
            number = count_batches(database) + 1
            orphan_frame = make_frame(senders[0], first + 5, orphan, number)
            with newest.open("ab") as file:
                file.write(orphan_frame + orphan_frame[:-1])
    before = list_rows(database)
    assert len(before[2]) == 30
    with database.write() as conn:
        for table in (audit_event, *TABLES, audit_batch, audit_stream):
            conn.execute(delete(table))
        assert rebuild(conn, audit.segments) == []
    async with audit_service(database, state) as audit:
        for sender in senders:
            await audit.wait_indexed(sender, 15)
            assert list_stored(database, sender) == list_sent(15)
    after = list_rows(database)
    assert after == before


async def test_a_stream_of_an_unknown_instance_is_named_by_a_rebuild(database, tmp_path):
    sender = add_instance(database)
    async with audit_service(database, tmp_path / "state") as audit:
        await audit.send(sender, 1, make_lines(1, 2))
        await audit.wait_indexed(sender, 2)
    gone = replace(sender, instance_id="i-gone", chains={})
    file = audit.segments / list_files(audit.segments)[-1]
    with file.open("ab") as segment:
        segment.write(make_frame(gone, 1, make_lines(1, 2), 2))
    with database.write() as conn:
        assert rebuild(conn, audit.segments) == [gone.stream_id]
        rows = conn.execute(select(audit_batch.c.stream_id)).scalars().all()
    assert rows == [sender.stream_id]


async def test_lines_after_a_lost_frame_are_not_passed_off_as_whole(database, tmp_path, caplog):
    sender = add_instance(database)
    segments = tmp_path / "segments"
    segments.mkdir()
    first, third = make_lines(1, 2), make_lines(5, 6)
    (segments / "0000000001-000001.seg").write_bytes(
        make_frame(sender, 1, first) + make_frame(sender, 5, third)
    )
    told = replay(segments)[sender.stream_id]
    assert [header.last_seq for header, _ in told] == [2]
    assert "lines 3 to 4 are lost" in caplog.text


async def test_a_frame_with_one_wrong_byte_is_not_replayed(database, tmp_path):
    sender = add_instance(database)
    whole, damaged = (make_frame(sender, first, make_lines(first, first)) for first in (1, 2))
    damaged = damaged.replace(b'"owner":"alice"', b'"owner":"alicf"')
    (tmp_path / "0000000001-000001.seg").write_bytes(whole + damaged)
    told = replay(tmp_path)[sender.stream_id]
    assert [header.last_seq for header, _ in told] == [1]


async def test_a_commit_whose_answer_was_lost_may_be_made_again(database):
    sender = add_instance(database)
    with database.write() as conn:
        stream.open_stream(conn, sender.stream_id, "alice", sender.signer.public_key, AT_US)
    written = [(make_batch(sender, 1, make_lines(1, 3)), Place("0000000001-000001.seg", 0, 9))]
    for _ in range(2):
        with database.write() as conn:
            stream.record(conn, written, AT_US)
    assert count_batches(database) == 1


@pytest.mark.parametrize("damage", ["a byte of the file", "the hash in the database", "the file"])
async def test_one_damaged_batch_holds_up_no_other_and_is_critical(
    database, tmp_path, caplog, damage
):
    senders = [add_instance(database) for _ in range(3)]

    def without_index(context):
        made = service.make(context)
        return replace(made, loops=made.loops[:1])

    async with audit_service(database, tmp_path / "state", without_index) as audit:
        for sender in senders:
            await audit.send(sender, 1, make_lines(1, 3))
        with database.read() as conn:
            place = conn.execute(
                select(audit_batch).where(audit_batch.c.stream_id == senders[1].stream_id)
            ).one()
    if damage == "a byte of the file":
        with (audit.segments / place.file).open("r+b") as file:
            file.seek(place.position + place.length - 3)
            file.write(b"!")
    else:
        changed = {"sha256": "0" * 64} if damage == "the hash in the database" else {"file": "x"}
        with database.write() as conn:
            row = update(audit_batch).where(audit_batch.c.stream_id == senders[1].stream_id)
            conn.execute(row.values(**changed))
    async with audit_service(database, tmp_path / "state") as audit:
        await audit.wait_indexed(senders[0], 3)
        await audit.wait_indexed(senders[2], 3)
    assert list_stored(database, senders[1]) == []
    critical = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    assert all(senders[1].stream_id in each.getMessage() for each in critical)
    assert critical


async def test_an_index_that_fails_half_way_leaves_nothing_and_goes_on(
    database, tmp_path, monkeypatch
):
    sender = add_instance(database)
    real = index.insert_events
    failures: list[object] = []

    def insert_that_fails_at_its_end(conn, group, rows):
        real(conn, group, rows)
        if len(failures) < 1:
            with database.read() as other:  # what everyone else sees meanwhile
                failures.append(other.execute(select(audit_event)).all())
            raise OperationalError("", {}, Exception("connection lost"))

    monkeypatch.setattr(index, "insert_events", insert_that_fails_at_its_end)
    with pytest.raises(OperationalError):
        async with audit_service(database, tmp_path / "state") as audit:
            await audit.send(sender, 1, make_lines(1, 4))
            await asyncio.wait(audit.loops, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert failures == [[]]
    assert list_stored(database, sender) == []
    async with audit_service(database, tmp_path / "state") as audit:
        await audit.wait_indexed(sender, 4)
    assert list_stored(database, sender) == list_sent(4)


async def test_indexing_a_batch_again_changes_nothing(database, tmp_path):
    sender = add_instance(database)
    async with audit_service(database, tmp_path / "state") as audit:
        await audit.send(sender, 1, make_lines(1, 4))
        await audit.wait_indexed(sender, 4)
    with database.read() as conn:
        (row,) = list_batches(conn, 0, 10)
    group = [(row, index.load_events(Segments(audit.segments, epoch=1), row))]
    numbers = Numbers()
    with database.write() as conn:
        missing = numbers.find_missing(group)
        assert missing is not None
        numbers.remember(missing.ensure(conn))
        assert numbers.find_missing(group) is None
        index.insert_events(conn, group, [numbers.format(*each) for each in group])
    assert list_stored(database, sender) == list_sent(4)


async def test_a_database_older_than_the_files_takes_nothing(database, tmp_path, caplog):
    sender = add_instance(database)
    segments = tmp_path / "state" / "audit" / "segments"
    segments.mkdir(parents=True)
    (segments / "0000000009-000001.seg").write_bytes(b"")
    async with audit_service(database, tmp_path / "state") as audit:
        refused = await audit.send(sender, 1, make_lines(1, 2))
    assert refused.status_code == 503
    assert "the database is older than the log" in caplog.text
