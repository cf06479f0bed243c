"""The sweep: what each cloud says exists, held against the record, at the start and ever again.

What no record stands for is quarantined (recorded and left alone), then removed after a bound.
What a record stands for and the cloud took back is told to its owner. It never guesses: a cloud
that does not answer is swept next time.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.errors import NightingaleError, Unavailable
from nightingale_hub.instances import (
    ENDED,
    Cause,
    State,
    add_progress,
    find,
    list_progress,
    list_running,
)
from nightingale_hub.instances import want_stopped as accept_stop
from nightingale_hub.resizing import to_offer
from nightingale_hub.service import Context
from nightingale_hub.services.supervisor.inventory import (
    Found,
    Inventory,
    explain_reason,
    get_inventory,
)
from nightingale_hub.services.supervisor.recovery import ENDING, parse_cloud_id
from nightingale_hub.shapes import change_shape
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.orphans import orphan
from nightingale_hub.terms import find_unpriced
from nightingale_hub.terraform.states import find_state
from nightingale_hub.usage import close_faults, find_boot, note_fault, note_stop

log = logging.getLogger("nightingale")
SWEEP_PAUSE_S = 60.0
# Terraform is at work: what exists is about to be in a state, or to be gone.
IN_FLUX = (State.LAUNCHING, State.STOPPING, State.RESIZING, State.REQUESTED)


class Sweep:
    """One look over every region that has instances of ours."""

    def __init__(self, context: Context, clock: Callable[[], int] = now_us) -> None:
        """Look with *context*'s record; *clock* gives µs."""
        self._context = context
        self._clock = clock

    async def step(self) -> None:
        """Sweep each cloud that the operator set, in the hub's region and wherever we ever were."""
        settings = self._context.settings
        for cloud, given in settings.clouds.items():
            regions = await self._context.read(partial(_list_regions, cloud))
            if settings.cloud == cloud:
                regions |= {settings.region}
            for region in sorted(regions):
                try:
                    inventory = get_inventory(cloud, region, given.get("environment", {}))
                    assert inventory is not None, cloud
                    await self._sweep(cloud, region, inventory)
                except NightingaleError as error:
                    log.warning("%s %s cannot be swept: %s", cloud, region, error)

    async def _sweep(self, cloud: str, region: str, inventory: Inventory) -> None:
        # Read before the cloud is asked: what was made in between is not missing.
        running = await self._context.read(list_running)
        found = await asyncio.to_thread(inventory.list_instances, self._context.settings.hub_id)
        alive = {each.cloud_id: each for each in found if each.state not in ENDING}
        at_us = self._clock()
        await self._context.write(
            lambda conn: _note_removed(conn, cloud, region, set(alive), at_us)
        )
        for each in alive.values():
            await self._look_at(cloud, region, each, inventory)
        here = [row for row in running if (row.cloud, row.region) == (cloud, region)]
        for row in here:
            await self._look_after(row, found)
        await self._look_at_hosts(f"{cloud}/{region}/", inventory, running, found, at_us)

    async def _look_at_hosts(
        self,
        where: str,
        inventory: Inventory,
        running: list[Row[Any]],
        found: list[Found],
        at_us: int,
    ) -> None:
        """Record whose host fails; a cloud that does not tell proves neither that nor its end."""
        try:
            impaired = await asyncio.to_thread(inventory.list_impaired)
        except Unavailable as error:
            log.warning("%s: whose host fails is not known: %s", where, error)
            return
        await self._context.write(
            lambda conn: _note_impaired(conn, where, running, found, impaired, at_us)
        )

    async def _look_at(self, cloud: str, region: str, found: Found, inventory: Inventory) -> None:
        """See whether a record stands for *found*; else quarantine it, and remove it in time."""
        row = await self._context.read(lambda conn: find(conn, found.instance_id))
        why = await self._find_why(row, found)
        if why is None:
            return
        at_us = self._clock()
        seen = await self._context.write(
            lambda conn: _quarantine(conn, cloud, region, found, why, at_us)
        )
        after_us = int(self._context.settings.orphan_after_s * US_PER_S)
        if seen.removed_us is None and at_us - seen.seen_us >= after_us:
            log.warning("%s of %s is removed: %s", found.cloud_id, cloud, why)
            await asyncio.to_thread(inventory.terminate, found.cloud_id)

    async def _find_why(self, row: Row[Any] | None, found: Found) -> str | None:
        """Return why *found* belongs to nobody, or None when it does or that is not known yet."""
        if row is None:
            return "no instance of that name is on record"
        if row.actual in ENDED:
            return "its instance is over"
        if row.actual in IN_FLUX:
            return None
        key, path = self._context.settings.secret_key(), f"instance/{row.id}"
        state = await self._context.read(lambda conn: find_state(conn, key, path))
        known = parse_cloud_id(state, row.cloud)
        if known is not None and known != found.cloud_id:
            return f"its instance is {known}"
        return None

    async def _look_after(self, row: Row[Any], found: list[Found]) -> None:
        """See whether the cloud still runs what runs as wanted, and as what."""
        mine = [each for each in found if each.instance_id == row.id]
        alive = [each for each in mine if each.state in ("pending", "running")]
        at_us = self._clock()
        if not alive:
            last = max(mine, key=lambda each: each.launched, default=None)
            is_spot = last is not None and (last.is_spot or "Spot" in last.reason)
            cause = Cause.PREEMPTED if is_spot else Cause.CRASHED
            said = (
                explain_reason(last.reason)
                if last is not None
                else "the cloud does not know it any more"
            )
            why = "the cloud took its spot capacity back" if is_spot else said
            why += "; the home is kept, start again"
            log.warning("instance %s of %s: %s", row.id, row.owner, why)
            stopped_us = None if last is None else last.stopped_us
            await self._context.write(
                lambda conn: _stop_still_running(conn, row.id, at_us, why, cause, stopped_us)
            )
        elif row.actual == State.RUNNING and alive[0].instance_type != row.instance_type:
            await self._context.write(
                lambda conn: _record_drift(conn, row.id, alive[0].instance_type, at_us)
            )


def _note_removed(conn: Connection, cloud: str, region: str, alive: set[str], at_us: int) -> None:
    """Record as removed what the cloud itself does not list any more."""
    conn.execute(
        update(orphan)
        .where(
            orphan.c.cloud == cloud,
            orphan.c.region == region,
            orphan.c.removed_us.is_(None),
            orphan.c.cloud_id.not_in(alive),
        )
        .values(removed_us=at_us)
    )


def _list_regions(cloud: str, conn: Connection) -> set[str]:
    query = select(instance.c.region).where(instance.c.cloud == cloud).distinct()
    return set(conn.execute(query).scalars())


def _quarantine(
    conn: Connection, cloud: str, region: str, found: Found, why: str, at_us: int
) -> Row[Any]:
    query = select(orphan).where(orphan.c.cloud_id == found.cloud_id)
    seen = conn.execute(query).one_or_none()
    if seen is not None:
        return seen
    log.warning("%s %s has %s, and %s: quarantined", cloud, region, found.cloud_id, why)
    conn.execute(
        insert(orphan).values(
            cloud_id=found.cloud_id,
            cloud=cloud,
            region=region,
            instance_id=found.instance_id,
            instance_type=found.instance_type,
            why=why,
            seen_us=at_us,
        )
    )
    return conn.execute(query).one()


def _stop_still_running(
    conn: Connection, instance_id: str, at_us: int, why: str, cause: Cause, stopped_us: int | None
) -> None:
    row = find(conn, instance_id)
    if row is not None and row.actual == State.RUNNING and row.wanted == "running":
        boot_id = find_boot(conn, instance_id) or row.boot_id
        if stopped_us is not None and boot_id is not None:
            note_stop(conn, instance_id, boot_id, stopped_us)
        accept_stop(conn, instance_id, at_us, why, cause)


def _note_impaired(
    conn: Connection,
    where: str,
    running: list[Row[Any]],
    found: list[Found],
    impaired: dict[str, int],
    at_us: int,
) -> None:
    """Record whose host fails by the cloud's own word, and that it does no more."""
    known, told = {row.id for row in running}, set()
    for each in found:
        since_us = impaired.get(each.cloud_id)
        if since_us is not None and each.instance_id in known:
            name = f"{where}{each.cloud_id}:{since_us}"
            told.add(name)
            note_fault(
                conn, each.instance_id, "host", "provider", since_us,
                max(at_us, since_us), name, is_open=True,
            )  # fmt: skip
    close_faults(conn, where, told)


def _record_drift(conn: Connection, instance_id: str, observed: str, at_us: int) -> None:
    """Append the type that was observed; the price stays the one that was shown.

    One that the payer has no price for is told once, and it is charged as what it was.
    """
    row = find(conn, instance_id)
    if row is None or row.actual != State.RUNNING or row.instance_type == observed:
        return
    said = f"The cloud says that it is {observed}, not {row.instance_type}"
    offer = replace(to_offer(row, row), instance_type=observed)
    why = find_unpriced(conn, row, offer, at_us)
    if why:
        said += f"; it is charged as {row.instance_type}, for {why}"
        if any(each.message == said for each in list_progress(conn, instance_id)):
            return
    else:
        change_shape(conn, instance_id, offer, at_us, "drift")
    log.warning("instance %s: %s", instance_id, said)
    add_progress(conn, instance_id, at_us, said)
