"""The steps of a launch: from requested to running."""

import asyncio
import secrets
import time

from sqlalchemy import Connection, update

from nightingale_hub.auth import sha256_hex
from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import NoOffer, OverBudget, Unavailable
from nightingale_hub.instances import Cause, get, want_stopped
from nightingale_hub.probe import probe
from nightingale_hub.services.supervisor.attempts import list_attempts
from nightingale_hub.services.supervisor.capacity import explain_end, find_lack, try_instead
from nightingale_hub.services.supervisor.holdings import hold_home
from nightingale_hub.services.supervisor.runs import bring_to_end, find_last_end_us, find_open
from nightingale_hub.services.supervisor.work import Work
from nightingale_hub.tables.instances import instance

FIRST_PAUSE_S = 1.0
PROBE_WITHIN_S = 1.0
# How long one step goes on asking a server that boots, and how often: that is seen as a delay.
LOOKS_FOR_S = 1.0
LOOK_PAUSE_S = 0.03
# One that has not called home yet is looked up no more often than this.
HOME_PAUSE_S = 0.2


async def requested(work: Work) -> None:
    """Nothing exists: begin, or end here when nobody wants it any more."""
    if work.row.wanted == "stopped":
        await work.take_edge(
            "requested_to_stopped",
            "Gone: it was never made",
            stamp="gone_us",
            launch_secret=None,
        )
        return
    if await _has_money(work):
        await work.take_edge("requested_to_launching", "Terraform makes the instance")


async def launching(work: Work) -> None:
    """Have Terraform make it; what failed is tried again, then removed."""
    row, read = work.row, work.context.read
    if (
        row.wanted == "stopped"
        and await read(lambda conn: find_open(conn, row.id, "apply")) is None
    ):
        await work.take_edge("launching_to_stopping", "Terraform removes what there is of it")
        return
    ended = await bring_to_end(work.context, work.site, "apply", work.clock, lambda: _prepare(work))
    if ended.error is None:

        def made(conn: Connection, at_us: int) -> None:
            ended.close(conn, at_us)
            hold_home(conn, row, at_us)

        await work.take_edge("launching_to_booting", "Made; waiting until its server answers", made)
        return
    if (await read(lambda conn: get(conn, row.id))).wanted == "stopped":
        await work.take_edge(
            "launching_to_stopping",
            "Terraform was interrupted and removes what it made",
            ended.close,
        )
        return
    lack = find_lack(row.cloud, ended.error)
    if lack is not None and await try_instead(work, ended, lack):
        return
    if lack is not None or row.attempts + 1 >= work.context.settings.launch_attempts:
        tried = await read(lambda conn: list_attempts(conn, row.id))
        why = explain_end(row, lack, ended.error, tried)
        await work.give_up("launching_to_stopping", why, ended.close)
    else:
        message = f"The launch failed, trying again in {{pause}}: {ended.error}"
        await work.put_off(message, FIRST_PAUSE_S, ended.close)


async def booting(work: Work) -> None:
    """It exists: see whether its server answers with its nonce, for as long as it may take."""
    row = work.row
    if row.wanted == "stopped":
        await work.take_edge("booting_to_stopping", "Terraform removes the instance")
        return
    if await _answers(work):
        await work.take_edge(
            "booting_to_running",
            "Ready: the server answers, and billing starts",
            stamp="ready_us",
        )
        return
    timeout_s = work.context.settings.boot_timeout_s
    made_us = await work.context.read(lambda conn: find_last_end_us(conn, row.id))
    if work.clock() - (made_us or row.created_us) > timeout_s * US_PER_S:
        why = "its server did not answer" if row.port else "it did not call home"
        await work.give_up("booting_to_stopping", f"The launch failed: {why} in {timeout_s:g} s")


async def _answers(work: Work) -> bool:
    """Tell whether its server answers with its nonce, after asking it for a while."""
    row, until_s = work.row, time.monotonic() + LOOKS_FOR_S
    if row.port is None:
        await asyncio.sleep(HOME_PAUSE_S)
        return False
    base_url = row.base_url or "/"
    while not await probe(row.host, row.port, base_url, row.api_nonce, PROBE_WITHIN_S):
        if time.monotonic() > until_s:
            return False
        await asyncio.sleep(LOOK_PAUSE_S)
    return True


async def _has_money(work: Work) -> bool:
    """Have the money held before anything exists; a refusal ends the launch, silence delays it."""
    if work.money is None:
        return True
    try:
        await work.money.hold(work.row.id)
    except (OverBudget, NoOffer) as error:
        refusal = str(error)
        cause = Cause.BUDGET if isinstance(error, OverBudget) else Cause.LAUNCH_FAILED
    except Unavailable as error:
        message = f"Waiting for billing to hold the money, asking again in {{pause}}: {error}"
        await work.put_off(message, FIRST_PAUSE_S)
        return False
    else:
        return True

    def refuse(conn: Connection, at_us: int) -> None:
        want_stopped(conn, work.row.id, at_us, refusal, cause)

    await work.take_edge(
        "requested_to_stopped",
        "Gone: it was never made",
        refuse,
        stamp="gone_us",
        launch_secret=None,
    )
    return False


async def _prepare(work: Work) -> None:
    """Give the instance a nonce, known to the record before it is on disk, and its files."""
    nonce = await asyncio.to_thread(work.site.find_nonce) or secrets.token_hex(32)

    def write(conn: Connection) -> bool:
        # Once it has called home its nonce is burned, and no other can serve it.
        changed = conn.execute(
            update(instance)
            .where(instance.c.id == work.row.id, instance.c.launch_secret.is_not(None))
            .values(nonce_sha256=sha256_hex(nonce))
        )
        return bool(changed.rowcount)

    is_given = await work.context.write(write)
    await asyncio.to_thread(work.site.ensure, nonce if is_given else None)
