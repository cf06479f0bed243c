"""Brings each instance nearer to what is wanted of it, one step at a time.

Level-triggered: a step looks at the record, does one thing and writes what came of it. Nothing
is remembered between two steps, so this process may die at any line and its successor goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy.exc import SQLAlchemyError

from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.errors import IllegalEdge, Unavailable
from nightingale_hub.instances import (
    ENDED,
    Cause,
    State,
    find,
    list_due,
    list_running,
    put_off,
    want_stopped,
)
from nightingale_hub.lease import StaleLease
from nightingale_hub.service import Context
from nightingale_hub.services.supervisor.asked import take_up_all
from nightingale_hub.services.supervisor.launch import booting, launching, requested
from nightingale_hub.services.supervisor.resize import resizing_step
from nightingale_hub.services.supervisor.site import Site
from nightingale_hub.services.supervisor.stop import removing, running, stopped, stopping
from nightingale_hub.services.supervisor.work import Work

log = logging.getLogger("nightingale")
OUR_FAULT_PAUSE_S = 5.0
# How long one that ended by itself may stay unnoticed, and so charged.
LOOK_FOR_DEAD_US = 2 * US_PER_S

STEPS: dict[State, Callable[[Work], Awaitable[None]]] = {
    State.REQUESTED: requested,
    State.LAUNCHING: launching,
    State.BOOTING: booting,
    State.RUNNING: running,
    State.RESIZING: resizing_step,
    State.STOPPING: stopping,
    State.STOPPED: stopped,
    State.REMOVING: removing,
}


class Supervisor:
    """One task per instance that is due."""

    def __init__(self, context: Context, clock: Callable[[], int] = now_us) -> None:
        """Start with no task; *clock* gives µs."""
        self._context = context
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_swept = False
        self._looked_us = 0

    async def step(self) -> None:
        """See to it that each instance that is due has its task."""
        if not self._is_swept:
            await self._sweep()
            self._is_swept = True
        await take_up_all(self._context, self._clock)
        at_us = self._clock()
        if at_us - self._looked_us >= LOOK_FOR_DEAD_US:
            self._looked_us = at_us
            await self._stop_dead()
        for row in await self._context.read(lambda conn: list_due(conn, at_us)):
            if row.id not in self._tasks:
                task = asyncio.create_task(self._take_step(row.id))
                self._tasks[row.id] = task
                task.add_done_callback(partial(self._drop, row.id))

    async def settle(self) -> None:
        """Wait for every step that is under way."""
        await asyncio.gather(*self._tasks.values())

    async def stop(self) -> None:
        """Break off every step; what Terraform does goes on without us."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_step(self, instance_id: str) -> None:
        # Read anew: the list may be older than the step that has just ended.
        row = await self._context.read(lambda conn: find(conn, instance_id))
        if row is None or row.actual == State.GONE:
            return
        state = State(row.actual)
        try:
            await STEPS[state](Work(self._context, row, self._clock))
        except (StaleLease, IllegalEdge) as taken:
            log.info("instance %s: %s", instance_id, taken)
        except (SQLAlchemyError, Unavailable):
            log.exception("instance %s: the database did not answer", instance_id)
        except Exception:  # the outermost line of a loop: log, back off, go on
            log.exception("instance %s: the step from %s failed", instance_id, state)
            await self._put_off(instance_id, state)

    async def _put_off(self, instance_id: str, state: State) -> None:
        message = "An error on our side; it is in the log, and the step is tried again"
        at_us = self._clock()
        try:
            await self._context.write(
                lambda conn: put_off(conn, instance_id, state, at_us, OUR_FAULT_PAUSE_S, message)
            )
        except (StaleLease, IllegalEdge, SQLAlchemyError, Unavailable) as error:
            log.warning("instance %s: %s", instance_id, error)

    def _drop(self, instance_id: str, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(instance_id, None)

    async def _stop_dead(self) -> None:
        """Accept the stop of what runs as wanted in the record, and on no machine."""
        for row in await self._context.read(list_running):
            try:
                is_dead = await asyncio.to_thread(Site(self._context.settings, row).is_dead)
            except (OSError, ValueError):  # nothing is known of this one; the others are looked at
                log.exception("instance %s: its processes cannot be looked up", row.id)
                continue
            if is_dead:
                log.warning("instance %s of %s ended by itself", row.id, row.owner)
                why = partial(
                    want_stopped,
                    instance_id=row.id,
                    at_us=self._clock(),
                    reason="it ended by itself",
                    cause=Cause.CRASHED,
                )
                await self._context.write(why)

    async def _sweep(self) -> None:
        """Clear what a supervisor left that was killed right after an instance was gone."""
        workspaces = self._context.settings.state_path / "terraform"
        for path in sorted(workspaces.iterdir()) if workspaces.is_dir() else ():
            row = await self._context.read(partial(_find, path.name))
            if row is not None and row.actual in ENDED:
                await asyncio.to_thread(Site(self._context.settings, row).clear)


def _find(instance_id: str, conn: Connection) -> Row[Any] | None:
    return find(conn, instance_id)
