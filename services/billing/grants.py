"""Grants of credit: given, listed, and what is left of them.

An allowance is a customer's and pays lines; a provider's credit pays the cloud's own bill and
stands in accounts of its own, so that the one is never taken for the other.
"""

import json
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from nightingale_hub.errors import BadInput, NotFound
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.services.billing.burn import Facts, Grant
from nightingale_hub.services.billing.ledger import (
    Entry,
    Journal,
    find_balance,
    grant_account,
    post,
)
from nightingale_hub.tables.credit import burned, credit_grant
from nightingale_hub.tables.customers import customer

SCOPES = ("cloud", "region", "project", "user")


@dataclass(frozen=True)
class NewGrant:
    """A grant as an admin asks for it; *customer* is None for a provider's credit."""

    customer: str | None
    source: str
    scope: dict[str, str]
    currency: str
    amount_micro: int
    start_us: int
    end_us: int
    priority: int


def credit_account(grant_id: str) -> str:
    """Return the account of what is left of a provider's credit."""
    return f"provider_credit:{grant_id}"


def give(conn: Connection, new: NewGrant, actor: str, at_us: int) -> str:
    """Write *new* down with its journal and its leaf in the log; return its id.

    Raises `NotFound` for an unknown customer, `BadInput` for an amount of nothing or in another
    currency than the customer's.
    """
    if new.amount_micro <= 0:
        raise BadInput("a grant is of more than nothing")
    if new.customer is not None:
        currency = conn.execute(
            select(customer.c.currency).where(customer.c.id == new.customer)
        ).scalar()
        if currency is None:
            raise NotFound(f"no customer {new.customer!r}")
        if currency != new.currency:
            raise BadInput(
                f"customer {new.customer} is billed in {currency}; a grant in {new.currency} "
                "would need an exchange, and none is made"
            )
    grant_id = f"g-{secrets.token_hex(4)}"
    kind = "provider" if new.customer is None else "allowance"
    conn.execute(
        insert(credit_grant).values(
            id=grant_id,
            kind=kind,
            customer=new.customer,
            source=new.source,
            scope=json.dumps(new.scope, sort_keys=True),
            currency=new.currency,
            amount_micro=new.amount_micro,
            start_us=new.start_us,
            end_us=new.end_us,
            priority=new.priority,
            created_us=at_us,
            created_by=actor,
        )
    )
    held = grant_account(grant_id) if kind == "allowance" else credit_account(grant_id)
    entries = (
        Entry(held, new.amount_micro, new.currency),
        Entry(f"given:{new.source}", -new.amount_micro, new.currency),
    )
    post(conn, Journal(f"grant:{grant_id}", f"{kind} from {new.source}", entries), at_us)
    payload = {"grant": grant_id, "by": actor, "amount_micro": new.amount_micro, "kind": kind}
    append_leaf(conn, "grant", payload, at_us)
    return grant_id


def list_grants(conn: Connection, customer_id: str | None = None) -> list[dict[str, Any]]:
    """Return the grants of a customer, or all of them, in burn order, with what is left."""
    spent = (
        select(burned.c.grant_id, func.sum(burned.c.amount_micro).label("spent"))
        .group_by(burned.c.grant_id)
        .subquery()
    )
    query = select(credit_grant, func.coalesce(spent.c.spent, 0).label("spent")).outerjoin(
        spent, spent.c.grant_id == credit_grant.c.id
    )
    if customer_id is not None:
        query = query.where(credit_grant.c.customer == customer_id)
    rows = sorted(conn.execute(query).all(), key=lambda row: to_grant(row).rank)
    found = []
    for row in rows:
        used = int(row.spent)
        if row.kind == "provider":  # its own account says what it paid of the cloud's bills
            used = row.amount_micro - find_balance(conn, credit_account(row.id), row.currency)
        found.append(
            {
                "id": row.id,
                "kind": row.kind,
                "customer": row.customer,
                "source": row.source,
                "scope": json.loads(row.scope),
                "currency": row.currency,
                "amount_micro": row.amount_micro,
                "spent_micro": used,
                "left_micro": row.amount_micro - used,
                "start_us": row.start_us,
                "end_us": row.end_us,
                "priority": row.priority,
                "created_us": row.created_us,
                "created_by": row.created_by,
            }
        )
    return found


def load_allowances(conn: Connection, customer_id: str) -> list[Grant]:
    """Return what may pay for lines of a customer."""
    rows = conn.execute(select(credit_grant).where(credit_grant.c.customer == customer_id))
    return [to_grant(row) for row in rows]


def to_grant(row: Row[Any]) -> Grant:
    """Return the grant that *row* holds, as the burn order sees it."""
    scope: Facts = frozenset(json.loads(row.scope).items())
    return Grant(
        row.id, row.amount_micro, row.start_us, row.end_us, row.priority, scope, row.created_us
    )
