"""How each cloud bills us, as data: what a stopped instance costs, and the least it charges for.

ref: https://aws.amazon.com/ec2/pricing/on-demand/ (per second, 60 s at least, running only)
ref: https://learn.microsoft.com/azure/virtual-machines/states-billing (until it is deallocated)
ref: https://cloud.google.com/compute/all-pricing (per second, 1 min at least)
ref: https://cloud.google.com/run/pricing (rounded up to 100 ms)
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Provider:
    """One cloud's rules. Disks and addresses cost on every cloud while they exist."""

    bills_stopped: bool = False  # until it is deallocated or removed, not only while it runs
    minimum_s: int = 0
    granularity_us: int = 1_000_000


PROVIDERS = {
    "aws": Provider(minimum_s=60),
    "azure": Provider(bills_stopped=True),
    "gcp": Provider(minimum_s=60),
    "gcp_cloud_run": Provider(granularity_us=100_000),
}


def get_provider(cloud: str) -> Provider:
    """Return the rules of *cloud*; one that is not known here bills what it runs, by the second."""
    return PROVIDERS.get(cloud, Provider())
