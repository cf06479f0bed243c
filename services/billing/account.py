"""A customer's month: every line, what grants paid of it, what is owed, and its days."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from nightingale_hub.clock import month_bounds_us, to_datetime
from nightingale_hub.services.billing.budgets import CHARGED
from nightingale_hub.services.billing.burning import accrued_micro, paid_micro
from nightingale_hub.services.billing.documents import Head, Line, write_content
from nightingale_hub.services.billing.due import count_free_seconds
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.customers import customer
from nightingale_hub.tables.documents import document_line
from nightingale_hub.terms import Customer, find_customer


def show_month(conn: Connection, customer_id: str, month: str) -> dict[str, Any]:
    """Return the lines of a customer in *month*, their sums, and what was used each day."""
    pays = find_customer(conn, customer_id) or Customer(customer_id)
    rows = _load(conn, customer_id, *month_bounds_us(month))
    days: dict[str, int] = defaultdict(int)
    for row in rows:
        days[to_datetime(row.start_us).strftime("%Y-%m-%d")] += row.amount_micro
    lines = [
        {
            "line_id": row.id,
            "kind": row.kind,
            "instance_id": row.instance_id,
            "owner": row.owner,
            "start_us": row.start_us,
            "end_us": row.end_us,
            "seconds": row.seconds,
            "amount_micro": row.amount_micro,
            "free_micro": row.amount_micro - int(row.accrued),
            "granted_micro": int(row.paid),
            "owed_micro": int(row.accrued) - int(row.paid),
            "invoice": row.number,
        }
        for row in rows
    ]
    return {
        "customer": customer_id,
        "kind": pays.kind,
        "currency": pays.currency,
        "month": month,
        "lines": lines,
        **{
            f"{name}_micro": sum(line[f"{name}_micro"] for line in lines)
            for name in ("amount", "free", "granted", "owed")
        },
        "days": [{"day": day, "amount_micro": amount} for day, amount in sorted(days.items())],
        "free_seconds": count_free_seconds(conn, month, [row.id for row in rows]),
    }


def write_statement(
    conn: Connection, customer_id: str, month: str, issuer: str, at_us: int
) -> dict[str, Any]:
    """Return the month as a document's content: the same for a month that is over, ever after."""
    shown = show_month(conn, customer_id, month)
    name = conn.execute(select(customer.c.name).where(customer.c.id == customer_id)).scalar()
    lines = []
    for line in shown["lines"]:
        text = f"{line['instance_id']} of {line['owner']}, {line['kind']}"
        lines.append(Line(text, line["amount_micro"], line["start_us"], line["seconds"]))
    for text, key in (("Free by the plan", "free"), ("Paid by granted credit", "granted")):
        if shown[f"{key}_micro"]:
            lines.append(Line(text, -shown[f"{key}_micro"]))
    issued_us = min(at_us, month_bounds_us(month)[1])
    head = Head("statement", issuer, name or customer_id, month, shown["currency"], issued_us)
    return write_content(head, month, lines, shown["free_seconds"])


def _load(conn: Connection, customer_id: str, start_us: int, end_us: int) -> Sequence[Row[Any]]:
    accrued = accrued_micro(customer_id)
    paid = paid_micro(customer_id)
    return conn.execute(
        select(
            line_item,
            func.coalesce(accrued.c.micro, 0).label("accrued"),
            func.coalesce(paid.c.paid, 0).label("paid"),
            document_line.c.number,
        )
        .outerjoin(accrued, accrued.c.line_id == line_item.c.id)
        .outerjoin(paid, paid.c.line_id == line_item.c.id)
        .outerjoin(document_line, document_line.c.line_id == line_item.c.id)
        .where(
            line_item.c.customer == customer_id,
            line_item.c.kind.in_(CHARGED),
            line_item.c.start_us >= start_us,
            line_item.c.start_us < end_us,
        )
        .order_by(line_item.c.start_us, line_item.c.id)
    ).all()
