"""What it would cost: a size before it is started, and a run that was, on every other size."""

from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, func, select

from nightingale_hub.errors import NoOffer, NotFound
from nightingale_hub.instances import get
from nightingale_hub.offers import Offer, Size, find_offer, list_letters
from nightingale_hub.services.billing import holds
from nightingale_hub.services.billing.budgets import describe
from nightingale_hub.services.billing.rating import rate
from nightingale_hub.services.billing.reach import seconds_for
from nightingale_hub.services.billing.room import UNLIMITED, find_room
from nightingale_hub.tables.billing import line_item
from nightingale_hub.terms import Terms, resolve_terms

YEAR_S = 366 * 86_400


def quote_size(
    conn: Connection, owner: str, cloud: str, region: str, size: Size, at_us: int
) -> dict[str, Any]:
    """Return what *size* costs *owner*, what a launch holds, and how long their money lasts.

    `seconds_left` is None where nothing limits it. Raises `NoOffer` for a size that is not sold.
    """
    offer = find_offer(conn, cloud, region, size, at_us)
    terms = resolve_terms(conn, owner, at_us)
    wish = _wish(owner, offer)
    asked = holds.quote(conn, wish, terms, at_us)
    room = find_room(conn, asked.pays, wish, asked.project, asked.nano_per_hour, at_us)
    left = None
    if room.micro < UNLIMITED:
        left = seconds_for(room.micro - asked.disk_micro, asked.nano_per_hour, YEAR_S)
    is_refused = asked.amount_micro > room.micro
    return {
        "cloud": cloud,
        "region": region,
        "size": str(size),
        "instance_type": offer.instance_type,
        "customer": asked.pays.id,
        "kind": asked.pays.kind,
        "currency": asked.pays.currency,
        "nano_per_hour": asked.nano_per_hour,
        "hold_micro": asked.amount_micro,
        "seconds_left": left,
        "refusal": f"the money cannot be held: {room.because}" if is_refused else "",
        "budgets": describe(room.standings),
    }


def compare_run(conn: Connection, owner: str, instance_id: str, at_us: int) -> dict[str, Any]:
    """Return what the posted seconds of an instance would have cost on each other size.

    The same seconds at today's rates: a faster size would have needed fewer. Raises `NotFound`
    for an instance that is not *owner*'s.
    """
    row = get(conn, instance_id)
    if row.owner != owner:
        raise NotFound(f"no instance {instance_id[:40]!r} is yours")
    seconds, amount = conn.execute(
        select(
            func.coalesce(func.sum(line_item.c.seconds), 0),
            func.coalesce(func.sum(line_item.c.amount_micro), 0),
        ).where(line_item.c.instance_id == instance_id, line_item.c.kind == "usage")
    ).one()
    terms = resolve_terms(conn, owner, row.created_us)
    others = []
    for cpu in list_letters(row.cloud, "cpu"):
        for gpu in list_letters(row.cloud, "gpu"):
            size = Size(cpu, gpu, row.disk)
            nano = _rate(conn, owner, row, size, terms, at_us)
            others.append(
                {
                    "size": str(size),
                    "is_own": size == Size(row.cpu, row.gpu, row.disk),
                    "nano_per_hour": nano,
                    "amount_micro": None if nano is None else rate(int(seconds), nano),
                }
            )
    return {
        "instance_id": instance_id,
        "size": str(Size(row.cpu, row.gpu, row.disk)),
        "currency": terms.customer.currency,
        "seconds": int(seconds),
        "amount_micro": int(amount),
        "others": others,
    }


def _rate(
    conn: Connection, owner: str, row: Any, size: Size, terms: Terms, at_us: int
) -> int | None:
    try:
        offer = find_offer(conn, row.cloud, row.region, size, at_us)
        return holds.find_rate(conn, _wish(owner, offer), terms, at_us)
    except (NoOffer, NotFound):
        return None


def _wish(owner: str, offer: Offer) -> Any:
    return SimpleNamespace(
        id="",
        owner=owner,
        cloud=offer.cloud,
        region=offer.region,
        instance_type=offer.instance_type,
        cpu=offer.size.cpu,
        gpu=offer.size.gpu,
        disk=offer.size.disk,
        nano_usd_per_hour=offer.nano_usd_per_hour,
    )
