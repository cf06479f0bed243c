"""Drops what is older than it must be kept: cold parts and segment files, never a leaf.

What counts is when the hub got a record, which no sender can set. The floor of six years stands
here and in the setting, and the offline checker asks for it again: lines that are missing are an
edit unless a leaf of kind `retention` names their batches, six years after they came.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Connection, Integer, cast, func, select, update

from nightingale_hub.audit_settings import KEEP_LEAST_YEARS
from nightingale_hub.clock import US_PER_S, now_us, to_datetime
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.service import Context
from nightingale_hub.services.audit.cold import COLD, DROPPING
from nightingale_hub.services.audit.segments import list_files
from nightingale_hub.tables.audit import audit_batch, audit_part

log = logging.getLogger("nightingale")
RANGES_AT_ONCE = 2000  # that many fit into one leaf
DROPPED = ""  # the file of a batch whose lines were dropped


class Keeper:
    """Keeps what is young enough."""

    def __init__(
        self, context: Context, directory: Path, clock: Callable[[], int] = now_us
    ) -> None:
        """Look after the segment files in *directory* and the parts of *context*'s database."""
        self._context = context
        self._directory = directory
        self._clock = clock

    async def step(self) -> None:
        """Drop what may go, each with its leaf; a file goes once that is committed."""
        at_us = self._clock()
        years = max(self._context.settings.audit_keep_years, KEEP_LEAST_YEARS)
        before_us = find_kept_since(years, at_us)
        await self._context.write(lambda conn: drop_parts(conn, before_us, at_us))
        for name in await self._context.read(lambda conn: list_droppable(conn, before_us)):
            await self._context.write(lambda conn, name=name: drop_file(conn, name, at_us))  # type: ignore[misc]
        held = await self._context.read(_list_held)
        await asyncio.to_thread(remove_files, self._directory, held, before_us)


def find_kept_since(years: int, at_us: int) -> int:
    """Return the instant *years* years before *at_us*; the 29th of February counts as the 28th."""
    now = to_datetime(at_us)
    day = min(now.day, 28) if now.month == 2 else now.day
    then = now.replace(year=now.year - years, day=day)
    return int(then.timestamp()) * US_PER_S


def drop_parts(conn: Connection, before_us: int, at_us: int) -> None:
    """Let no part count that was moved before *before_us*; the mover removes its file."""
    old = (audit_part.c.state == COLD, audit_part.c.at_us < before_us)
    names = list(conn.execute(select(audit_part.c.name).where(*old)).scalars())
    for name in names:
        append_leaf(conn, "retention_part", {"name": name}, at_us)
    conn.execute(update(audit_part).where(*old).values(state=DROPPING))


def list_droppable(conn: Connection, before_us: int) -> list[str]:
    """Return the segment files of which the newest batch came before *before_us*."""
    query = (
        select(audit_batch.c.file)
        .where(audit_batch.c.file != DROPPED)
        .group_by(audit_batch.c.file)
        .having(func.max(audit_batch.c.received_us) < before_us)
        .having(func.min(cast(audit_batch.c.is_indexed, Integer)) == 1)
    )
    return sorted(conn.execute(query).scalars())


def drop_file(conn: Connection, name: str, at_us: int) -> None:
    """Write down which batches lose their lines; the rows stay, for the chain goes on in them."""
    numbers = select(audit_batch.c.number).where(audit_batch.c.file == name)
    ranges = _to_ranges(list(conn.execute(numbers.order_by(audit_batch.c.number)).scalars()))
    for first in range(0, len(ranges), RANGES_AT_ONCE):
        some = ranges[first : first + RANGES_AT_ONCE]
        append_leaf(conn, "retention", {"file": name, "batches": some}, at_us)
    dropped = update(audit_batch).where(audit_batch.c.file == name)
    conn.execute(dropped.values(file=DROPPED, position=0, length=0))
    log.info("audit segment %s is past its time and is removed", name)


def remove_files(directory: Path, held: set[str], before_us: int) -> None:
    """Remove the segment files in *directory* that nobody holds and that are that old."""
    for name in list_files(directory):
        path = directory / name
        if name not in held and path.stat().st_mtime_ns // 1000 < before_us:
            path.unlink()


def _to_ranges(numbers: Sequence[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges


def _list_held(conn: Connection) -> set[str]:
    return set(conn.execute(select(audit_batch.c.file).distinct()).scalars())
