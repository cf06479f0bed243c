"""Brings each instance nearer to what is wanted of it, one step at a time.

Level-triggered: a step looks at the record, does one thing and writes what came of it. Nothing
is remembered between two steps, so this process may die at any line and its successor goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

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
from nightingale_hub.row_lease import (
    Holder,
    Lease,
    LostRow,
    check,
    claim,
    extend,
    give_up_all,
    this_machine,
)
from nightingale_hub.service import Context
from nightingale_hub.services.supervisor.asked import take_up_all
from nightingale_hub.services.supervisor.launch import booting, launching, requested
from nightingale_hub.services.supervisor.money import Money
from nightingale_hub.services.supervisor.resize import resizing_step
from nightingale_hub.services.supervisor.site import Site
from nightingale_hub.services.supervisor.stop import removing, running, stopped, stopping
from nightingale_hub.services.supervisor.work import Work

log = logging.getLogger("nightingale")
OUR_FAULT_PAUSE_S = 5.0
# How many instances one process works on at a time; another supervisor takes what is over.
MAX_TASKS = 64
# How long one that ended by itself may stay unnoticed, and so charged.
LOOK_FOR_DEAD_US = 2 * US_PER_S

T = TypeVar("T")

# Where there is nothing to do at once.
SETTLED = (*ENDED, State.RUNNING)
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


class LeasedContext(Context):
    """A supervisor's means under the lease of one instance."""

    def __init__(self, context: Context, lease: Lease) -> None:
        """Do as *context* does, for as long as *lease* holds."""
        super().__init__(context.service, context.settings, context.db, context.epoch, context.slot)
        self._context = context
        self._lease = lease

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Return `work(conn)` as `Context.write` does.

        Raises `LostRow` when another supervisor took the instance over.
        """

        def fenced(conn: Connection) -> T:
            check(conn, self._lease)
            return work(conn)

        return await self._context.write(fenced)


class Supervisor:
    """One task per instance that is due and that no other supervisor works on."""

    def __init__(
        self,
        context: Context,
        clock: Callable[[], int] = now_us,
        money: Money | None = None,
    ) -> None:
        """Start with no task; *clock* gives µs, *money* is asked before a launch."""
        self._context = context
        self._money = money
        self._clock = clock
        self._machine = this_machine()
        self._holder = Holder(context.lease_name, context.epoch)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leases: dict[str, Lease] = {}
        self._is_swept = False
        self._looked_us = 0

    async def step(self) -> None:
        """See to it that each instance that is due has its task, here or elsewhere."""
        if not self._is_swept:
            await self._sweep()
            self._is_swept = True
        await take_up_all(self._context, self._clock)
        at_us = self._clock()
        if at_us - self._looked_us >= LOOK_FOR_DEAD_US:
            self._looked_us = at_us
            await self._stop_dead()
        due = await self._context.read(lambda conn: list_due(conn, at_us))
        room = MAX_TASKS - len(self._tasks)
        if room <= 0 or all(row.id in self._tasks for row in due):
            return
        at_work = list(self._tasks)
        claimed = await self._context.write(
            lambda conn: claim(conn, self._holder, self._machine, at_us, room, at_work)
        )
        for row, lease in claimed:
            task = asyncio.create_task(self._take_steps(row, lease))
            self._tasks[row.id], self._leases[row.id] = task, lease
            task.add_done_callback(partial(self._drop, row.id))

    async def extend(self) -> None:
        """Extend the lease of each instance that is worked on; drop what another has taken."""
        leases = list(self._leases.values())
        if not leases:
            return
        at_us = self._clock()
        held = await self._context.write(lambda conn: extend(conn, leases, at_us))
        for each in leases:
            task = self._tasks.get(each.instance_id)
            if each.instance_id not in held and self._leases.get(each.instance_id) == each and task:
                log.warning("instance %s was taken over", each.instance_id)
                task.cancel()

    async def settle(self) -> None:
        """Wait for every step that is under way."""
        await asyncio.gather(*self._tasks.values())

    async def stop(self) -> None:
        """Break off every step, and let others go on at once."""
        await self.break_off()
        with suppress(StaleLease, SQLAlchemyError, Unavailable):
            await self._context.write(lambda conn: give_up_all(conn, self._holder))

    async def break_off(self) -> None:
        """Break off every step; what Terraform does goes on without us."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_steps(self, row: Row[Any], lease: Lease) -> None:
        """Take the step from the state that *row* is in, and the next as long as it moves on."""
        while await self._take_step(row, lease):
            before = row.actual
            try:
                found = await self._context.read(partial(_find, row.id))
            except (SQLAlchemyError, Unavailable):
                return  # it is looked at again soon
            if found is None or found.actual in (before, *SETTLED):
                return
            row = found

    async def _take_step(self, row: Row[Any], lease: Lease) -> bool:
        """Take one step; return whether it went well."""
        state = State(row.actual)
        context = LeasedContext(self._context, lease)
        try:
            await STEPS[state](Work(context, row, self._clock, self._money))
            return True
        except (StaleLease, LostRow, IllegalEdge) as taken:
            log.info("instance %s: %s", row.id, taken)
        except (SQLAlchemyError, Unavailable):
            log.exception("instance %s: the database did not answer", row.id)
        except Exception:  # the outermost line of a loop: log, back off, go on
            log.exception("instance %s: the step from %s failed", row.id, state)
            await self._put_off(context, row.id, state)
        return False

    async def _put_off(self, context: Context, instance_id: str, state: State) -> None:
        message = "An error on our side; it is in the log, and the step is tried again"
        at_us = self._clock()
        try:
            await context.write(
                lambda conn: put_off(conn, instance_id, state, at_us, OUR_FAULT_PAUSE_S, message)
            )
        except (StaleLease, LostRow, IllegalEdge, SQLAlchemyError, Unavailable) as error:
            log.warning("instance %s: %s", instance_id, error)

    def _drop(self, instance_id: str, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(instance_id, None)
        self._leases.pop(instance_id, None)

    async def _stop_dead(self) -> None:
        """Accept the stop of what runs as wanted in the record, and on no machine."""
        for row in await self._context.read(list_running):
            if row.machine not in (None, self._machine):
                continue
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
