"""Posts lines: the line and its journal in one transaction, each once, whoever tries and how often.

Lines whose cover depends on earlier ones are posted one after another under the customer's lock;
all others many at a time.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, select

from nightingale_hub.bulk import insert_rows
from nightingale_hub.services.billing.cover import cover, is_in_order
from nightingale_hub.services.billing.ledger import Journal, post_all
from nightingale_hub.services.billing.lines import (
    CREDIT,
    HELD,
    SETTLED_US,
    USAGE,
    Line,
    Usage,
    list_usage,
)
from nightingale_hub.services.billing.payer import lock_customer
from nightingale_hub.services.billing.rater import Rater
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import fault, segment

COLUMNS = (
    "idem_key", "kind", "segment_id", "instance_id", "owner", "customer", "start_us", "end_us",
    "seconds", "pieces", "plan", "plan_us", "cause", "currency", "amount_micro",
)  # fmt: skip


def find_line(conn: Connection, key: str) -> Row[Any] | None:
    """Return the line that was posted under *key*, or None."""
    return conn.execute(select(line_item).where(line_item.c.idem_key == key)).one_or_none()


def list_unrated(
    conn: Connection, after_id: int = 0, limit: int = 500, since_us: int = 0
) -> list[Usage]:
    """Return ended segments, by id, whose last line is not there; only ends from *since_us* on.

    Of a disk or an address only once its instance has stopped: until when it is free is not known
    before.
    """
    last = exists().where(
        line_item.c.segment_id == segment.c.id,
        line_item.c.end_us == segment.c.end_us,
        line_item.c.kind != CREDIT,
    )
    condition = (segment.c.end_us >= since_us) & ~last & _may_be_rated()
    return list_usage(conn, condition, after_id, limit)


def list_long(conn: Connection, month_us: int, after_id: int = 0, limit: int = 500) -> list[Usage]:
    """Return open segments from before *month_us*, when a month began, and proven past it.

    A disk or an address is there until the record says otherwise, and needs no beat; it is free
    until its instance stops.
    """
    is_proven = (segment.c.seen_us - SETTLED_US > month_us) | segment.c.meter.in_(HELD)
    is_long = (segment.c.start_us < month_us) & is_proven
    condition = segment.c.end_us.is_(None) & is_long & _may_be_rated()
    return list_usage(conn, condition, after_id, limit)


def _may_be_rated() -> ColumnElement[bool]:
    has_stopped = instance.c.stop_accepted_us.is_not(None) | instance.c.gone_us.is_not(None)
    return segment.c.meter.not_in(HELD) | has_stopped


def list_uncredited(conn: Connection, limit: int = 500) -> list[Row[Any]]:
    """Return (segment, fault) by id for each fault in an ended segment that has no credit yet."""
    key = "credit:" + segment.c.id.cast(line_item.c.idem_key.type) + ":" + fault.c.cause
    key = key + ":" + fault.c.start_us.cast(line_item.c.idem_key.type)
    return list(
        conn.execute(
            select(segment.c.id, fault.c.id.label("fault_id"))
            .join(fault, fault.c.instance_id == segment.c.instance_id)
            .join(instance, instance.c.id == segment.c.instance_id)
            .where(
                segment.c.end_us.is_not(None),
                # How far one reaches that goes on is not known yet.
                ~fault.c.is_open | instance.c.gone_us.is_not(None),
                segment.c.meter.in_(("ready", "allocated")),
                fault.c.start_us < segment.c.end_us,
                fault.c.end_us > segment.c.start_us,
                ~exists().where(line_item.c.idem_key == key),
                exists().where(
                    line_item.c.segment_id == segment.c.id,
                    line_item.c.end_us == segment.c.end_us,
                    line_item.c.kind == USAGE,
                ),
            )
            .order_by(segment.c.id, fault.c.start_us, fault.c.cause)
            .limit(limit)
        )
    )


def post_segments(conn: Connection, rows: Sequence[Usage], at_us: int) -> int:
    """Post every line of the segments *rows* that is not there; return how many are new."""
    rater = Rater(conn)
    lines = [
        line
        for row in rows
        for line in rater.make_lines(
            row, (at_us if row.meter in HELD else row.seen_us) - SETTLED_US
        )
    ]
    return post_lines(conn, lines, at_us)


def post_credit(conn: Connection, segment_id: int, fault_id: int, at_us: int) -> bool:
    """Post the credit for a fault in an ended segment; returns False when it is there."""
    (row,) = list_usage(conn, segment.c.id == segment_id)
    proven = conn.execute(select(fault).where(fault.c.id == fault_id)).one()
    rater = Rater(conn)
    lock_customer(conn, rater.find_terms(row.owner, row.created_us).customer, at_us)
    taken = conn.execute(
        select(line_item).where(line_item.c.segment_id == segment_id, line_item.c.kind == CREDIT)
    ).all()
    return bool(post_lines(conn, [rater.make_credit(row, proven, taken)], at_us))


def post_lines(conn: Connection, lines: Sequence[Line], at_us: int) -> int:
    """Post *lines* with their journals; return how many are new.

    Raises `BadInput` and `Conflict` as the ledger does.
    """
    for pays in sorted({line.terms.customer for line in lines}, key=lambda each: each.id):
        lock_customer(conn, pays, at_us)
    together = [line for line in lines if not is_in_order(line)]
    new = _post(conn, together, at_us)
    for line in lines:
        if is_in_order(line) and find_line(conn, line.key) is None:
            # What covers it now may not be what covered it when it was posted.
            new += _post(conn, [line], at_us)
    return new


def _post(conn: Connection, lines: Sequence[Line], at_us: int) -> int:
    journals = [
        Journal(
            line.key, f"{line.instance_id}: {line.seconds} s, {line.kind}", cover(conn, line, at_us)
        )
        for line in lines
    ]
    new = post_all(conn, journals, at_us)
    insert_rows(conn, line_item, COLUMNS, [_row(line) for line in lines if line.key in new])
    return len(new)


def _row(line: Line) -> tuple[Any, ...]:
    plan, pays = line.terms.plan, line.terms.customer
    return (
        line.key, line.kind, line.segment_id, line.instance_id, line.owner, pays.id, line.start_us,
        line.end_us, line.seconds, line.format_pieces(), plan.name, plan.effective_us, line.cause,
        line.currency, line.amount_micro,
    )  # fmt: skip
