"""What this month will cost: what is spent, and the pace of the last week kept up to its end."""

from typing import Any

from sqlalchemy import Connection, func, select

from nightingale_hub.clock import US_PER_S, month_bounds_us, to_datetime
from nightingale_hub.money import divide
from nightingale_hub.services.billing.budgets import CHARGED, list_live_holds
from nightingale_hub.services.billing.reach import price_of
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.instances import instance
from nightingale_hub.terms import find_customer

WEEK_US = 7 * 86_400 * US_PER_S


def forecast_month(
    conn: Connection, customer_id: str, owner: str | None, at_us: int
) -> dict[str, Any]:
    """Return the month's spend of a customer (of one *owner*, unless None) and its forecast.

    The pace is what was posted for the last seven days; what runs now is counted to the instant
    and then at the pace.
    """
    start_us, end_us = month_bounds_us(to_datetime(at_us).strftime("%Y-%m"))
    spent = _posted(conn, customer_id, owner, start_us, at_us + 1)
    running = rate = 0
    for live in list_live_holds(conn, customer_id):
        if owner is not None and live.owner != owner:
            continue
        row = conn.execute(select(instance).where(instance.c.id == live.instance_id)).one()
        if row.ready_us is None or row.stop_accepted_us is not None:
            continue
        elapsed = -(-max(0, at_us - max(row.ready_us, start_us)) // US_PER_S)
        running += price_of(max(0, elapsed - int(live.posted_s)), live.nano_per_hour)
        rate += live.nano_per_hour
    week = _posted(conn, customer_id, owner, at_us - WEEK_US, at_us + 1) + running
    so_far = spent + running
    rest = divide(max(0, week) * (end_us - at_us), WEEK_US)
    pays = find_customer(conn, customer_id)
    return {
        "customer": customer_id,
        "currency": "USD" if pays is None else pays.currency,
        "month": to_datetime(at_us).strftime("%Y-%m"),
        "as_of_us": at_us,
        "spent_micro": spent,
        "running_micro": running,
        "nano_per_hour": rate,
        "forecast_micro": so_far + rest,
    }


def _posted(
    conn: Connection, customer_id: str, owner: str | None, from_us: int, until_us: int
) -> int:
    query = select(func.coalesce(func.sum(line_item.c.amount_micro), 0)).where(
        line_item.c.customer == customer_id,
        line_item.c.kind.in_(CHARGED),
        line_item.c.start_us >= from_us,
        line_item.c.start_us < until_us,
    )
    if owner is not None:
        query = query.where(line_item.c.owner == owner)
    return int(conn.execute(query).scalar_one())
