"""Offers of the clouds: the cheapest type that covers a size, at the price book's rates.

A combination that no type covers is refused with the nearest that there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nightingale_hub.catalogue import InstanceType, list_nearest, list_types
from nightingale_hub.money import format_rate


@dataclass(frozen=True)
class Found:
    """A type and what an hour of it costs."""

    type: InstanceType
    nano_usd_per_hour: int

    def __str__(self) -> str:
        """Read as the type with its rate."""
        return f"{self.type}, {format_rate(self.nano_usd_per_hour)}"


def name_sku(instance_type: str) -> str:
    """Return the price book's name of a type."""
    return f"type.{instance_type}"


def find_cheapest(cloud: str, cpu: str, gpu: str, prices: Mapping[str, int]) -> Found | None:
    """Return the cheapest type that covers *cpu* and *gpu* and has a price, or None."""
    found = [
        Found(each, prices[name_sku(each.name)])
        for each in list_types(cloud)
        if each.covers(cpu, gpu) and name_sku(each.name) in prices
    ]
    return min(found, key=lambda each: (each.nano_usd_per_hour, each.type.name), default=None)


def explain_refusal(cloud: str, region: str, cpu: str, gpu: str, prices: Mapping[str, int]) -> str:
    """Return why no type covers *cpu* and *gpu* in *region*, and what is nearest."""
    said = f"{cloud} {region} has no type with cpu {cpu} and gpu {gpu} together"
    for near_cpu, near_gpu in list_nearest(cpu, gpu):
        found = find_cheapest(cloud, near_cpu, near_gpu, prices)
        if found is not None:
            return f"{said}; nearest is cpu {near_cpu}, gpu {near_gpu} ({found})"
    return f"{cloud} {region} has no type with a price; ask your admin to load a price list"
