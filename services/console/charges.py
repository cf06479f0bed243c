"""What an owner was charged since an instant: billing's lines, posted and still running.

Every amount is billing's own; the total is their sum and nothing else.
"""

import asyncio
from typing import Any

from nightingale_hub.clock import month_bounds_us, to_datetime
from nightingale_hub.errors import BadInput
from nightingale_hub.services.console.parts import Parts

MAX_MONTHS = 24
LINE = (
    "line_id instance_id server_name size start_us end_us seconds nano_per_hour amount_micro state"
).split()


def month_of(at_us: int) -> str:
    """Return the month of *at_us* in UTC, as `2026-11`."""
    return to_datetime(at_us).strftime("%Y-%m")


def parse_month(text: str) -> str:
    """Return *text* as a month; raises `BadInput` when it is none."""
    try:
        month = month_of(month_bounds_us(text)[0])
        neighbours(month)  # where the calendar ends, a month lacks one
    except (ValueError, OverflowError) as error:
        raise BadInput(f"month must be like 2026-11, not {text[:40]!r}") from error
    return month


def neighbours(month: str) -> tuple[str, str]:
    """Return the months before and after *month*."""
    start_us, end_us = month_bounds_us(month)
    return month_of(start_us - 1), month_of(end_us)


async def gather_charges(
    parts: Parts, owner: str, since_us: int | None, at_us: int
) -> dict[str, Any]:
    """Return every line of *owner* that ended after *since_us* (default: the month's start).

    Raises `Unavailable` without billing: part of a sum would be a wrong sum.
    """
    if since_us is None:
        since_us = month_bounds_us(month_of(at_us))[0]
    months = _months(since_us, at_us)
    cost, *statements = await asyncio.gather(
        parts.get("billing", "cost", owner=owner, at_us=at_us),
        *(parts.get("billing", "statement", owner=owner, month=month) for month in months),
    )
    posted = {
        line["line_id"]: {**line, "state": "posted"}
        for statement in statements
        for line in statement["lines"]
        if line["end_us"] > since_us
    }
    running = [each for each in cost["instances"] if each["state"] != "posted"]
    posted_micro = sum(line["amount_micro"] for line in posted.values())
    running_micro = sum(each["amount_micro"] for each in running)
    return {
        "currency": cost["currency"],
        "since_us": since_us,
        "until_us": at_us,
        "posted_micro": posted_micro,
        "running_micro": running_micro,
        "total_micro": posted_micro + running_micro,
        # A line that still runs has no number, no start and no end yet.
        "lines": [{key: each.get(key) for key in LINE} for each in (*posted.values(), *running)],
    }


def _months(since_us: int, at_us: int) -> list[str]:
    if since_us > at_us:
        raise BadInput("the time to count from lies in the future")
    # A line that began in the month before may have ended after *since_us*.
    months = [neighbours(month_of(since_us))[0]]
    while months[-1] != month_of(at_us):
        months.append(neighbours(months[-1])[1])
        if len(months) > MAX_MONTHS:
            raise BadInput(f"that is more than {MAX_MONTHS - 1} months back; see the statements")
    return months
