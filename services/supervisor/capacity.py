"""Lack of capacity told from other failures, and what is tried instead.

What a cloud says when it has none is its own; the words stand in its API's documentation. A home
pins its zone, so another zone is never tried silently; another type keeps the price that was shown.
ref: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from nightingale_hub.instances import add_progress
from nightingale_hub.resizing import to_offer
from nightingale_hub.services.supervisor.runs import Ended
from nightingale_hub.services.supervisor.work import Work
from nightingale_hub.shapes import change_shape

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


async def try_instead(work: Work, ended: Ended) -> bool:
    """Go on with another type when *ended* failed for lack of capacity and policy has one."""
    row = work.row
    lack = find_lack(row.cloud, ended.error or "")
    if lack is None:
        return False
    cloud = work.context.settings.clouds.get(row.cloud, {})
    other = find_next_type(cloud.get("instead", {}), row.instance_type)
    if other is None:
        return False
    said = f"{row.cloud} {row.region} has no {row.instance_type} left ({lack}); trying {other}"

    def write(conn: Connection, at_us: int) -> None:
        ended.close(conn, at_us)
        offer = replace(to_offer(row, row), instance_type=other)
        change_shape(conn, row.id, offer, at_us, "launch")
        add_progress(conn, row.id, at_us, said)

    await work.write(write)
    return True


def explain_end(cloud: str, region: str, instance_type: str, error: str) -> str:
    """Return why a launch failed, in words that say what next where it was lack of capacity."""
    lack = find_lack(cloud, error)
    if lack is None:
        return f"The launch failed: {error}"
    return (
        f"{cloud} {region} has no {instance_type} left ({lack}), and nothing is set to be tried "
        "instead; pick another size, or try again later"
    )
