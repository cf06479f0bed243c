"""The steps of a stop: from running to gone. Stopped means that the cloud said so."""

import asyncio

from nightingale_hub.services.supervisor.runs import bring_to_end
from nightingale_hub.services.supervisor.work import Work


async def running(work: Work) -> None:
    """It runs: begin to remove it once its stop is accepted."""
    if work.row.wanted == "stopped":
        await work.take_edge("running_to_stopping", "Terraform removes the instance")


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
