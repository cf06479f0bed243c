"""The steps of a resize: to the new size while it can be had, else back to the old one.

The size is Terraform's to give; the record's changes when it has been given, and a home is never
touched. What is not known after a crash is found out by applying the same size again.
"""

import asyncio
from typing import Any

from sqlalchemy import Connection, Row

from nightingale_hub import resizing
from nightingale_hub.clock import US_PER_S
from nightingale_hub.instances import Cause, add_progress, get
from nightingale_hub.probe import probe
from nightingale_hub.resizing import Phase, to_offer
from nightingale_hub.services.supervisor.holdings import hold_home
from nightingale_hub.services.supervisor.runs import (
    Ended,
    bring_to_end,
    find_last_end_us,
    find_open,
)
from nightingale_hub.services.supervisor.site import Site
from nightingale_hub.services.supervisor.work import Work
from nightingale_hub.shapes import change_shape

FIRST_PAUSE_S = 1.0
PROBE_WITHIN_S = 1.0
# After so many failures to give the old size back, nobody knows any more what there is.
ROLLBACK_ATTEMPTS = 5


async def resizing_step(work: Work) -> None:
    """Bring the open resize one step further."""
    row = work.row
    wish = await work.context.read(lambda conn: resizing.find_open(conn, row.id))
    if row.wanted != "running":
        is_applying = await work.context.read(lambda conn: find_open(conn, row.id, "apply"))
        if is_applying is None:
            await _stop(work, wish)
            return
    if wish is None:
        await work.take_edge("resizing_to_running", "It has the size that is wanted")
    elif wish.phase == Phase.APPLYING:
        await _apply(work, wish)
    elif wish.phase == Phase.ROLLING_BACK:
        await _roll_back(work, wish)
    else:
        await _wait(work, wish)


async def _apply(work: Work, wish: Row[Any]) -> None:
    row = work.row
    wanted = to_offer(row, wish)
    ended = await _terraform(work, wish)
    if ended.error is None:

        def enter(conn: Connection, at_us: int) -> None:
            ended.close(conn, at_us)
            change_shape(conn, row.id, wanted, at_us, "resize")
            hold_home(conn, row, at_us, wanted.size.disk)
            resizing.enter(conn, wish.id, Phase.WAITING)
            add_progress(conn, row.id, at_us, f"It has {wanted.size}")

        await work.write(enter)
    elif await _is_to_stop(work):
        await _stop(work, wish, ended)
    elif row.attempts + 1 < work.context.settings.launch_attempts:
        message = f"The resize failed, trying again in {{pause}}: {ended.error}"
        await work.put_off(message, FIRST_PAUSE_S, ended.close)
    else:
        await _turn_back(work, wish, str(ended.error), ended)


async def _wait(work: Work, wish: Row[Any]) -> None:
    """It has the new size: see whether its server answers, for as long as a boot may take."""
    row = work.row
    if await probe(row.host, row.port, row.base_url or "/", row.api_nonce, PROBE_WITHIN_S):
        said = f"Resized to {to_offer(row, wish).size}"
        await work.take_edge(
            "resizing_to_running",
            said,
            lambda conn, at_us: resizing.close(conn, wish.id, Phase.DONE, at_us, said),
        )
        return
    timeout_s = work.context.settings.boot_timeout_s
    made_us = await work.context.read(lambda conn: find_last_end_us(conn, row.id))
    if work.clock() - (made_us or row.created_us) > timeout_s * US_PER_S:
        await _turn_back(work, wish, f"its server did not answer in {timeout_s:g} s")


async def _turn_back(work: Work, wish: Row[Any], why: str, ended: Ended | None = None) -> None:
    def enter(conn: Connection, at_us: int) -> None:
        if ended is not None:
            ended.close(conn, at_us)
        resizing.enter(conn, wish.id, Phase.ROLLING_BACK, why)
        add_progress(conn, work.row.id, at_us, f"The resize failed, and is taken back: {why}")

    await work.write(enter)


async def _roll_back(work: Work, wish: Row[Any]) -> None:
    """Give it the last size that it had before the resize was asked for."""
    row = work.row
    old = await work.context.read(lambda conn: resizing.find_size_before(conn, row.id, wish))
    ended = await _terraform(work, old)
    if await _is_to_stop(work):
        await _stop(work, wish, ended)
        return
    answers = await probe(row.host, row.port, row.base_url or "/", row.api_nonce, PROBE_WITHIN_S)
    if ended.error is None and answers:
        size = to_offer(row, old).size
        said = f"It keeps {size}: {wish.outcome}"

        def close(conn: Connection, at_us: int) -> None:
            ended.close(conn, at_us)
            if to_offer(row, old) != to_offer(row, row):
                change_shape(conn, row.id, to_offer(row, old), at_us, "resize")
                hold_home(conn, row, at_us, old.disk)
            resizing.close(conn, wish.id, Phase.TAKEN_BACK, at_us, said)

        await work.take_edge("resizing_to_running", said, close)
    elif row.attempts + 1 < ROLLBACK_ATTEMPTS:
        why = ended.error or "its server does not answer"
        message = f"The old size is not back, trying again in {{pause}}: {why}"
        await work.put_off(message, FIRST_PAUSE_S, ended.close)
    elif answers:
        said = f"It runs, and its size could not be made sure of: {ended.error}; tell your admin"

        def leave(conn: Connection, at_us: int) -> None:
            ended.close(conn, at_us)
            resizing.close(conn, wish.id, Phase.TAKEN_BACK, at_us, said)

        await work.take_edge("resizing_to_running", said, leave)
    else:
        why = f"The resize failed, and the instance does not answer: {wish.outcome}"

        def give_up(conn: Connection, at_us: int) -> None:
            ended.close(conn, at_us)
            resizing.close(conn, wish.id, Phase.DROPPED, at_us, why)

        await work.give_up("resizing_to_stopping", why, give_up, Cause.CRASHED)


async def _terraform(work: Work, shape: Row[Any]) -> Ended:
    site = Site(work.context.settings, work.row, shape)

    async def prepare() -> None:
        await asyncio.to_thread(site.ensure, None)

    return await bring_to_end(work.context, site, "apply", work.clock, prepare)


async def _is_to_stop(work: Work) -> bool:
    now = await work.context.read(lambda conn: get(conn, work.row.id))
    return bool(now.wanted != "running")


async def _stop(work: Work, wish: Row[Any] | None, ended: Ended | None = None) -> None:
    def drop(conn: Connection, at_us: int) -> None:
        if ended is not None:
            ended.close(conn, at_us)
        if wish is not None:
            said = "the instance was to stop"
            resizing.close(conn, wish.id, Phase.DROPPED, at_us, said)

    await work.take_edge("resizing_to_stopping", "Terraform removes the instance", drop)
