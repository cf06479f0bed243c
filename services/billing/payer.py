"""Who pays for a launch, in which currency and by which plan: settled when it is asked for.

A hub user whom nobody else pays for is a private customer of their own, in dollars.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from nightingale_hub.services.billing.plans import STANDARD, Plan, get_plan
from nightingale_hub.tables.customers import customer, customer_plan, payer

USD = "USD"


@dataclass(frozen=True)
class Customer:
    """Who pays."""

    id: str
    kind: str = "private"  # private | non_profit
    currency: str = USD


@dataclass(frozen=True)
class Terms:
    """Who pays for a launch, and by which version of which plan."""

    customer: Customer
    plan: Plan


def own_customer(owner: str) -> str:
    """Return the id of the customer that *owner* is where nobody else pays for them."""
    return f"user/{owner}"


def find_customer(conn: Connection, customer_id: str) -> Customer | None:
    """Return a customer that is written down, or None."""
    row = conn.execute(select(customer).where(customer.c.id == customer_id)).one_or_none()
    return None if row is None else Customer(row.id, row.kind, row.currency)


def resolve_payer(conn: Connection, owner: str, at_us: int) -> Customer:
    """Return who pays for what *owner* asks for at *at_us*."""
    customer_id = conn.execute(
        select(payer.c.customer)
        .where(payer.c.owner == owner, payer.c.from_us <= at_us)
        .order_by(payer.c.from_us.desc())
        .limit(1)
    ).scalar()
    customer_id = own_customer(owner) if customer_id is None else str(customer_id)
    return find_customer(conn, customer_id) or Customer(customer_id)


def resolve_terms(conn: Connection, owner: str, at_us: int) -> Terms:
    """Return who pays for what *owner* asks for at *at_us*, and by which plan.

    Raises `NotFound` for a plan that is not in force.
    """
    pays = resolve_payer(conn, owner, at_us)
    name = conn.execute(
        select(customer_plan.c.plan)
        .where(customer_plan.c.customer == pays.id, customer_plan.c.from_us <= at_us)
        .order_by(customer_plan.c.from_us.desc())
        .limit(1)
    ).scalar()
    return Terms(pays, get_plan(conn, STANDARD if name is None else str(name), at_us))


def lock_customer(conn: Connection, pays: Customer, at_us: int) -> None:
    """Write *pays* down where it is not, and hold it until the transaction ends.

    Whatever is shared by a customer's lines (what is free, grants, budgets) is read under it.
    """
    if find_customer(conn, pays.id) is None:
        values = {"id": pays.id, "name": pays.id, "kind": pays.kind, "currency": pays.currency}
        try:
            with conn.begin_nested():
                conn.execute(insert(customer).values(**values, created_us=at_us))
        except IntegrityError:
            pass  # another writer wrote it down meanwhile
    # The same on both engines; PostgreSQL holds the row's lock from here on.
    conn.execute(update(customer).where(customer.c.id == pays.id).values(name=customer.c.name))
