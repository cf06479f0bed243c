"""Who belongs to which customer, and on which project: what scopes, limits and pages go by."""

from typing import Any

from sqlalchemy import Connection, insert, select, update

from nightingale_hub.errors import Conflict, NotFound
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.tables.credit import member
from nightingale_hub.tables.customers import customer, payer


def find_project(conn: Connection, customer_id: str, owner: str, at_us: int) -> str:
    """Return the project that *owner* works on for a customer at an instant, or nothing."""
    row = conn.execute(
        select(member.c.project)
        .where(
            member.c.customer == customer_id,
            member.c.owner == owner,
            member.c.from_us <= at_us,
            member.c.until_us.is_(None) | (member.c.until_us > at_us),
        )
        .order_by(member.c.from_us.desc())
        .limit(1)
    ).scalar()
    return row or ""


def may_see(conn: Connection, customer_id: str, owner: str, at_us: int) -> bool:
    """Tell whether *owner* may see all of a customer: it is their own, or they manage it."""
    if customer_id == f"user/{owner}":
        return True
    found = conn.execute(
        select(member.c.owner).where(
            member.c.customer == customer_id,
            member.c.owner == owner,
            member.c.role == "manager",
            member.c.from_us <= at_us,
            member.c.until_us.is_(None) | (member.c.until_us > at_us),
        )
    ).first()
    return found is not None


def list_managed(conn: Connection, owner: str, at_us: int) -> list[str]:
    """Return the customers that *owner* may see all of, their own first."""
    rows = conn.execute(
        select(member.c.customer)
        .where(
            member.c.owner == owner,
            member.c.role == "manager",
            member.c.from_us <= at_us,
            member.c.until_us.is_(None) | (member.c.until_us > at_us),
        )
        .order_by(member.c.customer)
    ).scalars()
    return [f"user/{owner}", *rows]


def join(
    conn: Connection,
    customer_id: str,
    owner: str,
    project: str,
    role: str,
    actor: str,
    at_us: int,
) -> None:
    """Make *owner* a member from now on, whose launches this customer pays.

    Ends an earlier membership of the same customer. Raises `NotFound` for an unknown one.
    """
    if conn.execute(select(customer.c.id).where(customer.c.id == customer_id)).first() is None:
        raise NotFound(f"no customer {customer_id!r}")
    _end(conn, customer_id, owner, at_us)
    conn.execute(
        insert(member).values(
            customer=customer_id, owner=owner, from_us=at_us, project=project, role=role
        )
    )
    conn.execute(insert(payer).values(owner=owner, from_us=at_us, customer=customer_id))
    payload = {"customer": customer_id, "owner": owner, "role": role, "by": actor}
    append_leaf(conn, "member", payload, at_us)


def leave(conn: Connection, customer_id: str, owner: str, actor: str, at_us: int) -> None:
    """End a membership: later launches are not this customer's any more."""
    if not _end(conn, customer_id, owner, at_us):
        raise Conflict(f"{owner} is no member of {customer_id}")
    conn.execute(insert(payer).values(owner=owner, from_us=at_us, customer=f"user/{owner}"))
    append_leaf(conn, "member_left", {"customer": customer_id, "owner": owner, "by": actor}, at_us)


def list_members(conn: Connection, customer_id: str) -> list[dict[str, Any]]:
    """Return everyone who is or was a member, newest first."""
    rows = conn.execute(
        select(member)
        .where(member.c.customer == customer_id)
        .order_by(member.c.from_us.desc(), member.c.owner)
    )
    return [dict(row._mapping) for row in rows]


def _end(conn: Connection, customer_id: str, owner: str, at_us: int) -> bool:
    return bool(
        conn.execute(
            update(member)
            .where(
                member.c.customer == customer_id,
                member.c.owner == owner,
                member.c.until_us.is_(None),
            )
            .values(until_us=at_us)
        ).rowcount
    )
