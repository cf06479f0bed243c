"""Homes outlive instances; one is removed only when somebody asks for that, and nothing uses it."""

from sqlalchemy import Connection, select, update

from nightingale_hub.errors import Conflict
from nightingale_hub.instances import ENDED, State, add_progress, get
from nightingale_hub.tables.instances import instance


def want_gone(conn: Connection, instance_id: str, at_us: int, reason: str) -> None:
    """Want a stopped instance's home removed for ever. Raises `Conflict` unless it is stopped.

    The home is its owner's, so no other instance of theirs may be there to use it.
    """
    row = get(conn, instance_id)
    if row.actual == State.GONE or row.wanted == "gone":
        return
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
