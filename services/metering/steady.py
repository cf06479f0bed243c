"""A clock that no setting of the machine's clock moves, and what is done when that was set.

Durations come from the time since boot, which counts a suspended machine too; the wall clock only
says when that began. An instance that lives through a step is measured to its end in the clock
that it began with: each time of its record that was written after the step is taken back by it.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from nightingale_hub.clock import US_PER_S
from nightingale_hub.tables.metering import clock_anchor, clock_event, clock_shift

LEAST_STEP_US = US_PER_S
COLUMNS = ("allocated_us", "ready_us", "stop_accepted_us", "gone_us")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Known = Mapping[str, frozenset[str]]  # by instance, the columns that have a value


def since_boot_us() -> int:
    """Return µs since this machine booted, suspended or not."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class SteadyClock:
    """Wall time as it would be had nobody set the clock since the anchor was taken."""

    def __init__(self, wall: Callable[[], int], since_boot: Callable[[], int]) -> None:
        """Anchor at the present."""
        self._wall, self._since_boot = wall, since_boot
        self.offset_us = wall() - since_boot()

    def __call__(self) -> int:
        """Return the time in µs."""
        return self._since_boot() + self.offset_us

    def find_step(self) -> int:
        """Return how far the wall clock was set since the anchor; 0 for less than a second."""
        step_us = self._wall() - self()
        return step_us if abs(step_us) > LEAST_STEP_US else 0


def load_anchor(conn: Connection, kernel_boot_id: str, offset_us: int) -> int:
    """Return the anchor of this boot of the machine, which *offset_us* becomes where none is."""
    known = conn.execute(
        select(clock_anchor.c.offset_us).where(clock_anchor.c.kernel_boot_id == kernel_boot_id)
    ).scalar()
    if known is None:
        save_anchor(conn, kernel_boot_id, offset_us)
        return offset_us
    return int(known)


def save_anchor(conn: Connection, kernel_boot_id: str, offset_us: int) -> None:
    """Write down the anchor of this boot of the machine, the only one that is kept."""
    conn.execute(delete(clock_anchor))
    conn.execute(insert(clock_anchor).values(kernel_boot_id=kernel_boot_id, offset_us=offset_us))


def note_step(
    conn: Connection,
    at_us: int,
    step_us: int,
    live: Mapping[str, tuple[Row[Any], int]],
    known_before: Known,
) -> None:
    """Record that the clock, at *at_us* before, was set by *step_us*, and who lived through it.

    *live* has the row and the number of shapes of each instance that is metered.
    """
    event = conn.execute(insert(clock_event).values(at_us=at_us, step_us=step_us))
    assert event.inserted_primary_key is not None
    for key, (row, shapes) in live.items():
        before = known_before.get(key, frozenset())
        known = [
            name
            for name in COLUMNS
            if _is_before(getattr(row, name), name in before, at_us, step_us)
        ]
        conn.execute(
            insert(clock_shift).values(
                clock_event_id=event.inserted_primary_key[0],
                instance_id=key,
                known=",".join([*known, f"shapes:{shapes}"]),
            )
        )


def _is_before(value: int | None, was_known: bool, at_us: int, step_us: int) -> bool:
    if value is None:
        return False
    if step_us > 0:
        return value <= at_us
    # After a step back a new time is no later than now; an older one of the same value was seen.
    return was_known or value > at_us + step_us


def find_known(row: Row[Any]) -> frozenset[str]:
    """Return the columns of *row* that have a value."""
    return frozenset(name for name in COLUMNS if getattr(row, name) is not None)


class Shifts:
    """The steps that one instance lived through, and what of its record was there before each."""

    def __init__(self, steps: list[tuple[int, str]]) -> None:
        """Take (step in µs, what was known) of each, in order."""
        self._steps = [(step_us, frozenset(known.split(","))) for step_us, known in steps]

    @property
    def total_us(self) -> int:
        """What is taken back from a time of now."""
        return sum(step_us for step_us, _ in self._steps)

    def take_back(self, name: str, value: int | None) -> int | None:
        """Return a time of the record in the clock that the instance began with."""
        if value is None:
            return None
        return value - sum(step_us for step_us, known in self._steps if name not in known)

    def take_back_shape(self, number: int, from_us: int) -> int:
        """Return from when the shape *number* holds, in the clock that the instance began with."""
        for step_us, known in self._steps:
            count = next(int(each[7:]) for each in known if each.startswith("shapes:"))
            from_us -= step_us if number >= count else 0
        return from_us
