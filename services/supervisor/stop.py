"""The steps of a stop, and of a home's end. Stopped means that the cloud said so."""

import asyncio

from sqlalchemy import Connection

from nightingale_hub import resizing
from nightingale_hub.errors import NightingaleError
from nightingale_hub.resizing import Phase
from nightingale_hub.services.supervisor.ground import remove_home
from nightingale_hub.services.supervisor.runs import bring_to_end
from nightingale_hub.services.supervisor.work import Work


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
    elif wish is not None:
        await work.take_edge(
            "running_to_resizing",
            f"Terraform gives it {resizing.to_offer(row, wish).size}",
            lambda conn, _: resizing.enter(conn, wish.id, Phase.APPLYING),
        )


async def stopping(work: Work) -> None:
    """Have Terraform remove it, again and again until that succeeds."""
    ended = await bring_to_end(work.context, work.site, "destroy", work.clock)
    if ended.error is not None:
        message = f"Stop failed, trying again in {{pause}}: {ended.error}"
        await work.put_off(message, work.context.settings.stop_retry_s, ended.close)
        return
    await work.take_edge(
        "stopping_to_stopped",
        "Gone: nothing of it is left",
        ended.close,
        stamp="gone_us",
        nonce_sha256=None,
        launch_secret=None,
    )
    await asyncio.to_thread(work.site.clear)


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
    await work.take_edge("removing_to_gone", "Gone: its home too")
