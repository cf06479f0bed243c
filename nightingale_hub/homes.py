"""Homes outlive instances; one is removed only when somebody asks for that, and nothing uses it."""

from typing import Any

from sqlalchemy import Connection, exists, func, select, text, update

from nightingale_hub.errors import Conflict
from nightingale_hub.instances import ENDED, State, add_progress, get
from nightingale_hub.tables.instances import instance

other = instance.alias()
_ORDER = (other.c.owner, other.c.server_name, other.c.cloud, other.c.region)


def lock_owner(conn: Connection, owner: str) -> None:
    """Let no one else decide about *owner*'s instances and homes until the transaction ends."""
    if conn.dialect.name == "postgresql":  # SQLite has one writer anyway
        conn.execute(text("SELECT pg_advisory_xact_lock(hashtext(:owner))"), {"owner": owner})


def want_gone(conn: Connection, instance_id: str, at_us: int, reason: str) -> None:
    """Want a stopped instance's home removed for ever. Raises `Conflict` unless it is stopped.

    The home is its owner's, so no other instance of theirs may be there to use it.
    """
    row = get(conn, instance_id)
    if row.actual == State.GONE or row.wanted == "gone":
        return
    lock_owner(conn, row.owner)
    users = conn.execute(
        select(instance.c.id).where(instance.c.owner == row.owner, instance.c.actual.not_in(ENDED))
    ).scalars()
    using = sorted({*users, *([] if row.actual == State.STOPPED else [row.id])})
    if using:
        raise Conflict(
            f"the home of {row.owner} is in use by {', '.join(using)}; stop that first, then "
            "remove the home"
        )
    conn.execute(
        update(instance).where(instance.c.id == row.id).values(wanted="gone", next_try_us=0)
    )
    add_progress(conn, instance_id, at_us, f"Its home is to be removed: {reason}")


def check_home_stays(conn: Connection, owner: str) -> None:
    """Raise `Conflict` while a home of *owner* is to be removed: a start would lose its files.

    Holds off a removal until the transaction ends.
    """
    lock_owner(conn, owner)
    going = conn.execute(
        select(instance.c.id).where(
            instance.c.owner == owner,
            instance.c.wanted == "gone",
            instance.c.actual != State.GONE,
        )
    ).first()
    if going is not None:
        raise Conflict(
            f"the home of {owner} is being removed with instance {going.id}; start again when "
            "that is over"
        )


def find_place(conn: Connection, owner: str, server_name: str) -> tuple[str, str] | None:
    """Return the cloud and region of the home that a server used last and that is kept, or None.

    A launch in another cloud or region would find an empty home there.
    """
    later = instance.alias()
    # Of a place's instances the one with which its home was removed is the last.
    is_removed = exists().where(
        later.c.owner == other.c.owner,
        later.c.server_name == other.c.server_name,
        later.c.cloud == other.c.cloud,
        later.c.region == other.c.region,
        later.c.created_us >= other.c.created_us,
        later.c.actual == State.GONE,
    )
    used = select(other.c.cloud, other.c.region).where(
        other.c.owner == owner,
        other.c.server_name == server_name,
        other.c.ready_us.is_not(None),
        ~is_removed,
    )
    row = conn.execute(used.order_by(other.c.created_us.desc()).limit(1)).one_or_none()
    return None if row is None else (row.cloud, row.region)


def list_homes(conn: Connection, owner: str | None = None) -> list[dict[str, Any]]:
    """Return the last instance of each home that is kept or being removed, by owner and server.

    A server has one in every cloud and region where it ever was; the local cloud has one for all
    servers of an owner. *owner* limits it to one person.
    """
    last = select(func.max(instance.c.created_us)).where(
        instance.c.owner == other.c.owner,
        instance.c.server_name == other.c.server_name,
        instance.c.cloud == other.c.cloud,
        instance.c.region == other.c.region,
    )
    query = select(other).where(other.c.created_us == last.scalar_subquery())
    if owner is not None:
        query = query.where(other.c.owner == owner)
    rows = conn.execute(query.order_by(*_ORDER))
    return [
        {
            "owner": row.owner,
            "server": row.server_name,
            "cloud": row.cloud,
            "region": row.region,
            "instance": row.id,
            "state": "to be removed"
            if row.wanted == "gone" and row.actual == State.STOPPED
            else row.actual,
        }
        for row in rows
        if row.actual != State.GONE
    ]
