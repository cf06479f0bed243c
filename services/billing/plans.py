"""Plans as data: which meter is paid by, a minimum, a markup over list, what is free.

A version is in force from an instant on and is never changed; a launch keeps the version that was
in force when it was asked for.
"""

import re
from dataclasses import asdict

from sqlalchemy import Connection, insert, select

from nightingale_hub.errors import BadInput, Conflict
from nightingale_hub.tables.customers import plan
from nightingale_hub.terms import PPM, Plan

MAX_MINIMUM_S = 86_400
MAX_MARKUP_PPM = 100 * PPM
MAX_FREE_MICRO = 10**15
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


def find_fault(proposed: Plan) -> str | None:
    """Return what is wrong with *proposed*, or None."""
    if not _NAME.fullmatch(proposed.name):
        return "its name must be small letters, digits and hyphens, at most 40"
    if proposed.basis not in ("ready", "allocated"):
        return f"basis {proposed.basis[:40]!r} is neither ready nor allocated"
    if proposed.price not in ("shown", "book"):
        return f"price {proposed.price[:40]!r} is neither shown nor book"
    limits = {
        "effective_us": (0, 2**53),
        "minimum_s": (0, MAX_MINIMUM_S),
        "markup_ppm": (-PPM, MAX_MARKUP_PPM),
        "free_micro_per_month": (0, MAX_FREE_MICRO),
    }
    for name, (least, most) in limits.items():
        value = getattr(proposed, name)
        if type(value) is not int or not least <= value <= most:
            return f"{name} must be a whole number from {least} to {most}, not {value!r}"
    if type(proposed.bills_storage) is not bool:
        return "bills_storage must be true or false"
    return None


def publish_plan(conn: Connection, published: Plan, at_us: int) -> bool:
    """Add a version of a plan; returns False when the very same one is there.

    Raises `BadInput` for a wrong field or a date before *at_us*, `Conflict` for another version
    from the same instant: what a launch was promised is never changed.
    """
    fault = find_fault(published)
    if fault is not None:
        raise BadInput(f"plan {published.name[:40]!r}: {fault}")
    known = conn.execute(
        select(plan).where(
            plan.c.name == published.name, plan.c.effective_us == published.effective_us
        )
    ).one_or_none()
    if known is not None:
        if Plan(**known._mapping) != published:
            raise Conflict(
                f"plan {published.name} has another version from that instant; give it a later one"
            )
        return False
    if published.effective_us < at_us:
        raise BadInput(f"plan {published.name}: a version cannot begin in the past")
    conn.execute(insert(plan).values(asdict(published)))
    return True


def list_plans(conn: Connection) -> list[Plan]:
    """Return every version of every plan, by name and date."""
    rows = conn.execute(select(plan).order_by(plan.c.name, plan.c.effective_us))
    return [Plan(**row._mapping) for row in rows]
