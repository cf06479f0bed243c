"""Sizes per resource, and the offer that a size becomes: what it really gives and costs.

Prices are billing's; this file only reads them. A size without a price is not offered.
"""

import os
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import Connection, select

from nightingale_hub.errors import BadInput, NoOffer
from nightingale_hub.tables.billing import price

VCPUS = {"S": 1, "M": 2, "L": 4, "XL": 8}
GPUS = {"none": 0, "S": 1}
DISK_GIB = {"S": 10, "M": 50, "L": 200}
LETTERS = {"cpu": tuple(VCPUS), "gpu": tuple(GPUS), "disk": tuple(DISK_GIB)}


@dataclass(frozen=True)
class Size:
    """A t-shirt size per resource, freely combined."""

    cpu: str = "S"
    gpu: str = "none"
    disk: str = "S"

    def __str__(self) -> str:
        """Read as `cpu S, gpu none, disk S`."""
        return f"cpu {self.cpu}, gpu {self.gpu}, disk {self.disk}"


@dataclass(frozen=True)
class Offer:
    """A size made concrete: where, which instance type, what it gives, what it costs."""

    cloud: str
    region: str
    instance_type: str
    size: Size
    vcpus: int
    disk_gib: int
    nano_usd_per_hour: int


@dataclass(frozen=True)
class Choice:
    """One size of one resource as a person sees it; *refusal* says why it can't be had."""

    resource: str
    letter: str
    gives: str
    nano_usd_per_hour: int | None
    refusal: str = ""

    @property
    def sku(self) -> str:
        """The price book's name for it."""
        return f"{self.resource}.{self.letter}"


def parse_size(values: dict[str, object]) -> Size:
    """Return the size that *values* name; raises `BadInput` for any other key or letter."""
    unknown = sorted(set(values) - set(LETTERS))
    if unknown:
        raise BadInput(f"unknown option {unknown[0]!r}; choose {', '.join(LETTERS)}")
    for resource, letter in values.items():
        if not isinstance(letter, str) or letter not in LETTERS[resource]:
            raise BadInput(
                f"{resource} size {str(letter)[:40]!r} does not exist; "
                f"choose one of {', '.join(LETTERS[resource])}"
            )
    return Size(
        **{field.name: str(values.get(field.name, field.default)) for field in fields(Size)}
    )


def list_skus(size: Size) -> list[str]:
    """Return the price book's names of what *size* is made of; their prices add up to its rate."""
    return [f"{each.name}.{getattr(size, each.name)}" for each in fields(Size)]


def list_choices(conn: Connection, cloud: str, region: str, at_us: int) -> list[Choice]:
    """Return every size of every resource with its price at *at_us* and whether it can be had."""
    prices = list_prices(conn, cloud, region, "USD", at_us)
    choices = []
    for resource, letters in LETTERS.items():
        for letter in letters:
            nano = prices.get(f"{resource}.{letter}")
            refusal = _refusal(resource, letter)
            if not refusal and nano is None:
                refusal = "billing has no price for it yet; reload in a moment or ask your admin"
            choices.append(Choice(resource, letter, _gives(resource, letter), nano, refusal))
    return choices


def find_offer(conn: Connection, cloud: str, region: str, size: Size, at_us: int) -> Offer:
    """Return the offer for *size* at *at_us*; raises `NoOffer` with the reason and a way out."""
    total = 0
    for choice in list_choices(conn, cloud, region, at_us):
        if getattr(size, choice.resource) != choice.letter:
            continue
        if choice.refusal:
            raise NoOffer(
                f"{choice.resource} size {choice.letter} is not offered by {cloud} {region}: "
                f"{choice.refusal}"
            )
        assert choice.nano_usd_per_hour is not None
        total += choice.nano_usd_per_hour
    return Offer(
        cloud=cloud,
        region=region,
        instance_type=f"{cloud}-{size.cpu}-{size.gpu}-{size.disk}",
        size=size,
        vcpus=VCPUS[size.cpu],
        disk_gib=DISK_GIB[size.disk],
        nano_usd_per_hour=total,
    )


def describe_offer(offer: Offer) -> dict[str, Any]:
    """Return *offer* fit for JSON."""
    return {
        "size": str(offer.size),
        **asdict(offer.size),
        "instance_type": offer.instance_type,
    }


def list_prices(
    conn: Connection, cloud: str, region: str, currency: str, at_us: int
) -> dict[str, int]:
    """Return the list price of each SKU at *at_us*, in nano-units of *currency* per hour."""
    rows = conn.execute(
        select(price.c.sku, price.c.nano_per_hour)
        .where(
            price.c.cloud == cloud,
            price.c.region == region,
            price.c.currency == currency,
            price.c.effective_us <= at_us,
        )
        .order_by(price.c.effective_us)
    )
    return {sku: nano for sku, nano in rows}


def _gives(resource: str, letter: str) -> str:
    if resource == "cpu":
        count = VCPUS[letter]
        return f"{count} CPU" if count == 1 else f"{count} CPUs"
    if resource == "gpu":
        count = GPUS[letter]
        return "no GPU" if count == 0 else f"{count} GPU"
    return f"{DISK_GIB[letter]} GiB home"


def _refusal(resource: str, letter: str) -> str:
    # Only the local cloud has offers in this version, so the machine is the limit.
    if resource == "gpu" and GPUS[letter]:
        return "the local cloud has no GPU; choose gpu none"
    machine = os.cpu_count() or 1
    if resource == "cpu" and VCPUS[letter] > machine:
        return f"this machine has {machine} CPUs; choose a smaller cpu size"
    return ""
