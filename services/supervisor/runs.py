"""Terraform's runs as the record knows them: written before they start, closed with the edge.

A run outlives this process. Its successor finds the open row, and in the workspace the run that
no closed row names, and goes on waiting for it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from nightingale_hub.errors import Conflict, IllegalEdge, NightingaleError
from nightingale_hub.instances import State, add_progress, find, get
from nightingale_hub.service import Context
from nightingale_hub.services.supervisor import ground, recovery
from nightingale_hub.services.supervisor.ground import equip
from nightingale_hub.services.supervisor.queue import Queue
from nightingale_hub.services.supervisor.site import Site
from nightingale_hub.tables.instances import instance, terraform_run
from nightingale_hub.terraform.means import Means
from nightingale_hub.terraform.run import Result, Run
from nightingale_hub.terraform.workspace import Workspace

WORKS_IN = {
    "apply": (State.LAUNCHING, State.RESIZING),
    # A launch that goes on in another cloud leaves nothing in the first.
    "destroy": (State.STOPPING, State.LAUNCHING),
}
LOOK_PAUSE_S = 0.3
_queue = Queue()  # of this process


@dataclass(frozen=True)
class Ended:
    """A run that is over and still open in the record; no error means that it succeeded."""

    row_id: int
    directory: str
    exit_status: int | None
    error: str | None
    stopped_us: int | None = None  # of a destroy: when the cloud itself says that it ended

    def close(self, conn: Connection, at_us: int) -> None:
        """Close it in the record, in the transaction of what follows from it."""
        conn.execute(
            update(terraform_run)
            .where(terraform_run.c.id == self.row_id)
            .values(directory=self.directory, exit_status=self.exit_status, ended_us=at_us)
        )


async def bring_to_end(
    context: Context,
    site: Site,
    action: str,
    clock: Callable[[], int],
    prepare: Callable[[], Awaitable[None]] | None = None,
) -> Ended:
    """Return how *action* ended, after picking up the run that goes on or starting one.

    *prepare* is awaited before a start. The run's steps become progress. An apply is interrupted
    when the instance's stop is accepted. Costs money; waits as long as Terraform does.
    """
    workspace = equip(context, site)
    row_id = await context.write(lambda conn: _ensure_open(conn, site.row.id, action, clock()))
    closed = await context.read(lambda conn: _list_closed(conn, site.row.id))
    result, error, stopped_us = Result(None), None, None
    try:
        run = _find_unnamed(workspace, closed, action)
        if run is None:

            async def tell(line: str) -> None:
                await context.write(lambda conn: add_progress(conn, site.row.id, clock(), line))

            async def look() -> None:
                await _check_wanted(context, site.row, action)

            async with _queue.turn(context.settings.terraform_runs, tell, look):
                await look()
                if prepare is not None:
                    await prepare()
                await ground.prepare(context, site, workspace, action, tell)
                await recovery.adopt(context, site, workspace, action, tell)
                run = await workspace.start(action)
                result = await _wait(context, site.row, run, workspace.means, clock)
        else:
            result = await _wait(context, site.row, run, workspace.means, clock)
        result.raise_for_failure()
        stopped_us = await recovery.confirm(context, site, action)
    except (NightingaleError, OSError) as failure:
        error = str(failure)
    run = _find_unnamed(workspace, closed, action)
    directory = str(run.directory if run is not None else workspace.directory)
    return Ended(row_id, directory, result.exit_status, error, stopped_us)


def find_open(conn: Connection, instance_id: str, action: str) -> int | None:
    """Return the row of the run of *action* that is not over, as far as the record knows."""
    return conn.execute(
        select(terraform_run.c.id).where(
            terraform_run.c.instance_id == instance_id,
            terraform_run.c.action == action,
            terraform_run.c.ended_us.is_(None),
        )
    ).scalar()


def find_last_end_us(conn: Connection, instance_id: str) -> int | None:
    """Return when the last run of an instance was over, or None before the first."""
    return conn.execute(
        select(func.max(terraform_run.c.ended_us)).where(terraform_run.c.instance_id == instance_id)
    ).scalar()


def _ensure_open(conn: Connection, instance_id: str, action: str, at_us: int) -> int:
    """Return the open row of *action*, written now unless there is one."""
    row = get(conn, instance_id)
    if row.actual not in WORKS_IN[action]:
        raise IllegalEdge(f"instance {instance_id} is {row.actual}, so terraform {action} is over")
    opened = find_open(conn, instance_id, action)
    if opened is not None:
        return opened
    if action == "apply":
        # From here on the cloud may bill us.
        conn.execute(
            update(instance)
            .where(instance.c.id == instance_id, instance.c.allocated_us.is_(None))
            .values(allocated_us=at_us)
        )
    written = conn.execute(
        insert(terraform_run)
        .values(instance_id=instance_id, action=action, directory="", started_us=at_us)
        .returning(terraform_run.c.id)
    )
    return int(written.scalar_one())


async def _check_wanted(context: Context, row: Row[Any], action: str) -> None:
    now = await context.read(lambda conn: get(conn, row.id))
    if action == "apply" and now.wanted != "running":
        raise Conflict(f"instance {row.id} is to be stopped, so it is not made")


def _list_closed(conn: Connection, instance_id: str) -> set[str]:
    closed = conn.execute(
        select(terraform_run.c.directory).where(
            terraform_run.c.instance_id == instance_id, terraform_run.c.ended_us.is_not(None)
        )
    )
    return set(closed.scalars())


def _find_unnamed(workspace: Workspace, closed: set[str], action: str) -> Run | None:
    run = workspace.find_run()
    if run is None or run.action != action or str(run.directory) in closed:
        return None
    return run


async def _wait(
    context: Context, row: Row[Any], run: Run, means: Means | None, clock: Callable[[], int]
) -> Result:
    async def tell(step: str) -> None:
        await context.write(lambda conn: add_progress(conn, row.id, clock(), step))

    waiting = asyncio.create_task(run.wait(tell))
    is_cancelled = run.action != "apply"
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=LOOK_PAUSE_S)
            if done:
                return waiting.result()
            if means is not None:
                await means.watch()
            if not is_cancelled:
                now = await context.read(lambda conn: find(conn, row.id))
                is_cancelled = now is not None and now.wanted != "running" and run.cancel()
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
