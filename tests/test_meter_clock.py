"""The machine's clock may be set, forth or back: what was up is measured to the microsecond."""

import pytest
from sqlalchemy import select

from nightingale_hub.services.metering.meter import Meter
from nightingale_hub.services.metering.rules import Beat
from nightingale_hub.tables.metering import clock_event
from tests.record import BOOT, S, add_instance, change, list_segments
from tests.serving import make_context

NEXT_BOOT = "5ec0d000" * 4


class MachineWhoseClockIsSet:
    """The wall clock of a machine, and the time since it booted."""

    def __init__(self):
        self.boot_us, self.offset_us = 200 * S, 0

    def wall(self):
        return self.boot_us + self.offset_us

    def since_boot(self):
        return self.boot_us


@pytest.mark.parametrize("step_us", [3600 * S, -150 * S, 1_000_001, -1_000_001])
@pytest.mark.parametrize("is_killed", [False, True])
async def test_a_step_of_the_clock_lengthens_and_shortens_nothing(database, step_us, is_killed):
    machine = MachineWhoseClockIsSet()
    context = make_context("metering", database)
    meter = Meter(context, machine.wall, machine.since_boot)
    with database.write() as conn:
        key = add_instance(conn)  # ready at second 100, by the clock as it was
    await meter.step()
    await meter.take(key, Beat(BOOT, 104 * S, meter.clock()))
    machine.boot_us += S
    machine.offset_us = step_us
    if is_killed:
        meter = Meter(context, machine.wall, machine.since_boot)
    await meter.step()
    machine.boot_us = 1000 * S
    await meter.take(key, Beat(NEXT_BOOT, 500 * S, meter.clock()))
    with database.write() as conn:
        change(conn, key, stop_accepted_us=machine.wall() + 7, wanted="stopped")
    await meter.step()
    with database.read() as conn:
        first, second = list_segments(conn, key)
        events = [row.step_us for row in conn.execute(select(clock_event))]
    assert events == [step_us]
    assert first[:2] == (BOOT, 100 * S)
    assert second == (NEXT_BOOT, 500 * S, 1000 * S + 7, "stop accepted")


async def test_a_step_of_less_than_a_second_is_none(database):
    machine = MachineWhoseClockIsSet()
    meter = Meter(make_context("metering", database), machine.wall, machine.since_boot)
    await meter.step()
    machine.offset_us = S
    await meter.step()
    with database.read() as conn:
        assert conn.execute(select(clock_event)).all() == []
