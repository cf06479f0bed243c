"""Whoever follows the log by a cursor sees each acknowledged event, in the order of its stream."""

import logging

from sqlalchemy import update

from nightingale_hub.service import Context
from nightingale_hub.services.audit.reader import EventReader
from nightingale_hub.services.audit.segments import Segments
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.audit import audit_batch
from tests.audit import add_instance, audit_service, make_lines


def make_reader(database, tmp_path, audit):
    settings = NightingaleHub(state_dir=str(tmp_path / "state"), db_url=database.url)
    return EventReader(Context("audit", settings, database, 1), Segments(audit.segments, 1))


async def test_it_gives_each_event_in_the_order_of_its_stream_from_any_cursor(database, tmp_path):
    senders = [add_instance(database, owner) for owner in ("alice", "bob", "carol")]
    async with audit_service(database, tmp_path / "state") as audit:
        for first in (1, 4, 7):
            for sender in senders:
                await audit.send(sender, first, make_lines(first, first + 2, owner=sender.owner))
        reader = make_reader(database, tmp_path, audit)
        seen, cursor = [], 0
        while batches := await reader.read_after(cursor, limit=2):
            assert [each.number for each in batches] == list(
                range(cursor + 1, cursor + 1 + len(batches))
            )
            seen += batches
            cursor = batches[-1].number
        assert cursor == 9
        for sender in senders:
            mine = [each for each in seen if each.stream_id == sender.stream_id]
            events = [event for each in mine for event in each.events]
            assert [event.seq for event in events] == list(range(1, 10))
            assert {(each.owner, each.instance_id) for each in mine} == {
                (sender.owner, sender.instance_id)
            }
        again = await reader.read_after(6)
        assert again == seen[6:], "at least once: from an older cursor the same comes again"
        assert await reader.read_after(cursor) == []


async def test_a_damaged_batch_is_told_and_holds_up_no_other(database, tmp_path, caplog):
    sender = add_instance(database)
    async with audit_service(database, tmp_path / "state") as audit:
        for first in (1, 3, 5):
            await audit.send(sender, first, make_lines(first, first + 1))
        with database.write() as conn:
            conn.execute(
                update(audit_batch).where(audit_batch.c.number == 2).values(sha256="0" * 64)
            )
        batches = await make_reader(database, tmp_path, audit).read_after(0)
    assert [(each.is_damaged, len(each.events)) for each in batches] == [
        (False, 2),
        (True, 0),
        (False, 2),
    ]
    assert any(each.levelno == logging.CRITICAL for each in caplog.records)
