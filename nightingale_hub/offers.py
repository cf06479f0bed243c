"""Sizes per resource, and the offer that a size becomes: what it really gives and costs.

Prices are billing's; this file only reads them. A size without a price is not offered.
"""

import os
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import Connection, select

from nightingale_hub.catalogue import DISK_GIB, GPUS, VCPUS, find_type
from nightingale_hub.cloud_offers import Found, explain_refusal, find_cheapest, name_sku
from nightingale_hub.errors import BadInput, NoOffer
from nightingale_hub.tables.billing import price

LOCAL = "local"
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
    type_sku: str = ""  # in a cloud, of the cheapest type that has it

    @property
    def sku(self) -> str:
        """The price book's name for it."""
        return self.type_sku or f"{self.resource}.{self.letter}"


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


def list_skus(cloud: str, instance_type: str, size: Size) -> list[str]:
    """Return the price book's names of what is paid for; their prices add up to the rate.

    On this machine each resource has its price; a cloud sells types whole, and disks.
    """
    if cloud == LOCAL:
        return [f"{each.name}.{getattr(size, each.name)}" for each in fields(Size)]
    return [name_sku(instance_type), f"disk.{size.disk}"]


def list_letters(cloud: str, resource: str) -> tuple[str, ...]:
    """Return the letters of *resource* that a person is shown; this machine has no large GPU."""
    return ("none", "S") if cloud == LOCAL and resource == "gpu" else LETTERS[resource]


def list_choices(conn: Connection, cloud: str, region: str, at_us: int) -> list[Choice]:
    """Return every size of every resource with its price at *at_us* and whether it can be had.

    In a cloud a cpu or gpu costs what the cheapest type with it does: its price says from what on.
    """
    prices = list_prices(conn, cloud, region, "USD", at_us)
    choices = []
    for resource in LETTERS:
        for letter in list_letters(cloud, resource):
            if cloud == LOCAL or resource == "disk":
                choices.append(_choose_part(cloud, resource, letter, prices))
            else:
                choices.append(_choose_type(cloud, region, resource, letter, prices))
    return choices


def find_offer(conn: Connection, cloud: str, region: str, size: Size, at_us: int) -> Offer:
    """Return the offer for *size* at *at_us*; raises `NoOffer` with the reason and a way out."""
    prices = list_prices(conn, cloud, region, "USD", at_us)
    resources = LETTERS if cloud == LOCAL else ("disk",)
    total = 0
    for resource in resources:
        letter = getattr(size, resource)
        choice = _choose_part(cloud, resource, letter, prices)
        if choice.refusal:
            raise NoOffer(
                f"{resource} size {letter} is not offered by {cloud} {region}: {choice.refusal}"
            )
        assert choice.nano_usd_per_hour is not None
        total += choice.nano_usd_per_hour
    name, vcpus = f"{cloud}-{size.cpu}-{size.gpu}-{size.disk}", VCPUS[size.cpu]
    if cloud != LOCAL:
        found = find_cheapest(cloud, size.cpu, size.gpu, prices)
        if found is None:
            raise NoOffer(explain_refusal(cloud, region, size.cpu, size.gpu, prices))
        name, vcpus = found.type.name, found.type.vcpus
        total += found.nano_usd_per_hour
    return Offer(
        cloud=cloud,
        region=region,
        instance_type=name,
        size=size,
        vcpus=vcpus,
        disk_gib=DISK_GIB[size.disk],
        nano_usd_per_hour=total,
    )


def list_types_by_size(
    conn: Connection, cloud: str, region: str, at_us: int
) -> dict[tuple[str, str], Found | str]:
    """Return, per cpu and gpu, the type that a cloud would give, or why there is none.

    Empty on this machine, where each resource stands for itself.
    """
    if cloud == LOCAL:
        return {}
    prices = list_prices(conn, cloud, region, "USD", at_us)
    return {
        (cpu, gpu): find_cheapest(cloud, cpu, gpu, prices)
        or explain_refusal(cloud, region, cpu, gpu, prices)
        for cpu in VCPUS
        for gpu in GPUS
    }


def describe_offer(offer: Offer) -> dict[str, Any]:
    """Return *offer* fit for JSON."""
    return {
        "size": str(offer.size),
        **asdict(offer.size),
        "instance_type": offer.instance_type,
        "gives": str(find_type(offer.cloud, offer.instance_type) or ""),
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


def _choose_part(cloud: str, resource: str, letter: str, prices: dict[str, int]) -> Choice:
    """Return one size of what has a price of its own."""
    nano = prices.get(f"{resource}.{letter}")
    gives, refusal = _gives(resource, letter), ""
    if cloud == LOCAL:
        gives = f"{GPUS[letter][0]} GPU" if resource == "gpu" and GPUS[letter][0] else gives
        refusal = _refusal(resource, letter)
    if not refusal and nano is None:
        refusal = "billing has no price for it yet; reload in a moment or ask your admin"
    return Choice(resource, letter, gives, nano, refusal)


def _choose_type(
    cloud: str, region: str, resource: str, letter: str, prices: dict[str, int]
) -> Choice:
    """Return one size of what a cloud sells as part of a type only."""
    cpu, gpu = (letter, "none") if resource == "cpu" else ("S", letter)
    found = find_cheapest(cloud, cpu, gpu, prices)
    if found is None:
        refusal = explain_refusal(cloud, region, cpu, gpu, prices)
        return Choice(resource, letter, _gives(resource, letter), None, refusal)
    sku = name_sku(found.type.name)
    return Choice(resource, letter, _gives(resource, letter), found.nano_usd_per_hour, "", sku)


def _gives(resource: str, letter: str) -> str:
    if resource == "cpu":
        count = VCPUS[letter]
        return f"{count} CPU" if count == 1 else f"{count} CPUs"
    if resource == "gpu":
        count, memory_gib = GPUS[letter]
        return f"{count} GPU{'s' * (count > 1)} of {memory_gib} GiB" if count else "no GPU"
    return f"{DISK_GIB[letter]} GiB home"


def _refusal(resource: str, letter: str) -> str:
    if resource == "gpu" and letter != "none":
        return "the local cloud has no GPU; choose gpu none"
    machine = os.cpu_count() or 1
    if resource == "cpu" and VCPUS[letter] > machine:
        return f"this machine has {machine} CPUs; choose a smaller cpu size"
    return ""
