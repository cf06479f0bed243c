"""What the meter knows of the instances' servers right now: in memory, and lost without harm.

A server that does not answer is pending, never free: health is shown and decides no segment.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Row

from nightingale_hub.instances import SERVES
from nightingale_hub.probe import probe


@dataclass
class Health:
    """The answers of one boot's server."""

    boot_id: str | None
    is_healthy: bool = False
    last_ok_us: int | None = None
    missed: int = 0  # in a row

    def note(self, is_ok: bool, at_us: int) -> None:
        """Note one answer, or that there was none."""
        self.is_healthy = is_ok
        if is_ok:
            self.last_ok_us, self.missed = at_us, 0
        else:
            self.missed += 1


class Watch:
    """Asks each running instance at most once at a time, so that one that hangs delays no other."""

    def __init__(self, clock: Callable[[], int]) -> None:
        """Start with no instance; *clock* gives µs."""
        self._clock = clock
        self._health: dict[str, Health] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def find(self, instance_id: str) -> Health | None:
        """Return the health of an instance that is watched, or None."""
        return self._health.get(instance_id)

    def ask(self, rows: Iterable[Row[Any]]) -> None:
        """Begin to ask every running instance of *rows*; forget those that run no more."""
        running = {row.id: row for row in rows if row.actual in SERVES and row.port}
        for instance_id in set(self._health) - set(running):
            del self._health[instance_id]
        for instance_id, row in running.items():
            known = self._health.get(instance_id)
            if known is None or known.boot_id != row.boot_id:
                self._health[instance_id] = Health(row.boot_id)
            if instance_id not in self._asking:
                task = asyncio.create_task(self._ask(row))
                self._asking[instance_id] = task
                task.add_done_callback(partial(self._note_asked, instance_id))

    async def settle(self) -> None:
        """Wait for every answer that is under way; a probe's own limit bounds it."""
        await asyncio.gather(*self._asking.values())

    async def stop(self) -> None:
        """Break off every question."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _note_asked(self, instance_id: str, _: asyncio.Task[None]) -> None:
        del self._asking[instance_id]

    async def _ask(self, row: Row[Any]) -> None:
        is_ok = await probe(row.host, row.port, row.base_url or "/", row.api_nonce)
        health = self._health.get(row.id)
        if health is not None and health.boot_id == row.boot_id:
            health.note(is_ok, self._clock())
