"""What an owner is charged: posted lines, and what runs or waits to be posted.

A running amount is worked out as a posted one will be, at the instant of asking or at the stop
that the record has, whichever is first; so a meter that is late costs nobody anything.
"""

import json
import re
from typing import Any

from sqlalchemy import Connection, Row, exists, select

from nightingale_hub.clock import month_bounds_us, to_datetime
from nightingale_hub.errors import BadInput
from nightingale_hub.offers import Size
from nightingale_hub.services.billing.lines import COST, CREDIT, Line, Usage, list_usage
from nightingale_hub.services.billing.posting import find_line
from nightingale_hub.services.billing.rater import Rater
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.budgets import hold
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import segment
from nightingale_hub.terms import resolve_payer

STATES = ("running", "pending", "posted")
RULE = "A line ends with its month in UTC; a second belongs to the month in which it starts."
MAX_OWNER_CHARS = 255
MAX_OPEN = 10_000
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

    There is one row for each line and one for each segment that has more to come, those that run
    first, whichever month they began in. Raises `BadInput` for an instant beyond the calendar.
    """
    month = month_of(at_us)
    start_us, end_us = parse_month(month)
    currency = resolve_payer(conn, owner, at_us).currency
    charges = [
        {
            "instance_id": usage.instance_id,
            "seconds": sum(line.seconds for line in lines),
            "amount_micro": sum(line.amount_micro for line in lines),
            "nano_per_hour": lines[-1].pieces[-1][1],
            "state": state,
        }
        for usage, lines, state in _list_open(conn, owner, at_us)
    ]
    charges += [
        {
            "instance_id": row.instance_id,
            "seconds": row.seconds,
            "amount_micro": row.amount_micro,
            "nano_per_hour": json.loads(row.pieces)[-1][1],
            "state": "posted",
        }
        for row in _list_lines(conn, owner, currency, start_us, end_us)
    ]
    charges.sort(key=lambda charge: STATES.index(charge["state"]))
    return {
        "currency": currency,
        "month": month,
        "posted_micro": _sum(charges, "posted"),
        "running_micro": _sum(charges, "running", "pending"),
        "held": list_held_rates(conn, owner, currency),
        "instances": charges,
    }


def make_statement(conn: Connection, owner: str, month: str, at_us: int) -> dict[str, Any]:
    """Return the statement of *owner* for *month* (`2026-11`) as it stands at *at_us*.

    Raises `BadInput` for what is no month.
    """
    start_us, end_us = parse_month(month)
    currency = resolve_payer(conn, owner, start_us).currency
    lines = [
        {
            "line_id": row.id,
            "kind": row.kind,
            "cause": row.cause,
            "instance_id": row.instance_id,
            "server_name": row.server_name,
            "size": str(Size(row.cpu, row.gpu, row.disk)),
            "start_us": row.start_us,
            "end_us": row.end_us,
            "seconds": row.seconds,
            "nano_per_hour": json.loads(row.pieces)[-1][1],
            "amount_micro": row.amount_micro,
        }
        for row in _list_lines(conn, owner, currency, start_us, end_us)
    ]
    unposted = [
        (line.amount_micro, state)
        for _, open_lines, state in _list_open(conn, owner, at_us)
        for line in open_lines
        if start_us <= line.start_us < end_us
    ]
    return {
        "owner": owner,
        "month": month,
        "currency": currency,
        "rule": RULE,
        "lines": lines,
        "total_micro": sum(line["amount_micro"] for line in lines),
        "running_micro": sum(amount for amount, _ in unposted),
        "pending": sum(state == "pending" for _, state in unposted),
    }


def list_held_rates(conn: Connection, owner: str, currency: str) -> dict[str, int]:
    """Return the rate, as its payer has it, of each instance of *owner* that money is held for."""
    rows = conn.execute(
        select(hold.c.instance_id, hold.c.nano_per_hour).where(
            hold.c.owner == owner, hold.c.currency == currency, hold.c.state != "released"
        )
    )
    return {instance_id: nano for instance_id, nano in rows}


def _list_lines(
    conn: Connection, owner: str, currency: str, start_us: int, end_us: int
) -> list[Row[Any]]:
    """Return the lines of a month, with what their segments were, in order."""
    return list(
        conn.execute(
            select(line_item, segment.c.cpu, segment.c.gpu, segment.c.disk, instance.c.server_name)
            .join(segment, segment.c.id == line_item.c.segment_id)
            .join(instance, instance.c.id == line_item.c.instance_id)
            .where(
                line_item.c.owner == owner,
                line_item.c.kind != COST,
                line_item.c.currency == currency,
                line_item.c.start_us >= start_us,
                line_item.c.start_us < end_us,
            )
            .order_by(line_item.c.start_us, line_item.c.id)
        )
    )


def _list_open(conn: Connection, owner: str, at_us: int) -> list[tuple[Usage, list[Line], str]]:
    """Return each segment that is not posted whole, what is to come of it if it ended at *at_us*.

    And whether that runs or is pending: it has ended, and waits for the meter or for billing.
    """
    is_settled = exists().where(
        line_item.c.segment_id == segment.c.id,
        line_item.c.end_us == segment.c.end_us,
        line_item.c.kind != CREDIT,
    )
    rater = Rater(conn)
    charges = []
    for usage in list_usage(conn, (instance.c.owner == owner) & ~is_settled, limit=MAX_OPEN):
        ended = usage.end(at_us)
        lines = [
            line
            for line in rater.make_lines(ended)
            if line.kind != COST and find_line(conn, line.key) is None
        ]
        if lines:
            state = "pending" if ended.cause or ended == usage else "running"
            charges.append((usage, lines, state))
    return charges


def _sum(charges: list[dict[str, Any]], *states: str) -> int:
    return sum(each["amount_micro"] for each in charges if each["state"] in states)
