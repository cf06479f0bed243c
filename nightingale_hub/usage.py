"""What the clouds and the agents prove about an instance's use, written by whoever learns it.

Metering and billing read it. Everything here may be told twice; only what is still open grows.
"""

import re
from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from nightingale_hub.errors import BadInput, Conflict
from nightingale_hub.tables.metering import fault, holding, provider_stop, segment

MAX_NAME_CHARS = 200
_CAUSE = re.compile(r"[a-z][a-z0-9_]{0,39}")


def note_stop(conn: Connection, instance_id: str, boot_id: str, at_us: int) -> bool:
    """Record when the cloud itself says that a boot ended; returns False when it was recorded.

    The first word stands, for time may have been billed by it.
    """
    key = and_(provider_stop.c.instance_id == instance_id, provider_stop.c.boot_id == boot_id)
    if conn.execute(select(provider_stop.c.at_us).where(key)).first() is not None:
        return False
    conn.execute(
        insert(provider_stop).values(instance_id=instance_id, boot_id=boot_id, at_us=at_us)
    )
    return True


def note_fault(
    conn: Connection,
    instance_id: str,
    cause: str,
    proof: str,
    start_us: int,
    end_us: int,
    told_as: str | None = None,
    is_open: bool = False,
) -> bool:
    """Record that the platform failed an instance in [start, end); returns False for nothing new.

    *proof* is `agent` or `provider`. One that is told again *told_as* the same keeps its start;
    while it *is_open* its end only grows, and it is credited once it is closed, or
    the instance gone. Raises `BadInput` for a cause that is no word or an end before its start,
    `Conflict` for another end than the one that is recorded.
    """
    if not _CAUSE.fullmatch(cause):
        raise BadInput(f"fault {cause[:40]!r} is no word such as mount or host_failed")
    if end_us < start_us:
        raise BadInput(f"fault {cause} of {instance_id} ends before it starts")
    told = fault.c.told_as == told_as if told_as is not None else fault.c.start_us == start_us
    known = conn.execute(
        select(fault).where(fault.c.instance_id == instance_id, fault.c.cause == cause, told)
    ).one_or_none()
    if known is None:
        values = {"cause": cause, "proof": proof, "start_us": start_us, "end_us": end_us}
        conn.execute(
            insert(fault).values(
                instance_id=instance_id, told_as=told_as, is_open=is_open, **values
            )
        )
        return True
    if known.is_open:
        end_us = max(known.end_us, known.start_us + (end_us - start_us))
        if (end_us, is_open) == (known.end_us, True):
            return False
        conn.execute(
            update(fault).where(fault.c.id == known.id).values(end_us=end_us, is_open=is_open)
        )
        return True
    if told_as is None and known.end_us != end_us:
        raise Conflict(f"fault {cause} of {instance_id} is recorded with another end")
    return False


def close_faults(conn: Connection, prefix: str, besides: Collection[str]) -> int:
    """Close the open faults told as *prefix*…, but for *besides*; return how many were."""
    mine = fault.c.told_as.startswith(prefix, autoescape=True) & fault.c.is_open
    closed = conn.execute(
        update(fault).where(mine, fault.c.told_as.not_in(besides)).values(is_open=False)
    )
    return int(closed.rowcount)


def begin_holding(
    conn: Connection, instance_id: str, kind: str, resource_id: str, sku: str, at_us: int
) -> bool:
    """Record that a disk or an address is an instance's from *at_us* on; False for a repetition.

    Whose it was until then, or of which size, ends there. *sku* is what the price book calls it.
    Raises `BadInput` for a name that is empty or too long.
    """
    for name in (resource_id, sku):
        if not 0 < len(name) <= MAX_NAME_CHARS:
            raise BadInput(f"the {kind} of {instance_id} needs a name and a SKU")
    last = conn.execute(
        select(holding).where(_is(kind, resource_id)).order_by(holding.c.from_us.desc()).limit(1)
    ).one_or_none()
    if last is not None:
        if last.until_us is None and (last.instance_id, last.sku) == (instance_id, sku):
            return False
        at_us = max(at_us, last.from_us + 1, last.until_us or 0)
        end_holding(conn, kind, resource_id, at_us)
    conn.execute(
        insert(holding).values(
            kind=kind, resource_id=resource_id, instance_id=instance_id, sku=sku, from_us=at_us
        )
    )
    return True


def find_holder(conn: Connection, kind: str, resource_id: str) -> str | None:
    """Return the instance whose a disk or an address is now, or None."""
    return conn.execute(
        select(holding.c.instance_id).where(_is(kind, resource_id), holding.c.until_us.is_(None))
    ).scalar()


def end_holding(conn: Connection, kind: str, resource_id: str, at_us: int) -> bool:
    """Record that the cloud says a disk or an address is gone; returns False when it was so."""
    changed = conn.execute(
        update(holding)
        .where(_is(kind, resource_id), holding.c.until_us.is_(None))
        .values(until_us=at_us)
    )
    return bool(changed.rowcount)


def find_boot(conn: Connection, instance_id: str) -> str | None:
    """Return the boot of an instance that is metered now, or was last; None before the first."""
    return conn.execute(
        select(segment.c.boot_id)
        .where(segment.c.instance_id == instance_id, segment.c.meter == "ready")
        .order_by(segment.c.start_us.desc(), segment.c.id.desc())
        .limit(1)
    ).scalar()


def _is(kind: str, resource_id: str) -> ColumnElement[bool]:
    return and_(holding.c.kind == kind, holding.c.resource_id == resource_id)
