"""Customers, their members and their grants, as the desk takes them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select

from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.services.billing import members
from nightingale_hub.services.billing.burning import burn_grants
from nightingale_hub.services.billing.desk.visit import Visit
from nightingale_hub.services.billing.fields import (
    check_keys,
    parse_amount,
    parse_choice,
    parse_count,
    parse_currency,
    parse_name,
    parse_text,
    parse_window,
)
from nightingale_hub.services.billing.grants import SCOPES, NewGrant, give, list_grants
from nightingale_hub.services.billing.provider_credit import burn_provider_credit
from nightingale_hub.tables.customers import customer, customer_plan
from nightingale_hub.terms import get_plan

Body = Mapping[str, Any]
MAX_PRIORITY = 1000


def add_customer(visit: Visit, body: Body) -> dict[str, Any]:
    """Write a customer down: an organisation or a project, private or non-profit."""
    visit.require_admin()
    check_keys(body, ("id", "name", "kind", "currency", "plan"))
    values = {
        "id": parse_name(body, "id"),
        "name": parse_text(body, "name"),
        "kind": parse_choice(body, "kind", ("private", "non_profit")),
        "currency": parse_currency(body, "currency", "USD"),
    }
    if visit.conn.execute(select(customer.c.id).where(customer.c.id == values["id"])).first():
        raise Conflict(f"customer {values['id']} is there already")
    visit.conn.execute(insert(customer).values(created_us=visit.at_us, **values))
    append_leaf(visit.conn, "customer", {"by": visit.actor, **values}, visit.at_us)
    if "plan" in body:
        _set_plan(visit, values["id"], parse_name(body, "plan"))
    return values


def set_plan(visit: Visit, body: Body) -> dict[str, Any]:
    """Put a customer on a plan, from now on."""
    visit.require_admin()
    check_keys(body, ("customer", "plan"))
    customer_id, plan = visit.customer(body), parse_name(body, "plan")
    _set_plan(visit, customer_id, plan)
    return {"customer": customer_id, "plan": plan, "from_us": visit.at_us}


def list_customers(visit: Visit, body: Body) -> dict[str, Any]:
    """Return the customers that the asker may see: all, for an admin."""
    check_keys(body, ())
    query = select(customer).order_by(customer.c.id)
    if not visit.is_admin:
        mine = members.list_managed(visit.conn, visit.actor, visit.at_us)
        query = query.where(customer.c.id.in_(mine))
    return {"customers": [dict(row._mapping) for row in visit.conn.execute(query)]}


def add_member(visit: Visit, body: Body) -> dict[str, Any]:
    """Make a hub user a member, whose launches the customer pays from now on."""
    visit.require_admin()
    check_keys(body, ("customer", "user", "project", "role"))
    customer_id, user = visit.customer(body), parse_name(body, "user")
    project = parse_name(body, "project", "")
    role = parse_choice(body, "role", ("manager", "member"), "member")
    members.join(visit.conn, customer_id, user, project, role, visit.actor, visit.at_us)
    return {"customer": customer_id, "user": user, "project": project, "role": role}


def remove_member(visit: Visit, body: Body) -> dict[str, Any]:
    """End a membership: later launches are the user's own to pay."""
    visit.require_admin()
    check_keys(body, ("customer", "user"))
    customer_id, user = visit.customer(body), parse_name(body, "user")
    members.leave(visit.conn, customer_id, user, visit.actor, visit.at_us)
    return {"customer": customer_id, "user": user, "until_us": visit.at_us}


def list_members(visit: Visit, body: Body) -> dict[str, Any]:
    """Return who is or was a member of a customer."""
    check_keys(body, ("customer",))
    customer_id = visit.customer(body)
    return {"customer": customer_id, "members": members.list_members(visit.conn, customer_id)}


def add_grant(visit: Visit, body: Body) -> dict[str, Any]:
    """Give credit: to a customer, or with kind `provider` the cloud's own to us.

    What was used inside its window, and is on no invoice yet, is paid by it at once.
    """
    visit.require_admin()
    check_keys(
        body,
        ("kind", "customer", "source", "currency", "amount", "start", "end", "priority", *SCOPES),
    )
    kind = parse_choice(body, "kind", ("allowance", "provider"), "allowance")
    start_us, end_us = parse_window(body, "start", "end", visit.at_us)
    new = NewGrant(
        customer=parse_name(body, "customer") if kind == "allowance" else None,
        source=parse_text(body, "source"),
        scope={name: parse_name(body, name) for name in SCOPES if name in body},
        currency=parse_currency(body, "currency", "USD"),
        amount_micro=parse_amount(body, "amount"),
        start_us=start_us,
        end_us=end_us,
        priority=parse_count(body, "priority", 100, MAX_PRIORITY),
    )
    if new.customer is None and set(new.scope) != {"cloud"}:
        raise BadInput("a provider's credit pays one cloud's bill: name that cloud alone")
    grant_id = give(visit.conn, new, visit.actor, visit.at_us)
    if new.customer is None:
        burn_provider_credit(visit.conn, new.scope["cloud"], visit.at_us)
        return {"id": grant_id, "lines_changed": 0}
    changed = burn_grants(visit.conn, new.customer, visit.at_us, since_us=start_us - 1)
    return {"id": grant_id, "lines_changed": changed}


def show_grants(visit: Visit, body: Body) -> dict[str, Any]:
    """Return a customer's grants in burn order with what is left; for an admin all of them."""
    check_keys(body, ("customer",))
    if visit.is_admin and "customer" not in body:
        return {"customer": None, "grants": list_grants(visit.conn)}
    customer_id = visit.customer(body)
    return {"customer": customer_id, "grants": list_grants(visit.conn, customer_id)}


def _set_plan(visit: Visit, customer_id: str, plan: str) -> None:
    known = visit.conn.execute(select(customer.c.id).where(customer.c.id == customer_id)).first()
    if known is None:
        raise NotFound(f"no customer {customer_id!r}")
    get_plan(visit.conn, plan, visit.at_us)
    visit.conn.execute(
        insert(customer_plan).values(customer=customer_id, from_us=visit.at_us, plan=plan)
    )
    payload = {"customer": customer_id, "plan": plan, "by": visit.actor}
    append_leaf(visit.conn, "customer_plan", payload, visit.at_us)
