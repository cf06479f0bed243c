"""The audit service takes each line once, durably, from the instance that it is of."""

import asyncio
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from nightingale_hub.lease import StaleLease, take_lease
from nightingale_hub.services.audit import service, writer
from nightingale_hub.services.audit.writer import Writer
from nightingale_hub.tables.audit import audit_stream
from tests.audit import (
    AT_US,
    add_instance,
    audit_service,
    count_batches,
    list_findings,
    list_sent,
    list_stored,
    make_line,
    make_lines,
)


@pytest.fixture
async def audit(database, tmp_path):
    async with audit_service(database, tmp_path / "state") as client:
        yield client


async def test_six_streams_at_once_lose_and_double_no_line(database, audit):
    senders = [add_instance(database, owner) for owner in "abcdef"]

    async def send_all(sender):
        for first in range(1, 200, 20):
            lines = make_lines(first, first + 19, owner=sender.owner)
            response = await audit.send(sender, first, lines)
            assert response.json() == {"ack": first + 19}

    await asyncio.gather(*map(send_all, senders))
    for sender in senders:
        await audit.wait_indexed(sender, 200)
        assert list_stored(database, sender) == list_sent(200)


async def test_the_batches_of_one_moment_share_a_sync(database, audit, monkeypatch):
    syncs = []
    real = os.fdatasync

    def count(descriptor: int) -> None:
        syncs.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", count)
    senders = [add_instance(database) for _ in range(12)]
    answers = await asyncio.gather(*(audit.send(each, 1, make_lines(1, 5)) for each in senders))
    assert [answer.json() for answer in answers] == [{"ack": 5}] * 12
    assert 1 <= len(syncs) < 12


async def test_a_batch_that_comes_again_is_acknowledged_and_stored_once(database, audit):
    sender = add_instance(database)
    for _ in range(3):
        assert (await audit.send(sender, 1, make_lines(1, 10))).json() == {"ack": 10}
    assert count_batches(database) == 1


class WriterThatWaitsForEight(Writer):
    has_begun = False

    async def step(self):
        while not self.has_begun and len(self._queue) < 8:
            await asyncio.sleep(0.01)
        self.has_begun = True
        await super().step()


async def test_a_batch_that_comes_many_times_at_once_is_stored_once(database, tmp_path):
    sender = add_instance(database)

    def make(context):
        return service.make(context, WriterThatWaitsForEight)

    async with audit_service(database, tmp_path / "state", make) as audit:
        sends = [audit.send(sender, 1, make_lines(1, 10)) for _ in range(8)]
        answers = await asyncio.gather(*sends)
    assert [answer.json() for answer in answers] == [{"ack": 10}] * 8
    assert count_batches(database) == 1


@pytest.mark.parametrize(("first", "last"), [(1, 10), (1, 6), (4, 6), (8, 15)])
@pytest.mark.parametrize("is_forged", [False, True])
async def test_another_history_of_acknowledged_lines_is_refused_and_a_critical_finding(
    database, audit, caplog, first, last, is_forged
):
    sender = add_instance(database)
    await audit.send(sender, 1, make_lines(1, 10))
    lines = make_lines(first, last)
    if is_forged:
        lines[2] = make_line(first + 2, path="something else")
    elif (first, last) == (1, 10):
        pytest.skip("that is the same batch again")
    response = await audit.send(sender, first, lines)
    assert (response.status_code, response.json()["error"]["code"]) == (409, "conflict")
    assert [each.name for each in caplog.records if each.levelno == logging.CRITICAL] == [
        "nightingale"
    ]
    ((kind, severity, subject, evidence),) = list_findings(database)
    assert (kind, severity) == ("equivocation", "critical")
    assert subject == f"stream:{sender.stream_id}"
    # What it signed is kept, so that nobody can say they did not.
    assert evidence["signature"] == sender.seal(first, lines).signature
    await audit.wait_indexed(sender, 10)
    assert list_stored(database, sender) == list_sent(10)


async def test_a_batch_behind_another_chain_is_refused_and_a_critical_finding(database, audit):
    sender = add_instance(database)
    await audit.send(sender, 1, make_lines(1, 3))
    sender.chains[3] = "ab" * 32
    response = await audit.send(sender, 4, make_lines(4, 5))
    assert response.json()["error"]["code"] == "conflict"
    assert [each[:2] for each in list_findings(database)] == [("equivocation", "critical")]
    assert count_batches(database) == 1


async def test_a_gap_says_which_line_is_next_and_is_a_finding(database, audit):
    sender = add_instance(database)
    ahead = await audit.send(sender, 5, make_lines(5, 6))
    assert (ahead.status_code, ahead.json()["error"]["expect"]) == (409, 1)
    await audit.send(sender, 1, make_lines(1, 3))
    for _ in range(2):
        ahead = await audit.send(sender, 5, make_lines(5, 6))
        assert ahead.json()["error"]["code"] == "gap"
        assert ahead.json()["error"]["expect"] == 4
    assert [each[0] for each in list_findings(database)] == ["gap", "gap"]


@pytest.mark.parametrize("actual", ["stopping", "stopped"])
async def test_an_instance_that_stopped_still_drains(database, audit, actual):
    sender = add_instance(database, actual=actual)
    assert (await audit.send(sender, 1, make_lines(1, 2))).json() == {"ack": 2}


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A real file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    path = tmp_path / "state"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


async def test_a_full_disk_acknowledges_nothing_and_heals(database, small_disk):
    sender = add_instance(database)
    async with audit_service(database, small_disk) as audit:
        assert (await audit.send(sender, 1, make_lines(1, 5))).json() == {"ack": 5}
        big = [make_line(seq, path=os.urandom(3000).hex()) for seq in range(6, 106)]
        refused = await audit.send(sender, 6, big)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert (await audit.send(sender, 6, make_lines(6, 9))).json() == {"ack": 9}
        await audit.wait_indexed(sender, 9)
    assert list_stored(database, sender) == list_sent(9)


class WriterThatStalls(Writer):
    async def step(self):
        await asyncio.Event().wait()


async def test_a_full_queue_says_when_to_come_again(database, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "MAX_QUEUED", 2)
    senders = [add_instance(database) for _ in range(3)]

    def stalled(context):
        return service.make(context, WriterThatStalls)

    async with audit_service(database, tmp_path / "state", stalled) as audit:
        sends = [asyncio.create_task(audit.send(s, 1, make_lines(1, 1))) for s in senders]
        done, waiting = await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        assert [task.result().status_code for task in done] == [429]
        assert [task.result().headers["Retry-After"] for task in done] == ["1"]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_service_that_was_taken_over_acknowledges_nothing(database, tmp_path):
    sender = add_instance(database)
    with pytest.raises(StaleLease):
        async with audit_service(database, tmp_path / "state") as audit:
            await audit.open(sender)
            database.transact(lambda conn: take_lease(conn, "audit", "newer", AT_US))
            assert (await audit.send(sender, 1, make_lines(1, 2))).status_code == 503
            assert (await audit.open(add_instance(database))).status_code == 503
    with database.read() as conn:
        assert conn.execute(select(audit_stream.c.last_seq)).scalars().all() == [0]


async def test_a_batch_that_waits_when_the_service_stops_is_refused(database, tmp_path):
    sender = add_instance(database)
    made: list[WriterThatStalls] = []

    class WriterThatIsSeen(WriterThatStalls):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    def stalled(context):
        return service.make(context, WriterThatIsSeen)

    async with audit_service(database, tmp_path / "state", stalled) as audit:
        waiting = asyncio.create_task(audit.send(sender, 1, make_lines(1, 1)))
        async with asyncio.timeout(20):
            while not made[0]._queue:
                await asyncio.sleep(0.01)
        await made[0].stop()
        assert (await waiting).status_code == 503
        assert (await audit.send(sender, 1, make_lines(1, 1))).status_code == 503
