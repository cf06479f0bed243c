"""The sizes that an instance had, each from an instant on: what its price is worked out from.

A resize changes the record and appends here in one transaction, so whoever bills can cut the time
at that very instant, however late it looks.
"""

from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from nightingale_hub.offers import Offer
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.supervision import shape


def add_shape(
    conn: Connection, instance_id: str, offer: Offer, effective_us: int, cause: str
) -> None:
    """Append that an instance is what *offer* says from *effective_us* on."""
    conn.execute(
        insert(shape).values(
            instance_id=instance_id,
            effective_us=effective_us,
            cause=cause,
            **to_shape(offer),
        )
    )


def to_shape(offer: Offer) -> dict[str, Any]:
    """Return the columns by which record, shapes and resizes name *offer*."""
    return {
        "instance_type": offer.instance_type,
        "cpu": offer.size.cpu,
        "gpu": offer.size.gpu,
        "disk": offer.size.disk,
        "nano_usd_per_hour": offer.nano_usd_per_hour,
    }


def change_shape(
    conn: Connection, instance_id: str, offer: Offer, effective_us: int, cause: str
) -> None:
    """Record that an instance is *offer* from *effective_us* on: in its row and among its shapes.

    An instant that is not after the last shape's is moved there: a shape lasts at least 1 µs.
    """
    last_us = conn.execute(
        select(func.max(shape.c.effective_us)).where(shape.c.instance_id == instance_id)
    ).scalar()
    add_shape(conn, instance_id, offer, max(effective_us, (last_us or 0) + 1), cause)
    conn.execute(update(instance).where(instance.c.id == instance_id).values(**to_shape(offer)))
