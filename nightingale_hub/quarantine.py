"""Who may start nothing for now, and why: set and ended by request, with a name and a reason."""

from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from nightingale_hub.errors import NotAllowed
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.tables.supervision import quarantine


def find_quarantine(conn: Connection, owner: str) -> Row[Any] | None:
    """Return the open quarantine of *owner*, or None."""
    return conn.execute(
        select(quarantine).where(quarantine.c.owner == owner, quarantine.c.ended_us.is_(None))
    ).one_or_none()


def list_quarantined(conn: Connection) -> list[Row[Any]]:
    """Return every open quarantine, oldest first."""
    query = select(quarantine).where(quarantine.c.ended_us.is_(None))
    return list(conn.execute(query.order_by(quarantine.c.since_us)))


def check_quarantine(conn: Connection, owner: str) -> None:
    """Raise `NotAllowed` with the reason while *owner* is in quarantine."""
    found = find_quarantine(conn, owner)
    if found is not None:
        raise NotAllowed(
            f"you may start nothing for now: {found.reason} (set by {found.actor}); ask your admin"
        )


def begin_quarantine(conn: Connection, owner: str, actor: str, reason: str, at_us: int) -> bool:
    """Let *owner* start nothing from now on; returns False when that is so already."""
    if find_quarantine(conn, owner) is not None:
        return False
    conn.execute(insert(quarantine).values(owner=owner, actor=actor, reason=reason, since_us=at_us))
    append_leaf(conn, "quarantine", {"owner": owner, "by": actor, "reason": reason}, at_us)
    return True


def end_quarantine(conn: Connection, owner: str, actor: str, at_us: int) -> bool:
    """Let *owner* start instances again; returns False when nothing kept them from it."""
    ended = conn.execute(
        update(quarantine)
        .where(quarantine.c.owner == owner, quarantine.c.ended_us.is_(None))
        .values(ended_us=at_us, ended_by=actor)
    )
    if ended.rowcount:
        append_leaf(conn, "release", {"owner": owner, "by": actor}, at_us)
    return bool(ended.rowcount)
