"""What an owner is charged: posted lines, and what runs or waits to be posted.

A running amount is worked out as a posted one will be, at the instant of asking or at the stop
that the record has, whichever is first; so a meter that is late costs nobody anything.
"""

import re
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from nightingale_hub.clock import month_bounds_us, to_datetime
from nightingale_hub.errors import BadInput
from nightingale_hub.offers import Size
from nightingale_hub.services.billing.posting import METER
from nightingale_hub.services.billing.rating import count_seconds, rate
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import segment

STATES = ("running", "pending", "posted")
RULE = "A line belongs to the month in which it starts, in UTC."
MAX_OWNER_CHARS = 255
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")


def parse_owner(text: str) -> str:
    """Return *text* as a hub user's name; raises `BadInput`."""
    if not text or len(text) > MAX_OWNER_CHARS or not text.isprintable():
        raise BadInput(f"name whose cost: owner=…, at most {MAX_OWNER_CHARS} characters")
    return text


def parse_month(text: str) -> tuple[int, int]:
    """Return the bounds in µs of the month *text*; raises `BadInput`."""
    try:
        if not _MONTH.fullmatch(text):
            raise ValueError("not YYYY-MM")
        return month_bounds_us(text)
    except ValueError as error:
        raise BadInput(f"month {text[:40]!r} is not like 2026-11") from error


def month_of(at_us: int) -> str:
    """Return the month of *at_us* in UTC; raises `BadInput` where the calendar ends."""
    try:
        return to_datetime(at_us).strftime("%Y-%m")
    except (ValueError, OverflowError) as error:
        raise BadInput("at_us lies beyond the calendar") from error


def summarize_cost(conn: Connection, owner: str, at_us: int) -> dict[str, Any]:
    """Return the cost of *owner*: what is not posted yet, and the lines of the month of *at_us*.

    There is one row for each segment, those that run first; what runs is listed whichever month
    it began in. Raises `BadInput` for an instant beyond the calendar.
    """
    month = month_of(at_us)
    start_us, end_us = parse_month(month)
    is_unposted = line_item.c.id.is_(None)
    in_month = (segment.c.start_us >= start_us) & (segment.c.start_us < end_us)
    rows = _list_segments(conn, owner, is_unposted | in_month)
    charges = [_charge(row, at_us) for row in rows]
    charges.sort(key=lambda charge: STATES.index(charge["state"]))
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
    start_us, end_us = parse_month(month)
    in_month = (segment.c.start_us >= start_us) & (segment.c.start_us < end_us)
    rows = _list_segments(conn, owner, in_month)
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
        "rule": RULE,
        "lines": lines,
        "total_micro_usd": sum(line["amount_micro_usd"] for line in lines),
        "running_micro_usd": _sum(charges, "running", "pending"),
        "pending": sum(charge["state"] == "pending" for charge in charges),
    }


def _list_segments(conn: Connection, owner: str, which: ColumnElement[bool]) -> list[Row[Any]]:
    return list(
        conn.execute(
            select(
                segment,
                instance.c.server_name,
                instance.c.cpu,
                instance.c.gpu,
                instance.c.disk,
                instance.c.nano_usd_per_hour,
                instance.c.stop_accepted_us,
                instance.c.gone_us,
                line_item.c.id.label("line_id"),
                line_item.c.seconds,
                line_item.c.nano_usd_per_hour.label("line_rate"),
                line_item.c.amount_micro_usd,
            )
            .join(instance, instance.c.id == segment.c.instance_id)
            .outerjoin(line_item, line_item.c.segment_id == segment.c.id)
            .where(instance.c.owner == owner, segment.c.meter == METER, which)
            .order_by(segment.c.start_us, segment.c.id)
        )
    )


def _charge(row: Row[Any], at_us: int) -> dict[str, Any]:
    if row.line_id is not None:
        state, seconds, amount = "posted", row.seconds, row.amount_micro_usd
    else:
        ends = [at for at in (row.end_us, row.stop_accepted_us, row.gone_us) if at is not None]
        state = "pending" if ends and min(ends) <= at_us else "running"
        seconds = count_seconds(row.start_us, max(row.start_us, min([*ends, at_us])))
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
