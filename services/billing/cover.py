"""Which accounts a line goes to: what is free first, then whoever pays for the customer's use."""

from sqlalchemy import Connection, func, select

from nightingale_hub.clock import month_bounds_us, to_datetime
from nightingale_hub.services.billing.funding import fund
from nightingale_hub.services.billing.ledger import (
    Accounts,
    Entry,
    find_balance,
    provider_account,
)
from nightingale_hub.services.billing.lines import COST, Line
from nightingale_hub.services.billing.rating import rate_pieces
from nightingale_hub.tables.billing import line_item
from nightingale_hub.terms import USD


def is_in_order(line: Line) -> bool:
    """Tell whether what pays for *line* depends on what was posted before it."""
    pays = line.terms.customer
    return line.kind != COST and (
        line.terms.plan.free_micro_per_month > 0 or pays.kind == "non_profit"
    )


def cover(conn: Connection, line: Line, at_us: int) -> tuple[Entry, ...]:
    """Return the entries of *line*'s journal.

    Where `is_in_order`, the caller holds the customer's lock and has posted all earlier lines.
    """
    accounts = Accounts(line.terms.customer.id)
    if line.kind == COST:
        return _expense(line, line.amount_micro)
    entries: tuple[Entry, ...] = ()
    due = line.amount_micro
    if line.terms.plan.free_micro_per_month:
        month = to_datetime(line.start_us).strftime("%Y-%m")
        free = _find_free(conn, line, month)
        if free:
            due -= free
            entries = (
                Entry(accounts.platform_expense, free, line.currency),
                Entry(accounts.free(month), -free, line.currency),
            )
    if due or not entries:
        entries += fund(conn, line, due, at_us)
    if line.at_list:
        entries += _expense(line, rate_pieces(line.at_list))
    return entries


def _expense(line: Line, amount: int) -> tuple[Entry, ...]:
    return (
        Entry(Accounts(line.terms.customer.id).platform_expense, amount, USD),
        Entry(provider_account(line.cloud), -amount, USD),
    )


def _find_free(conn: Connection, line: Line, month: str) -> int:
    """Return how much of *line* is free, so that in all min(quota, month's sum) is.

    Negative where a credit takes the month below what was free. In whichever order lines come,
    the sum is the same.
    """
    start_us, end_us = month_bounds_us(month)
    pays = line.terms.customer
    used = -find_balance(conn, Accounts(pays.id).free(month), line.currency)
    before = conn.execute(
        select(func.coalesce(func.sum(line_item.c.amount_micro), 0)).where(
            line_item.c.customer == pays.id,
            line_item.c.kind != COST,
            line_item.c.currency == line.currency,
            line_item.c.start_us >= start_us,
            line_item.c.start_us < end_us,
        )
    ).scalar_one()
    whole = max(0, int(before) + line.amount_micro)
    return min(line.terms.plan.free_micro_per_month, whole) - used
