"""The audit service takes each line once, durably, from the instance that it is of."""

import asyncio
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from nightingale_hub.lease import StaleLease, take_lease
from nightingale_hub.services.audit import service, writer
from nightingale_hub.services.audit.writer import Writer
from nightingale_hub.tables.audit import audit_stream
from tests.audit import (
    AT_US,
    AuditClient,
    add_instance,
    audit_service,
    count_batches,
    list_sent,
    list_stored,
    make_line,
    make_lines,
)

SOME_LINES = 40


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


async def test_a_batch_that_overlaps_adds_only_what_is_new(database, audit):
    sender = add_instance(database)
    await audit.send(sender, 1, make_lines(1, 4))
    await audit.send(sender, 5, make_lines(5, 10))
    assert (await audit.send(sender, 3, make_lines(3, 15))).json() == {"ack": 15}
    assert (await audit.send(sender, 2, make_lines(2, 12))).json() == {"ack": 15}
    await audit.wait_indexed(sender, 15)
    assert list_stored(database, sender) == list_sent(15)


@pytest.mark.parametrize(("first", "last"), [(1, 10), (4, 6), (8, 15)])
async def test_other_content_for_an_acknowledged_line_is_refused_and_critical(
    database, audit, caplog, first, last
):
    sender = add_instance(database)
    await audit.send(sender, 1, make_lines(1, 10))
    forged = make_lines(first, last)
    forged[2] = make_line(first + 2, path="something else")
    response = await audit.send(sender, first, forged)
    assert (response.status_code, response.json()["error"]["code"]) == (409, "conflict")
    assert [each.name for each in caplog.records if each.levelno == logging.CRITICAL] == [
        "nightingale"
    ]
    await audit.wait_indexed(sender, 10)
    assert list_stored(database, sender) == list_sent(10)


async def test_a_gap_says_which_line_is_next(database, audit):
    sender = add_instance(database)
    ahead = await audit.send(sender, 5, make_lines(5, 6))
    assert (ahead.status_code, ahead.json()["error"]["expect"]) == (409, 1)
    await audit.send(sender, 1, make_lines(1, 3))
    ahead = await audit.send(sender, 5, make_lines(5, 6))
    assert ahead.json()["error"]["code"] == "gap"
    assert ahead.json()["error"]["expect"] == 4


steps = st.lists(
    st.one_of(
        st.tuples(st.integers(1, SOME_LINES), st.integers(1, SOME_LINES), st.booleans()),
        st.just("restart"),
    ),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=steps)
def test_in_any_order_each_acknowledged_line_is_stored_once(database, tmp_path, steps):
    async def play() -> None:
        sender = add_instance(database)
        rest = list(steps)
        acked = 0
        while rest or acked == 0:
            async with audit_service(database, tmp_path / "state") as audit:
                while rest and rest[0] != "restart":
                    acked = await send_step(audit, sender, rest.pop(0), acked)
                del rest[:1]
                if not rest:
                    reply = await audit.send(sender, acked + 1, make_lines(acked + 1, acked + 1))
                    acked = reply.json()["ack"]
                    await audit.wait_indexed(sender, acked)
        assert list_stored(database, sender) == list_sent(acked)

    asyncio.run(play())


async def send_step(audit: AuditClient, sender, step, acked: int) -> int:
    """Send what *step* says, check the answer against the model and return what it acknowledged."""
    first, last, is_forged = min(step[:2]), max(step[:2]), step[2] and min(step[:2]) <= acked
    lines = make_lines(first, last)
    if is_forged:
        lines[0] = make_line(first, path="forged")
    response = await audit.send(sender, first, lines)
    if first > acked + 1:
        assert response.json()["error"]["expect"] == acked + 1
    elif is_forged:
        assert response.json()["error"]["code"] == "conflict"
    else:
        acked = max(acked, last)
        assert response.json() == {"ack": acked}
    return acked


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
        assert [task.result().status_code for task in done] == [503]
        assert [task.result().headers["Retry-After"] for task in done] == ["1"]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_service_that_was_taken_over_acknowledges_nothing(database, tmp_path):
    sender = add_instance(database)
    with pytest.raises(StaleLease):
        async with audit_service(database, tmp_path / "state") as audit:
            database.transact(lambda conn: take_lease(conn, "audit", "newer", AT_US))
            assert (await audit.send(sender, 1, make_lines(1, 2))).status_code == 503
    with database.read() as conn:
        assert conn.execute(select(audit_stream)).all() == []


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
