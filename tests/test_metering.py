"""What was up is measured exactly from record and boot ids, whatever is lost, late or doubled."""

import asyncio
import itertools
from contextlib import asynccontextmanager

import pytest
from tornado.iostream import StreamClosedError
from tornado.tcpserver import TCPServer
from tornado.testing import bind_unused_port

from nightingale_hub.errors import Conflict
from nightingale_hub.lease import StaleLease
from nightingale_hub.services.metering.meter import Meter
from nightingale_hub.services.metering.probe import probe
from nightingale_hub.services.metering.rules import (
    Beat,
    Proof,
    Record,
    Segment,
    find_changes,
    prove,
)
from nightingale_hub.services.metering.segments import find_metered
from nightingale_hub.services.metering.service import make
from tests.record import BOOT, S, add_instance, change, list_segments
from tests.serving import make_context, serving

NEXT_BOOT = "5ec0d000" * 4


class Clock:
    """The one clock of a test."""

    def __init__(self, at_us=200 * S):
        self.at_us = at_us

    def __call__(self):
        return self.at_us


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def meter(database, clock):
    return Meter(make_context("metering", database), clock)


def run(record, proofs, segments=()):
    """Apply the rules as the store does: changes replace what has their key."""
    stored = {segment.key: segment for segment in segments}
    stored |= find_changes(record, proofs, stored.values())
    return list(stored.values())


# The rules, alone.


def test_an_instance_that_was_never_ready_has_no_ready_segment():
    record = Record("a", allocated_us=10, stop_accepted_us=40, gone_us=50)
    assert run(record, [prove(Beat("a", 5, 30))]) == [
        Segment("allocated", "", 10, 50, 50, "gone"),
    ]


def test_an_instance_that_was_to_stop_before_it_was_ready_costs_nothing():
    record = Record("a", allocated_us=10, ready_us=45, stop_accepted_us=40)
    assert [segment.meter for segment in run(record, [])] == ["allocated"]


def test_a_ready_segment_is_exactly_from_ready_to_the_accepted_stop():
    record = Record("a", allocated_us=10, ready_us=20, stop_accepted_us=47, gone_us=60)
    ready = Segment("ready", "a", 20, 47, 47, "stop accepted")
    assert ready in run(record, [])
    late = prove(Beat("a", 50, 60))
    assert ready in run(record, [late]), "a beat after the stop adds nothing"


def test_an_instance_that_died_unasked_is_billed_until_the_cloud_says_gone():
    record = Record("a", allocated_us=10, ready_us=20, gone_us=60)
    assert Segment("ready", "a", 20, 60, 60, "gone") in run(record, [])


def test_a_gap_without_beats_is_up_time_when_the_same_boot_is_seen_again():
    record = Record("a", ready_us=20)
    before = run(record, [prove(Beat("a", 15, 30))])
    after = run(record, [prove(Beat("a", 3_615, 3_630))], before)
    assert after == [Segment("ready", "a", 20, 3_630)]


def test_a_new_boot_ends_the_old_one_at_its_last_proof_and_opens_at_its_own_start():
    record = Record("a", ready_us=20)
    proofs = [prove(Beat("a", 30, 50)), prove(Beat("b", 10, 100))]
    expected = [
        Segment("ready", "a", 20, 50, 50, "boot changed"),
        Segment("ready", "b", 90, 100),
    ]
    assert run(record, proofs) == expected
    assert run(record, reversed(proofs)) == expected


def test_a_late_beat_of_an_ended_boot_changes_nothing():
    record = Record("a", ready_us=20)
    stored = run(record, [prove(Beat("a", 30, 50)), prove(Beat("b", 10, 100))])
    assert find_changes(record, [prove(Beat("a", 60, 80)), prove(Beat("a", 30, 120))], stored) == {}


def test_an_ended_segment_is_never_changed():
    record = Record("a", ready_us=20, stop_accepted_us=40, gone_us=50, allocated_us=1)
    stored = run(record, [])
    moved = Record("a", ready_us=10, stop_accepted_us=90, gone_us=95, allocated_us=0)
    assert find_changes(moved, [prove(Beat("b", 1, 92))], stored) == {}


def test_beats_in_any_order_and_number_prove_the_same():
    beats = [Beat("a", 5, 30), Beat("a", 9, 33), Beat("a", 9, 40), Beat("a", 2, 90)]
    for order in itertools.permutations(beats):
        proof = prove(order[0])
        for beat in [*order, *order]:
            proof = proof.join(beat)
        assert proof == Proof("a", 24, 9)


# The service, on both engines.


async def test_a_stop_accepted_while_metering_was_down_is_exact(meter, database, clock):
    with database.write() as conn:
        key = add_instance(conn)
    await meter.step()
    with database.write() as conn:
        change(conn, key, stop_accepted_us=345_678_901, gone_us=400 * S, actual="stopped")
    clock.at_us = 90_000 * S
    revived = Meter(make_context("metering", database), clock)
    await revived.step()
    with database.read() as conn:
        assert list_segments(conn, key) == [(BOOT, 100 * S, 345_678_901, "stop accepted")]
        assert list_segments(conn, key, "allocated") == [("", 90 * S, 400 * S, "gone")]


async def test_an_instance_that_came_and_went_unseen_is_still_metered(meter, database):
    with database.write() as conn:
        key = add_instance(conn, actual="stopped", stop_accepted_us=150 * S, gone_us=160 * S)
    await meter.step()
    with database.read() as conn:
        assert list_segments(conn, key) == [(BOOT, 100 * S, 150 * S, "stop accepted")]


async def test_a_beat_reaches_the_database_only_as_a_checkpoint(meter, database, clock):
    with database.write() as conn:
        key = add_instance(conn)
    await meter.step()
    await meter.take(key, Beat(BOOT, 104 * S, 204 * S))
    clock.at_us = 205 * S
    await meter.step()
    assert seen_us(database, key) == 100 * S
    clock.at_us = 210 * S
    await meter.step()
    assert seen_us(database, key) == 204 * S


async def test_a_new_boot_is_stored_before_its_beat_is_answered(meter, database):
    with database.write() as conn:
        key = add_instance(conn)
    await meter.step()
    await meter.take(key, Beat(BOOT, 100 * S, 204 * S))
    await meter.take(key, Beat(NEXT_BOOT, 5 * S, 300 * S))
    expected = [(BOOT, 100 * S, 204 * S, "boot changed"), (NEXT_BOOT, 295 * S, None, "")]
    with database.read() as conn:
        assert list_segments(conn, key) == expected
    with pytest.raises(Conflict):
        await meter.take(key, Beat(BOOT, 300 * S, 301 * S))
    with database.write() as conn:
        change(conn, key, stop_accepted_us=320 * S)
    await meter.step()
    with database.read() as conn:
        assert list_segments(conn, key)[1] == (NEXT_BOOT, 295 * S, 320 * S, "stop accepted")


async def test_a_second_agent_with_the_same_credential_cannot_take_over(meter, database):
    with database.write() as conn:
        key = add_instance(conn)
    await meter.step()
    await meter.take(key, Beat(BOOT, 100 * S, 204 * S))
    with pytest.raises(Conflict):
        await meter.take(key, Beat(NEXT_BOOT, 50 * S, 204 * S))
    with database.read() as conn:
        assert list_segments(conn, key) == [(BOOT, 100 * S, None, "")]


async def test_a_meter_that_was_taken_over_writes_no_more(meter, database):
    with database.write() as conn:
        key = add_instance(conn)
    make_context("metering", database)
    with pytest.raises(StaleLease):
        await meter.step()
    with database.read() as conn:
        assert list_segments(conn, key) == []


def seen_us(database, key):
    with database.read() as conn:
        metered = find_metered(conn, key)
    assert metered is not None
    return next(each.seen_us for each in metered.segments if each.meter == "ready")


# The API.


async def test_an_agent_beats_with_its_own_credential_only(database):
    with database.write() as conn:
        mine, other = add_instance(conn), add_instance(conn)
    body = {"instance_id": mine, "boot_id": BOOT, "uptime_us": 1, "faults": ["mount: gone"]}
    async with serving("metering", database, make) as (client, service):
        await service.loops[0].step()
        good = await client.post("beat", f"credential of {mine}", json=body)
        assert (good.status_code, list(good.json())) == (200, ["at_us"])
        for token, status in [(f"credential of {other}", 403), ("no such", 403), ("", 403)]:
            assert (await client.post("beat", token, json=body)).status_code == status
        second = {**body, "boot_id": NEXT_BOOT, "uptime_us": 10**12}
        refused = await client.post("beat", f"credential of {mine}", json=second)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    "wrong",
    [
        {"uptime_us": -1},
        {"uptime_us": True},
        {"uptime_us": 1.5},
        {"uptime_us": 10**30},
        {"boot_id": "../../x"},
        {"boot_id": None},
        {"faults": "x"},
        {"faults": [1]},
        {"faults": ["x"] * 101},
        {"instance_id": 7},
        {"extra": 1},
    ],
)
async def test_a_malformed_beat_is_refused_and_changes_nothing(database, wrong):
    with database.write() as conn:
        key = add_instance(conn)
    body = {"instance_id": key, "boot_id": BOOT, "uptime_us": 1, "faults": []}
    async with serving("metering", database, make) as (client, _):
        answer = await client.post("beat", f"credential of {key}", json=body | wrong)
        huge = await client.post("beat", f"credential of {key}", content=b" " * 70_000)
    assert (answer.status_code, huge.status_code) == (400, 400)
    assert answer.json()["error"]["code"] == "bad_input"


@pytest.mark.parametrize("token", ["", "alice-token", "billing-token", "unknown"])
async def test_only_the_console_sees_what_is_live(database, token):
    async with serving("metering", database, make) as (client, _):
        assert (await client.get("live", token)).status_code == 403


# Real servers in the place of instances.


@asynccontextmanager
async def answering(reply):
    """A server on a port of its own that sends *reply* to whoever asks; None: never answers."""
    asked = []

    class Server(TCPServer):
        async def handle_stream(self, stream, address):
            try:
                asked.append((await stream.read_until(b"\r\n\r\n")).decode())
                if reply is None:
                    await stream.read_until_close()
                await stream.write(reply)
                await stream.read_until_close()
            except StreamClosedError:
                pass

    server = Server()
    socket, port = bind_unused_port()
    server.add_socket(socket)
    try:
        yield port, asked
    finally:
        server.stop()


def reply(nonce, status="200 OK"):
    return f"HTTP/1.1 {status}\r\nX-Nightingale-Instance: {nonce}\r\n\r\n".encode()


async def test_only_the_server_that_we_started_counts_as_healthy(database, clock):
    socket, unused = bind_unused_port()
    socket.close()
    async with (
        answering(reply("mine")) as (healthy, asked),
        answering(reply("another's")) as (stranger, _),
        answering(None) as (hanging, _),
        serving("metering", database, make) as (client, service),
    ):
        ports = {"i-ok": healthy, "i-stranger": stranger, "i-hangs": hanging, "i-gone": unused}
        with database.write() as conn:
            for key, port in ports.items():
                base = "/base/user/al%20ice/"
                add_instance(conn, key, port=port, api_nonce="mine", base_url=base)
            add_instance(conn, "i-bob", owner="bob", actual="booting", port=None)
        await service.loops[0].step()
        await service.routes[0][2]["meter"].watch.settle()
        answer = (await client.get("live", owner="alice")).json()["instances"]
        everyone = (await client.get("live")).json()["instances"]
    health = {each["instance_id"]: (each["healthy"], each["missed"]) for each in answer}
    assert health == {
        "i-ok": (True, 0),
        "i-stranger": (False, 1),
        "i-hangs": (False, 1),
        "i-gone": (False, 1),
    }
    assert asked[0].startswith("GET /base/user/al%20ice/api HTTP/1.1\r\n")
    assert len(everyone) == 5
    with database.read() as conn:
        for key in ports:
            assert list_segments(conn, key) == [(BOOT, 100 * S, None, "")], "pending, never free"


async def test_a_server_that_hangs_delays_no_other_answer(database, clock, meter):
    async with answering(None) as (hanging, _), answering(reply("mine")) as (healthy, asked):
        with database.write() as conn:
            add_instance(conn, port=hanging)
            add_instance(conn, "i-ok", port=healthy, api_nonce="mine")
        try:
            async with asyncio.timeout(10):
                while len(asked) < 3:
                    await meter.step()
                    await asyncio.sleep(0.01)
            assert meter.watch.find("i-ok").missed == 0
        finally:
            await meter.watch.stop()


@pytest.mark.parametrize(
    "answer",
    [
        reply("mine", "503 Service Unavailable"),
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"X-Nightingale-Instance: mine\r\n\r\n",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\nX-Nightingale-Instance: mine\r\n\r\n",
        b"a" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_answer_of_ours_is_unhealthy(answer):
    async with answering(answer) as (port, _):
        assert not await probe("127.0.0.1", port, "/", "mine")


async def test_a_silent_server_costs_no_more_than_the_limit():
    async with answering(None) as (port, _), asyncio.timeout(5):
        assert not await probe("127.0.0.1", port, "/", "mine", timeout_s=0.1)
