"""The instance record: the only truth about an instance, and the edges it may take.

What is wanted is written here before anything exists. An edge is taken only from the state that
it leaves, in one statement, so that of two who try, one wins.
"""

import hashlib
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, insert, select, update

from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import IllegalEdge, NotFound
from nightingale_hub.notices import Kind, add_notice
from nightingale_hub.tables.instances import instance, progress
from nightingale_hub.tables.supervision import resize


class State(StrEnum):
    """The actual state of an instance."""

    REQUESTED = "requested"  # written down; nothing exists
    LAUNCHING = "launching"  # Terraform works, something may exist
    BOOTING = "booting"  # it exists and has not answered yet
    RUNNING = "running"  # it answers; billing runs
    RESIZING = "resizing"  # it runs, and Terraform gives it another size or the old one back
    STOPPING = "stopping"  # it still exists until the cloud agrees
    STOPPED = "stopped"  # the cloud says that it is gone; its home is kept
    REMOVING = "removing"  # its home exists until that is gone too
    GONE = "gone"  # nothing is left


ENDED = (State.STOPPED, State.GONE)  # it is over, and its server may get another
SERVES = (State.RUNNING, State.RESIZING)  # its server is to answer


class Cause(StrEnum):
    """Why an instance stops, as far as one can act on it; `reason` says it in words."""

    ASKED = "asked"
    LAUNCH_FAILED = "launch failed"
    CRASHED = "crashed"
    PREEMPTED = "preempted"
    IDLE = "idle"
    BUDGET = "budget"
    QUARANTINE = "quarantine"


# Nobody asked for these: the owner is told wherever they are.
TOLD = (Cause.CRASHED, Cause.PREEMPTED)

EDGES = {
    "requested_to_launching": (State.REQUESTED, State.LAUNCHING),
    "requested_to_stopped": (State.REQUESTED, State.STOPPED),
    "launching_to_booting": (State.LAUNCHING, State.BOOTING),
    "launching_to_stopping": (State.LAUNCHING, State.STOPPING),
    "booting_to_running": (State.BOOTING, State.RUNNING),
    "booting_to_stopping": (State.BOOTING, State.STOPPING),
    "running_to_resizing": (State.RUNNING, State.RESIZING),
    "resizing_to_running": (State.RESIZING, State.RUNNING),
    "resizing_to_stopping": (State.RESIZING, State.STOPPING),
    "running_to_stopping": (State.RUNNING, State.STOPPING),
    "stopping_to_stopped": (State.STOPPING, State.STOPPED),
    "stopped_to_removing": (State.STOPPED, State.REMOVING),
    "removing_to_gone": (State.REMOVING, State.GONE),
}


def owner_hash(owner: str) -> str:
    """Return 16 hex digits that stand for *owner* in paths and system user names."""
    return hashlib.sha256(owner.encode()).hexdigest()[:16]


def find(conn: Connection, instance_id: str) -> Row[Any] | None:
    """Return the record of *instance_id*, or None."""
    return conn.execute(select(instance).where(instance.c.id == instance_id)).one_or_none()


def get(conn: Connection, instance_id: str) -> Row[Any]:
    """Return the record of *instance_id*; raises `NotFound`."""
    row = find(conn, instance_id)
    if row is None:
        raise NotFound(f"no instance {instance_id}; `nightingale status` shows yours")
    return row


def find_current(conn: Connection, owner: str, server_name: str) -> Row[Any] | None:
    """Return the instance of a server that is not gone yet, or None."""
    return conn.execute(
        select(instance)
        .where(
            instance.c.owner == owner,
            instance.c.server_name == server_name,
            instance.c.actual.not_in(ENDED),
        )
        .order_by(instance.c.created_us.desc())
        .limit(1)
    ).one_or_none()


def find_last(conn: Connection, owner: str, server_name: str | None = None) -> Row[Any] | None:
    """Return the newest instance of *owner*, of one server or of any, or None."""
    query = select(instance).where(instance.c.owner == owner)
    if server_name is not None:
        query = query.where(instance.c.server_name == server_name)
    newest = query.order_by(instance.c.created_us.desc(), instance.c.id).limit(1)
    return conn.execute(newest).one_or_none()


def list_unsettled(conn: Connection) -> list[Row[Any]]:
    """Return every instance that is not gone, oldest first."""
    return list(
        conn.execute(
            select(instance).where(instance.c.actual.not_in(ENDED)).order_by(instance.c.created_us)
        )
    )


def is_due(at_us: int) -> ColumnElement[bool]:
    """Return the condition of an instance that is not as wanted and may be worked on at *at_us*.

    One that runs as wanted needs no work, so a large fleet at rest costs nothing to look at.
    """
    is_resized = exists().where(resize.c.instance_id == instance.c.id, resize.c.ended_us.is_(None))
    moves = instance.c.actual.not_in((*ENDED, State.RUNNING))
    is_unwanted = (instance.c.actual == State.RUNNING) & (
        (instance.c.wanted != "running") | is_resized
    )
    is_kept = (instance.c.actual == State.STOPPED) & (instance.c.wanted == "gone")
    return (moves | is_unwanted | is_kept) & (instance.c.next_try_us <= at_us)


def list_due(conn: Connection, at_us: int) -> list[Row[Any]]:
    """Return, oldest first, every instance that is due at *at_us*."""
    return list(conn.execute(select(instance).where(is_due(at_us)).order_by(instance.c.created_us)))


def list_running(conn: Connection) -> list[Row[Any]]:
    """Return every instance that runs as wanted, oldest first."""
    return list(
        conn.execute(
            select(instance)
            .where(
                instance.c.actual.in_(SERVES),
                instance.c.wanted == "running",
            )
            .order_by(instance.c.created_us)
        )
    )


def list_for(conn: Connection, owner: str | None, limit: int = 100) -> list[Row[Any]]:
    """Return the newest instances of *owner*, or of everyone when None."""
    query = select(instance).order_by(instance.c.created_us.desc()).limit(limit)
    if owner is not None:
        query = query.where(instance.c.owner == owner)
    return list(conn.execute(query))


def take_edge(
    conn: Connection, instance_id: str, edge: str, at_us: int, message: str, **columns: Any
) -> None:
    """Move an instance along *edge*, set *columns*, and journal it with *message* for its owner.

    Raises `IllegalEdge` when the instance is not in the state that the edge leaves.
    """
    leaves, reaches = EDGES[edge]
    changed = conn.execute(
        update(instance)
        .where(instance.c.id == instance_id, instance.c.actual == leaves)
        .values(actual=reaches, attempts=0, next_try_us=0, **columns)
    ).rowcount
    if changed != 1:
        raise IllegalEdge(f"instance {instance_id} is not {leaves}, so it cannot take {edge}")
    add_progress(conn, instance_id, at_us, message, edge)


def want_stopped(
    conn: Connection, instance_id: str, at_us: int, reason: str, cause: Cause = Cause.ASKED
) -> bool:
    """Accept a stop: billing ends at *at_us*. Returns False when one was accepted before."""
    changed = conn.execute(
        update(instance)
        .where(instance.c.id == instance_id, instance.c.stop_accepted_us.is_(None))
        .values(wanted="stopped", stop_accepted_us=at_us, reason=reason, cause=cause, next_try_us=0)
    ).rowcount
    if changed:
        add_progress(conn, instance_id, at_us, f"Stop accepted: {reason}")
        if cause in TOLD:
            owner = get(conn, instance_id).owner
            said = f"{instance_id} {cause}"
            add_notice(conn, owner, Kind.ERROR, said, reason, f"stopped:{instance_id}", at_us)
    return bool(changed)


def change_place(
    conn: Connection, instance_id: str, cloud: str, region: str, machine: str | None
) -> None:
    """Record that an instance of which nothing exists yet is to be made elsewhere.

    *machine* is the one whose supervisors can work on it, None for any. Raises `IllegalEdge`
    unless it is launching.
    """
    changed = conn.execute(
        update(instance)
        .where(instance.c.id == instance_id, instance.c.actual == State.LAUNCHING)
        .values(cloud=cloud, region=region, machine=machine)
    ).rowcount
    if changed != 1:
        raise IllegalEdge(f"instance {instance_id} is not launching any more")


def put_off(
    conn: Connection, instance_id: str, actual: State, at_us: int, pause_s: float, message: str
) -> None:
    """Count a failed step of an instance that is *actual*; the next is due after *pause_s*.

    *message* tells its owner. Raises `IllegalEdge` when the instance is not *actual* any more.
    """
    changed = conn.execute(
        update(instance)
        .where(instance.c.id == instance_id, instance.c.actual == actual)
        .values(
            attempts=instance.c.attempts + 1,
            next_try_us=at_us + int(pause_s * US_PER_S),
        )
    ).rowcount
    if changed != 1:
        raise IllegalEdge(f"instance {instance_id} is not {actual} any more; nothing was put off")
    add_progress(conn, instance_id, at_us, message)


def reset_attempts(conn: Connection, instance_id: str, actual: State) -> None:
    """Count failures anew: a step of an instance that is *actual* went well.

    Raises `IllegalEdge` when the instance is not *actual* any more.
    """
    changed = conn.execute(
        update(instance)
        .where(instance.c.id == instance_id, instance.c.actual == actual)
        .values(attempts=0, next_try_us=0)
    ).rowcount
    if changed != 1:
        raise IllegalEdge(f"instance {instance_id} is not {actual} any more")


def add_progress(
    conn: Connection, instance_id: str, at_us: int, message: str, edge: str = ""
) -> None:
    """Append a line to what the owner may read about an instance."""
    conn.execute(
        insert(progress).values(
            instance_id=instance_id, at_us=at_us, edge=edge, message=message[:2000]
        )
    )


def list_progress(conn: Connection, instance_id: str, after_id: int = 0) -> list[Row[Any]]:
    """Return the progress lines of an instance after *after_id*, in order."""
    return list(
        conn.execute(
            select(progress)
            .where(progress.c.instance_id == instance_id, progress.c.id > after_id)
            .order_by(progress.c.id)
        )
    )
