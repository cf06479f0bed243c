"""What the clouds and the agents prove about an instance's use, written by whoever learns it.

Metering and billing read it. Everything here may be told twice, and nothing is ever changed.
"""

import re

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from nightingale_hub.errors import BadInput, Conflict
from nightingale_hub.tables.metering import fault, holding, provider_stop

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
    conn: Connection, instance_id: str, cause: str, proof: str, start_us: int, end_us: int
) -> bool:
    """Record that the platform failed an instance in [start, end); returns False for a repetition.

    *proof* is `agent` or `provider`. Raises `BadInput` for a cause that is no word or an end
    before its start, `Conflict` for another end than the one that is recorded.
    """
    if not _CAUSE.fullmatch(cause):
        raise BadInput(f"fault {cause[:40]!r} is no word such as mount or host_failed")
    if end_us < start_us:
        raise BadInput(f"fault {cause} of {instance_id} ends before it starts")
    known = conn.execute(
        select(fault.c.end_us).where(
            fault.c.instance_id == instance_id,
            fault.c.cause == cause,
            fault.c.start_us == start_us,
        )
    ).scalar()
    if known is not None:
        if known != end_us:
            raise Conflict(f"fault {cause} of {instance_id} is recorded with another end")
        return False
    conn.execute(
        insert(fault).values(
            instance_id=instance_id, cause=cause, proof=proof, start_us=start_us, end_us=end_us
        )
    )
    return True


def begin_holding(
    conn: Connection, instance_id: str, kind: str, resource_id: str, sku: str, at_us: int
) -> bool:
    """Record that a disk or an address exists from *at_us* on; returns False for a repetition.

    *sku* is what the price book calls it. Raises `BadInput` for a name that is empty or too long.
    """
    for name in (resource_id, sku):
        if not 0 < len(name) <= MAX_NAME_CHARS:
            raise BadInput(f"the {kind} of {instance_id} needs a name and a SKU")
    if conn.execute(select(holding.c.sku).where(_is(kind, resource_id))).first() is not None:
        return False
    conn.execute(
        insert(holding).values(
            kind=kind, resource_id=resource_id, instance_id=instance_id, sku=sku, from_us=at_us
        )
    )
    return True


def end_holding(conn: Connection, kind: str, resource_id: str, at_us: int) -> bool:
    """Record that the cloud says a disk or an address is gone; returns False when it was so."""
    changed = conn.execute(
        update(holding)
        .where(_is(kind, resource_id), holding.c.until_us.is_(None))
        .values(until_us=at_us)
    )
    return bool(changed.rowcount)


def _is(kind: str, resource_id: str) -> ColumnElement[bool]:
    return and_(holding.c.kind == kind, holding.c.resource_id == resource_id)
