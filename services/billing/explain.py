"""Explains a line: its segment, its seconds, its prices, its amount; worked out again from them."""

import json
from typing import Any

from sqlalchemy import Connection, Row, select

from nightingale_hub.clock import format_time
from nightingale_hub.errors import NotFound
from nightingale_hub.services.billing.lines import CREDIT, SETTLED_US, Line, Usage, list_usage
from nightingale_hub.services.billing.rater import Rater
from nightingale_hub.services.billing.rating import NANO_HOURS_PER_MICRO
from nightingale_hub.tables.billing import entry, journal, line_item
from nightingale_hub.tables.log import log_leaf
from nightingale_hub.tables.metering import fault, segment


def explain_line(conn: Connection, line_id: int) -> dict[str, Any]:
    """Return how the line came about, step by step, and whether it comes out the same again.

    Raises `NotFound` for a number that no line has.
    """
    row = conn.execute(select(line_item).where(line_item.c.id == line_id)).one_or_none()
    if row is None:
        raise NotFound(f"no line {line_id}; a statement has the number of each of its lines")
    (usage,) = list_usage(conn, segment.c.id == row.segment_id)
    again = find_again(conn, row, usage)
    total = sum(seconds * nano for seconds, nano in json.loads(row.pieces))
    return {
        "line": row.id,
        "kind": row.kind,
        "cause": row.cause or usage.cause or "it runs",
        "customer": row.customer,
        "user": row.owner,
        "instance": row.instance_id,
        "plan": f"{row.plan} from {format_time(row.plan_us)}",
        "meter": usage.meter,
        "boot": usage.boot_id,
        "part": usage.part,
        "start_us": row.start_us,
        "end_us": row.end_us,
        "exact_us": row.end_us - row.start_us,
        "seconds": row.seconds,
        "currency": row.currency,
        "prices": [
            {"seconds": seconds, "nano_per_hour": nano, "product": seconds * nano}
            for seconds, nano in json.loads(row.pieces)
        ],
        "formula": f"{total} / {NANO_HOURS_PER_MICRO} micro-units, half to even",
        "amount_micro": row.amount_micro,
        "is_the_same_again": again is not None and _is_same(row, again),
        "entries": _list_entries(conn, row.idem_key),
        "leaf": _find_leaf(conn, row.idem_key),
    }


def list_line_ids(conn: Connection, after_id: int, limit: int = 1000) -> list[int]:
    """Return the numbers of the next lines after *after_id*."""
    query = select(line_item.c.id).where(line_item.c.id > after_id).order_by(line_item.c.id)
    return list(conn.execute(query.limit(limit)).scalars())


def list_changed(conn: Connection, after_id: int = 0, limit: int = 1000) -> list[int]:
    """Return the lines after *after_id* that do not come out the same again: there must be none."""
    rows = conn.execute(
        select(line_item).where(line_item.c.id > after_id).order_by(line_item.c.id).limit(limit)
    ).all()
    changed = []
    for row in rows:
        (usage,) = list_usage(conn, segment.c.id == row.segment_id)
        again = find_again(conn, row, usage)
        if again is None or not _is_same(row, again):
            changed.append(int(row.id))
    return changed


def find_again(conn: Connection, row: Row[Any], usage: Usage) -> Line | None:
    """Return the line *row* worked out anew from what is measured, or None where it is not."""
    rater = Rater(conn)
    if row.kind != CREDIT:
        # Of one that has no end the month of the line is over.
        lines = rater.make_lines(usage, max(usage.seen_us - SETTLED_US, row.end_us + 1))
        return next((line for line in lines if line.key == row.idem_key), None)
    start_us = int(row.idem_key.rpartition(":")[2])
    proven = conn.execute(
        select(fault).where(
            fault.c.instance_id == row.instance_id,
            fault.c.cause == row.cause,
            fault.c.start_us == start_us,
        )
    ).one()
    taken = conn.execute(
        select(line_item).where(
            line_item.c.segment_id == row.segment_id,
            line_item.c.kind == CREDIT,
            line_item.c.id < row.id,
        )
    ).all()
    return rater.make_credit(usage, proven, taken)


def _is_same(row: Row[Any], again: Line) -> bool:
    return (row.seconds, row.pieces, row.amount_micro, row.currency, row.start_us, row.end_us) == (
        again.seconds,
        again.format_pieces(),
        again.amount_micro,
        again.currency,
        again.start_us,
        again.end_us,
    )


def _list_entries(conn: Connection, key: str) -> list[dict[str, Any]]:
    rows = conn.execute(
        select(entry.c.account, entry.c.currency, entry.c.amount_micro)
        .join(journal, journal.c.id == entry.c.journal_id)
        .where(journal.c.idem_key == key)
        .order_by(entry.c.id)
    )
    return [dict(row._mapping) for row in rows]


def _find_leaf(conn: Connection, key: str) -> int | None:
    """Return the leaf of the tamper-evident log that holds the hash of the line's journal."""
    posted = conn.execute(select(journal).where(journal.c.idem_key == key)).one_or_none()
    if posted is None:
        return None
    leaves = conn.execute(
        select(log_leaf.c.id, log_leaf.c.payload).where(
            log_leaf.c.kind == "journals", log_leaf.c.at_us == posted.at_us
        )
    )
    for leaf_id, text in leaves:
        said = json.loads(text)
        if said["first"] <= posted.id <= said["last"]:
            return int(leaf_id)
    return None
