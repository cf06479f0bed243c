"""A resize as the record knows it: asked for, applied, and done or taken back.

At most one is open per instance. The record's own size changes only when Terraform has said that
the instance has the new one, so what is billed is what was there.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from nightingale_hub.catalogue import DISK_GIB, count_vcpus
from nightingale_hub.errors import BadInput, Conflict
from nightingale_hub.instances import State, add_progress
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.offers import Offer, Size, find_offer
from nightingale_hub.quotas import Quota
from nightingale_hub.shapes import to_shape
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.supervision import resize, shape


class Phase(StrEnum):
    """How far a resize is."""

    ASKED = "asked"  # nothing was changed
    APPLYING = "applying"  # Terraform gives it the new size
    WAITING = "waiting"  # it has the new size; its server is to answer
    ROLLING_BACK = "rolling back"  # Terraform gives it the old size
    DONE = "done"
    TAKEN_BACK = "taken back"  # it has the old size
    DROPPED = "dropped"  # the instance is to stop


@dataclass(frozen=True)
class Plan:
    """What a resize will do: from the present offer to another."""

    now: Offer
    then: Offer


def plan_resize(conn: Connection, row: Row[Any], size: Size, quota: Quota, at_us: int) -> Plan:
    """Return what giving the instance *row* the *size* will do.

    Raises `Conflict` for one that does not run or is being resized, `BadInput` for the size that
    it has and for a smaller disk, `OverQuota`, `NoOffer`.
    """
    if row.actual != State.RUNNING or row.wanted != "running":
        raise Conflict(f"instance {row.id} is {row.actual}; only one that runs can be resized")
    if find_open(conn, row.id) is not None:
        raise Conflict(f"instance {row.id} is being resized; wait until that is over")
    if size == Size(row.cpu, row.gpu, row.disk):
        raise BadInput(f"instance {row.id} has {size} already; choose another size")
    if DISK_GIB[size.disk] < DISK_GIB[row.disk]:
        raise BadInput(
            f"a home can grow only: disk {row.disk} is {DISK_GIB[row.disk]} GiB and {size.disk} "
            f"is {DISK_GIB[size.disk]} GiB; keep disk {row.disk}"
        )
    quota.check_size(size)
    return Plan(to_offer(row, row), find_offer(conn, row.cloud, row.region, size, at_us))


def ask_resize(conn: Connection, row: Row[Any], plan: Plan, actor: str, at_us: int) -> None:
    """Write down that *actor* wants *plan* done; the supervisor begins within a second."""
    conn.execute(
        insert(resize).values(
            instance_id=row.id,
            actor=actor,
            phase=Phase.ASKED,
            asked_us=at_us,
            **to_shape(plan.then),
        )
    )
    conn.execute(update(instance).where(instance.c.id == row.id).values(next_try_us=0))
    add_progress(conn, row.id, at_us, f"{actor} asked for {plan.then.size}")
    said = {"instance": row.id, "by": actor, "size": str(plan.then.size)}
    append_leaf(conn, "resize", said, at_us)


def find_open(conn: Connection, instance_id: str) -> Row[Any] | None:
    """Return the resize of an instance that is not over, or None."""
    return conn.execute(
        select(resize).where(resize.c.instance_id == instance_id, resize.c.ended_us.is_(None))
    ).one_or_none()


def find_last(conn: Connection, instance_id: str) -> Row[Any] | None:
    """Return the newest resize of an instance, or None."""
    return conn.execute(
        select(resize)
        .where(resize.c.instance_id == instance_id)
        .order_by(resize.c.id.desc())
        .limit(1)
    ).one_or_none()


def find_size_before(conn: Connection, instance_id: str, wish: Row[Any]) -> Row[Any]:
    """Return the last shape that the instance had when *wish* was asked for."""
    return conn.execute(
        select(shape)
        .where(shape.c.instance_id == instance_id, shape.c.effective_us <= wish.asked_us)
        .order_by(shape.c.effective_us.desc())
        .limit(1)
    ).one()


def enter(conn: Connection, resize_id: int, phase: Phase, outcome: str = "") -> None:
    """Record that an open resize is in *phase*; *outcome* says why, where it is taken back."""
    conn.execute(
        update(resize)
        .where(resize.c.id == resize_id, resize.c.ended_us.is_(None))
        .values(phase=phase, outcome=outcome)
    )


def close(conn: Connection, resize_id: int, phase: Phase, at_us: int, outcome: str) -> None:
    """Record how a resize ended."""
    conn.execute(
        update(resize)
        .where(resize.c.id == resize_id, resize.c.ended_us.is_(None))
        .values(phase=phase, ended_us=at_us, outcome=outcome)
    )


def to_offer(row: Row[Any], size: Row[Any]) -> Offer:
    """Return the offer that instance *row* is with the *size* that a shape or a resize names."""
    return Offer(
        cloud=row.cloud,
        region=row.region,
        instance_type=size.instance_type,
        size=Size(size.cpu, size.gpu, size.disk),
        vcpus=count_vcpus(row.cloud, size.instance_type, size.cpu),
        disk_gib=DISK_GIB[size.disk],
        nano_usd_per_hour=size.nano_usd_per_hour,
    )
