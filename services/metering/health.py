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
from nightingale_hub.services.metering.line import Line


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
        self._lines: dict[str, Line] = {}

    def find(self, instance_id: str) -> Health | None:
        """Return the health of an instance that is watched, or None."""
        return self._health.get(instance_id)

    def ask(self, rows: Iterable[Row[Any]]) -> None:
        """Begin to ask every running instance of *rows*; forget those that run no more."""
        running = {row.id: row for row in rows if row.actual in SERVES and row.port}
        for instance_id in set(self._health) - set(running):
            self._forget(instance_id)
        for instance_id, row in running.items():
            known = self._health.get(instance_id)
            if known is not None and known.boot_id != row.boot_id:
                self._forget(instance_id)
                known = None
            if known is None:
                health = self._health[instance_id] = Health(row.boot_id)
                note = partial(self._note, health)
                self._lines[instance_id] = Line(
                    row.host, row.port, row.base_url or "/", row.api_nonce, note
                )
            self._lines[instance_id].ask()

    async def settle(self) -> None:
        """Wait for every answer that is under way; a line's own limit bounds it."""
        while any(line.is_waiting for line in self._lines.values()):
            await asyncio.sleep(0.005)
            for line in self._lines.values():
                line.expire()

    async def stop(self) -> None:
        """Break off every question."""
        for instance_id in list(self._health):
            self._forget(instance_id)
        await asyncio.sleep(0)  # the connections end in the loop's next turn

    def _forget(self, instance_id: str) -> None:
        del self._health[instance_id]
        self._lines.pop(instance_id).close()

    def _note(self, health: Health, is_ok: bool) -> None:
        health.note(is_ok, self._clock())
