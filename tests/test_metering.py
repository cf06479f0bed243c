"""What was up is measured exactly from record and boot ids, whatever is lost, late or doubled."""

import pytest

from nightingale_hub.errors import Conflict
from nightingale_hub.lease import StaleLease
from nightingale_hub.services.metering.meter import Meter
from nightingale_hub.services.metering.rules import Beat
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


async def test_a_better_start_of_a_boot_is_stored_before_its_beat_is_answered(meter, database):
    with database.write() as conn:
        key = add_instance(conn)
    await meter.step()
    await meter.take(key, Beat(NEXT_BOOT, 5 * S, 300 * S))
    await meter.take(key, Beat(NEXT_BOOT, 8 * S, 301 * S))
    with database.read() as conn:
        assert list_segments(conn, key)[1] == (NEXT_BOOT, 293 * S, None, "")


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
        deep = await client.post("beat", f"credential of {key}", content=b"[" * 60_000)
    assert (answer.status_code, huge.status_code, deep.status_code) == (400, 400, 400)
    assert answer.json()["error"]["code"] == "bad_input"


@pytest.mark.parametrize("token", ["", "alice-token", "billing-token", "unknown"])
async def test_only_the_console_sees_what_is_live(database, token):
    async with serving("metering", database, make) as (client, _):
        assert (await client.get("live", token)).status_code == 403
