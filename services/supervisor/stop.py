"""The steps of a stop, and of a home's end. Stopped means that the cloud said so."""

import asyncio
from typing import Any

from sqlalchemy import Connection, Row

from nightingale_hub import resizing
from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import NightingaleError, NoOffer, OverBudget, Unavailable
from nightingale_hub.instances import add_progress, get
from nightingale_hub.resizing import Phase
from nightingale_hub.services.supervisor.ground import remove_home
from nightingale_hub.services.supervisor.holdings import drop_home, pass_home_on
from nightingale_hub.services.supervisor.runs import bring_to_end
from nightingale_hub.services.supervisor.work import Work
from nightingale_hub.usage import find_boot, note_stop

FIRST_PAUSE_S = 1.0


async def running(work: Work) -> None:
    """It runs: begin to remove it once its stop is accepted, or to resize it once that is asked."""
    row = work.row
    wish = await work.context.read(lambda conn: resizing.find_open(conn, row.id))
    if row.wanted != "running":

        def drop(conn: Connection, at_us: int) -> None:
            if wish is not None:
                said = "the instance was to stop"
                resizing.close(conn, wish.id, Phase.DROPPED, at_us, said)

        await work.take_edge("running_to_stopping", "Terraform removes the instance", drop)
    elif wish is not None and await _has_money(work, wish):
        await work.take_edge(
            "running_to_resizing",
            f"Terraform gives it {resizing.to_offer(row, wish).size}",
            lambda conn, _: resizing.enter(conn, wish.id, Phase.APPLYING),
        )


async def _has_money(work: Work, wish: Row[Any]) -> bool:
    """Have the money for the new size held first; a refusal ends the resize, silence delays it."""
    if work.money is None:
        return True
    wanted = resizing.to_offer(work.row, wish)
    try:
        await work.money.hold_resize(work.row.id, wanted)
    except (OverBudget, NoOffer) as error:
        said = f"It keeps its size: {error}"

        def refuse(conn: Connection, at_us: int) -> None:
            resizing.close(conn, wish.id, Phase.DROPPED, at_us, said)
            add_progress(conn, work.row.id, at_us, said)

        await work.write(refuse)
    except Unavailable as error:
        message = f"Waiting for billing to hold the money, asking again in {{pause}}: {error}"
        await work.put_off(message, FIRST_PAUSE_S)
    else:
        return True
    return False


async def stopping(work: Work) -> None:
    """Have Terraform remove it, again and again until that succeeds."""
    ended = await bring_to_end(work.context, work.site, "destroy", work.clock)
    if ended.error is not None:
        message = f"Stop failed, trying again in {{pause}}: {ended.error}"
        await work.put_off(message, work.context.settings.stop_retry_s, ended.close)
        return

    def gone(conn: Connection, at_us: int) -> None:
        ended.close(conn, at_us)
        pass_home_on(conn, work.row)
        boot_id = find_boot(conn, work.row.id)
        if ended.stopped_us is not None and boot_id is not None:
            accepted_us = get(conn, work.row.id).stop_accepted_us or 0
            note_stop(conn, work.row.id, boot_id, find_end_us(ended.stopped_us, accepted_us))

    await work.take_edge(
        "stopping_to_stopped",
        "Gone: nothing of it is left",
        gone,
        stamp="gone_us",
        nonce_sha256=None,
        launch_secret=None,
    )
    await asyncio.to_thread(work.site.clear)


def find_end_us(told_us: int, accepted_us: int) -> int:
    """Return when a boot ended for which the cloud tells *told_us*, in whole seconds.

    In the very second in which the stop was accepted it followed that; earlier it ended by itself.
    """
    return accepted_us if told_us < accepted_us < told_us + US_PER_S else told_us


async def stopped(work: Work) -> None:
    """It is over; its home is kept until somebody wants that gone too."""
    if work.row.wanted == "gone":
        await work.take_edge("stopped_to_removing", "Its home is being removed")


async def removing(work: Work) -> None:
    """Remove the home, again and again until nothing is left of it."""
    try:
        await remove_home(work.context, work.site)
    except (OSError, NightingaleError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        message = f"The home is not gone, trying again in {{pause}}: {why}"
        await work.put_off(message, work.context.settings.stop_retry_s)
        return
    await work.take_edge(
        "removing_to_gone",
        "Gone: its home too",
        lambda conn, at_us: drop_home(conn, work.row, at_us),
    )
