"""Budgets as the desk takes them, from admins and from those who manage a customer."""

from collections.abc import Mapping
from typing import Any

from nightingale_hub.errors import BadInput
from nightingale_hub.services.billing import alerts, budgets, holds
from nightingale_hub.services.billing.desk.visit import Visit
from nightingale_hub.services.billing.fields import (
    check_keys,
    parse_amount,
    parse_choice,
    parse_instant,
    parse_name,
)
from nightingale_hub.services.billing.forecast import forecast_month
from nightingale_hub.services.billing.payer import lock_customer
from nightingale_hub.terms import Customer, own_customer, resolve_payer

Body = Mapping[str, Any]


def add_budget(visit: Visit, body: Body) -> dict[str, Any]:
    """Set a limit on what a customer, a project or a user may spend in each month or a window."""
    check_keys(body, ("customer", "user", "project", "period", "limit", "start", "end", "on_end"))
    customer_id = visit.customer(body)
    if "user" in body and "project" in body:
        raise BadInput("a budget is of a user or of a project, not of both")
    scope = "user" if "user" in body else "project" if "project" in body else "customer"
    period = parse_choice(body, "period", ("month", "window"), "month")
    start_us = parse_instant(body, "start", visit.at_us)
    if period == "window" and "end" not in body:
        raise BadInput("a budget for a window needs an end")
    end_us = parse_instant(body, "end", budgets.FOREVER_US)
    if end_us <= start_us:
        raise BadInput("end must lie after start")
    if customer_id.startswith(own_customer("")):
        # Whoever nobody else pays for is written down at their first use, or here.
        lock_customer(visit.conn, Customer(customer_id), visit.at_us)
    new = budgets.NewBudget(
        customer=customer_id,
        scope=scope,
        name="" if scope == "customer" else parse_name(body, scope),
        period=period,
        limit_micro=parse_amount(body, "limit"),
        from_us=start_us,
        until_us=end_us,
        on_end=parse_choice(body, "on_end", ("stop", "degrade"), "stop"),
    )
    return {"id": budgets.set_budget(visit.conn, new, visit.actor, visit.at_us)}


def change_budget(visit: Visit, body: Body) -> dict[str, Any]:
    """Change a budget's limit, or end it earlier."""
    check_keys(body, ("id", "limit", "end"))
    budget_id = parse_name(body, "id")
    visit.require_sight(budgets.get_budget(visit.conn, budget_id).customer)
    if "limit" not in body and "end" not in body:
        raise BadInput("say what changes: limit, end, or both")
    budgets.change_budget(
        visit.conn,
        budget_id,
        parse_amount(body, "limit") if "limit" in body else None,
        parse_instant(body, "end") if "end" in body else None,
        visit.actor,
        visit.at_us,
    )
    return {"id": budget_id}


def list_budgets(visit: Visit, body: Body) -> dict[str, Any]:
    """Return a customer's budgets with what is spent, held and left, alerts and live holds."""
    check_keys(body, ("customer",))
    everyone = visit.is_admin and "customer" not in body
    customer_id = None if everyone else visit.customer(body)
    rows = budgets.list_budgets(visit.conn, customer_id)
    standings = [budgets.stand(visit.conn, row, visit.at_us) for row in rows]
    described = budgets.describe(standings)
    for each in described:
        each["alerts"] = alerts.list_alerts(visit.conn, each["id"])
    live = budgets.list_live_holds(visit.conn, customer_id)
    return {
        "customer": customer_id,
        "budgets": described,
        "holds": [
            {**holds.to_dict(each), "pending_micro": budgets.pending_micro(each)} for each in live
        ],
    }


def show_forecast(visit: Visit, body: Body) -> dict[str, Any]:
    """Return what the asker's customer has spent this month and will at this pace."""
    check_keys(body, ("customer",))
    if "customer" in body:
        customer_id = visit.customer(body)
    else:
        customer_id = resolve_payer(visit.conn, visit.actor, visit.at_us).id
    owner = None if visit.is_admin or "customer" in body else visit.actor
    return forecast_month(visit.conn, customer_id, owner, visit.at_us)
