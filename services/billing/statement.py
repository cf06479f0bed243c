"""What an owner is charged: posted lines, and what runs or waits to be posted.

A line belongs to the month in which it starts. A running amount is worked out as a posted one
will be, at the instant of asking.
"""

from typing import Any

from sqlalchemy import Connection, Row, select

from nightingale_hub.clock import month_bounds_us, to_datetime
from nightingale_hub.errors import BadInput
from nightingale_hub.offers import Size
from nightingale_hub.services.billing.posting import METER
from nightingale_hub.services.billing.rating import count_seconds, rate
from nightingale_hub.tables import instance, line_item, segment


def summarize_cost(conn: Connection, owner: str, at_us: int) -> dict[str, Any]:
    """Return the cost of *owner* in the month of *at_us*, per instance and in sum."""
    month = to_datetime(at_us).strftime("%Y-%m")
    charges = [_charge(row, at_us) for row in _list_segments(conn, owner, month)]
    return {
        "currency": "USD",
        "month": month,
        "posted_micro_usd": _sum(charges, "posted"),
        "running_micro_usd": _sum(charges, "running", "pending"),
        "instances": charges,
    }


def make_statement(conn: Connection, owner: str, month: str, at_us: int) -> dict[str, Any]:
    """Return the statement of *owner* for *month* (`2026-11`) as it stands at *at_us*.

    Raises `BadInput` for what is no month.
    """
    rows = _list_segments(conn, owner, month)
    lines = [
        {
            "line_id": row.line_id,
            "instance_id": row.instance_id,
            "server_name": row.server_name,
            "size": str(Size(row.cpu, row.gpu, row.disk)),
            "start_us": row.start_us,
            "end_us": row.end_us,
            "seconds": row.seconds,
            "nano_usd_per_hour": row.line_rate,
            "amount_micro_usd": row.amount_micro_usd,
        }
        for row in rows
        if row.line_id is not None
    ]
    charges = [_charge(row, at_us) for row in rows]
    return {
        "owner": owner,
        "month": month,
        "currency": "USD",
        "lines": lines,
        "total_micro_usd": sum(line["amount_micro_usd"] for line in lines),
        "running_micro_usd": _sum(charges, "running"),
        "pending": sum(charge["state"] == "pending" for charge in charges),
    }


def _list_segments(conn: Connection, owner: str, month: str) -> list[Row[Any]]:
    try:
        start_us, end_us = month_bounds_us(month)
    except ValueError as error:
        raise BadInput(f"month {month[:40]!r} is not like 2026-11") from error
    return list(
        conn.execute(
            select(
                segment,
                instance.c.server_name,
                instance.c.cpu,
                instance.c.gpu,
                instance.c.disk,
                instance.c.nano_usd_per_hour,
                line_item.c.id.label("line_id"),
                line_item.c.seconds,
                line_item.c.nano_usd_per_hour.label("line_rate"),
                line_item.c.amount_micro_usd,
            )
            .join(instance, instance.c.id == segment.c.instance_id)
            .outerjoin(line_item, line_item.c.segment_id == segment.c.id)
            .where(
                instance.c.owner == owner,
                segment.c.meter == METER,
                segment.c.start_us >= start_us,
                segment.c.start_us < end_us,
            )
            .order_by(segment.c.start_us, segment.c.id)
        )
    )


def _charge(row: Row[Any], at_us: int) -> dict[str, Any]:
    if row.line_id is not None:
        state, seconds, amount = "posted", row.seconds, row.amount_micro_usd
    else:
        state = "running" if row.end_us is None else "pending"
        end_us = max(at_us, row.start_us) if row.end_us is None else row.end_us
        seconds = count_seconds(row.start_us, end_us)
        amount = rate(seconds, row.nano_usd_per_hour)
    return {
        "instance_id": row.instance_id,
        "seconds": seconds,
        "amount_micro_usd": amount,
        "nano_usd_per_hour": row.nano_usd_per_hour,
        "state": state,
    }


def _sum(charges: list[dict[str, Any]], *states: str) -> int:
    return sum(each["amount_micro_usd"] for each in charges if each["state"] in states)
