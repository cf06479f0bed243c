"""Lack of capacity told from other failures, and what is tried instead, by the operator's policy.

First the next zone, then the next type in every zone, then the next cloud. A home that was in use
pins zone and cloud, so these change for a new home alone; the price stays the one that was shown.
ref: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row

from nightingale_hub.errors import Conflict, NightingaleError, NoOffer
from nightingale_hub.instances import add_progress, change_place
from nightingale_hub.offers import Offer, Size, find_offer
from nightingale_hub.resizing import to_offer
from nightingale_hub.row_lease import this_machine
from nightingale_hub.services.supervisor import attempts
from nightingale_hub.services.supervisor.ground import find_home_zone, get_cloud, remove_home
from nightingale_hub.services.supervisor.runs import Ended, bring_to_end
from nightingale_hub.services.supervisor.work import Work
from nightingale_hub.shapes import change_shape
from nightingale_hub.terms import find_unpriced

FIRST_PAUSE_S = 1.0
# The code alone, as a word: a resource's own name may hold any of these.
SAYS = {
    "aws": (
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientCapacity",
        "Unsupported",
        "SpotMaxPriceTooLow",
        "MaxSpotInstanceCountExceeded",
        "VcpuLimitExceeded",
        "InstanceLimitExceeded",
    ),
    "azure": (
        "SkuNotAvailable",
        "AllocationFailed",
        "ZonalAllocationFailed",
        "OverconstrainedAllocationRequest",
        "OperationNotAllowed",
        "QuotaExceeded",
    ),
    "gcp": (
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "QUOTA_EXCEEDED",
        "quotaExceeded",
    ),
}


def find_lack(cloud: str, error: str) -> str | None:
    """Return the cloud's own word for a lack of capacity in *error*, or None for other faults."""
    for word in SAYS.get(cloud, ()):
        if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", error):
            return word
    return None


def find_next_type(instead: Mapping[str, Sequence[str]], instance_type: str) -> str | None:
    """Return what is tried after *instance_type* by the operator's policy, or None at its end."""
    for first, others in instead.items():
        chain = [first, *others]
        if instance_type in chain[:-1]:
            return chain[chain.index(instance_type) + 1]
    return None


async def try_instead(work: Work, ended: Ended, lack: str) -> bool:
    """Go on in another zone, as another type or in another cloud; False when none is left.

    *ended* failed for *lack*. What fails on the way is tried `launch_attempts` times. May remove
    a home that nobody ever used; costs money.
    """
    row, context = work.row, work.context
    cloud = get_cloud(work.site)
    zone = await context.read(lambda conn: find_home_zone(conn, work.site))
    tried = await context.read(lambda conn: attempts.list_attempts(conn, row.id))
    is_fresh = await context.read(lambda conn: attempts.is_home_fresh(conn, row))
    refused = {zone, *attempts.list_refused_zones(tried, row)}
    left = [each for each in cloud.get("zones", ()) if each not in refused]
    where = f"{row.cloud} {zone or row.region} has no {row.instance_type} left ({lack})"
    try:
        if is_fresh and zone and left:
            await remove_home(context, work.site)
            await _go_on(work, ended, zone, lack, f"{where}; trying zone {left[0]}")
            return True
        offer = await _find_next(work, cloud.get("instead", {}), where)
        if offer is not None:
            said = f"{where}; trying {offer.instance_type}"
            await _go_on(work, ended, zone, lack, said, offer)
            return True
        then = cloud.get("then")
        if then is None or not is_fresh:
            return False
        return await _change_cloud(work, ended, zone, lack, where, then)
    except NightingaleError as error:
        if row.attempts + 1 >= context.settings.launch_attempts:
            said = f"{where}, and what was to be tried instead failed too: {error}"
            await context.write(lambda conn: add_progress(conn, row.id, work.clock(), said))
            return False
        await work.put_off(
            f"{where}, trying again in {{pause}}: {error}", FIRST_PAUSE_S, ended.close
        )
        return True


async def _find_next(work: Work, instead: Mapping[str, Sequence[str]], where: str) -> Offer | None:
    """Return the instance as the next type that its payer has a price for, or None."""
    name = find_next_type(instead, work.row.instance_type)
    while name is not None:
        offer = replace(to_offer(work.row, work.row), instance_type=name)
        if await _has_price(work, offer, f"{where}; not trying {name}"):
            return offer
        name = find_next_type(instead, name)
    return None


async def _has_price(work: Work, offer: Offer, passing: str) -> bool:
    """Tell whether *offer* can be charged for; where it can't, say *passing* and why."""
    row, at_us = work.row, work.clock()
    why = await work.context.read(lambda conn: find_unpriced(conn, row, offer, at_us))
    if why:
        await work.context.write(
            lambda conn: add_progress(conn, row.id, at_us, f"{passing}: {why}")
        )
    return not why


async def _go_on(
    work: Work, ended: Ended, zone: str, lack: str, said: str, offer: Offer | None = None
) -> None:
    row = work.row

    def write(conn: Connection, at_us: int) -> None:
        ended.close(conn, at_us)
        attempts.add_attempt(conn, row, zone, lack, at_us)
        if offer is not None:
            change_shape(conn, row.id, offer, at_us, "launch")
        add_progress(conn, row.id, at_us, said)

    await work.write(write)


async def _change_cloud(
    work: Work, ended: Ended, zone: str, lack: str, where: str, then: Mapping[str, str]
) -> bool:
    """Leave nothing in this cloud, then go on in the next; False when it has no such size.

    Raises `NightingaleError` while something is left: that counts as one of the launch's attempts.
    """
    row = work.row
    size, at_us = Size(row.cpu, row.gpu, row.disk), work.clock()
    try:
        found = await work.context.read(
            lambda conn: find_offer(conn, then["cloud"], then["region"], size, at_us)
        )
    except NoOffer:
        return False
    name = f"{then['cloud']} {then['region']}"
    if not await _has_price(work, found, f"{where}; not trying {name}"):
        return False

    def leave(conn: Connection) -> None:
        # Nothing went well yet, so the attempts count on.
        ended.close(conn, at_us)
        attempts.add_attempt(conn, row, zone, lack, at_us)
        add_progress(conn, row.id, at_us, f"{where}; trying {name}")

    await work.context.write(leave)
    cleared = await bring_to_end(work.context, work.site, "destroy", work.clock)
    if cleared.error is not None:
        await work.context.write(lambda conn: cleared.close(conn, work.clock()))
        raise Conflict(f"not all of it could be removed: {cleared.error}")
    await remove_home(work.context, work.site)
    await asyncio.to_thread(work.site.workspace.empty)
    offer = replace(found, nano_usd_per_hour=row.nano_usd_per_hour)
    machine = this_machine() if offer.cloud == "local" else None

    def write(conn: Connection, at_us: int) -> None:
        cleared.close(conn, at_us)
        change_place(conn, row.id, offer.cloud, offer.region, machine)
        change_shape(conn, row.id, offer, at_us, "launch")

    await work.write(write)
    return True


def explain_end(row: Row[Any], lack: str | None, error: str, tried: Sequence[Row[Any]]) -> str:
    """Return why a launch failed, in words that say what next where it was lack of capacity."""
    if lack is None:
        return f"The launch failed: {error}"
    types = list(dict.fromkeys([*(each.instance_type for each in tried), row.instance_type]))
    places = list(dict.fromkeys([*(each.zone for each in tried if each.zone), row.region]))
    return (
        f"{row.cloud} {', '.join(places)} has no {', '.join(types)} left ({lack}), and nothing is "
        "left to be tried instead; pick another size, or try again later"
    )
