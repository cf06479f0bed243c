"""Explaining a line, and the clouds' bills, as the desk takes them."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from nightingale_hub.errors import BadInput, NotFound
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.services.billing.bills import MAX_FILE_BYTES
from nightingale_hub.services.billing.desk.visit import Visit
from nightingale_hub.services.billing.explain import explain_line, list_changed, list_line_ids
from nightingale_hub.services.billing.export import export_journal
from nightingale_hub.services.billing.fields import check_keys, parse_count, parse_text
from nightingale_hub.services.billing.ledger import (
    count_entries,
    list_unbalanced,
    list_wrong_balances,
    rebuild_balances,
)
from nightingale_hub.services.billing.reconcile import import_bill, list_days
from nightingale_hub.tables.billing import line_item

Body = Mapping[str, Any]


def show_line(visit: Visit, body: Body) -> dict[str, Any]:
    """Return how a line came about: segment, seconds, prices, amount, entries."""
    check_keys(body, ("line",))
    number = parse_count(body, "line", 0, 2**53)
    row = visit.conn.execute(
        select(line_item.c.customer, line_item.c.owner).where(line_item.c.id == number)
    ).one_or_none()
    if row is None:
        raise NotFound(f"no line {number}; a statement has the number of each of its lines")
    if row.owner != visit.actor:
        visit.require_sight(row.customer)
    return explain_line(visit.conn, number)


def check_ledger(visit: Visit, body: Body) -> dict[str, Any]:
    """Return what is wrong with the books: journals, balances, lines that come out otherwise."""
    visit.require_admin()
    check_keys(body, ())
    lines: list[int] = []
    last_id = 0
    while seen := list_line_ids(visit.conn, last_id):
        lines += list_changed(visit.conn, last_id, len(seen))
        last_id = seen[-1]
    wrong = {
        "unbalanced": list_unbalanced(visit.conn),
        "wrong_balances": list_wrong_balances(visit.conn),
        "changed_lines": [str(each) for each in lines],
    }
    is_well = not any(wrong.values())
    return {"entries": count_entries(visit.conn), "is_well": is_well, **wrong}


def rebuild_ledger(visit: Visit, body: Body) -> dict[str, Any]:
    """Work every kept balance out anew from the entries."""
    visit.require_admin()
    check_keys(body, ())
    wrong = rebuild_balances(visit.conn)
    append_leaf(visit.conn, "rebuild", {"by": visit.actor, "wrong": wrong}, visit.at_us)
    return {"wrong": wrong}


def show_journal(visit: Visit, body: Body) -> dict[str, Any]:
    """Return the whole journal as beancount reads it."""
    visit.require_admin()
    check_keys(body, ())
    data = export_journal(visit.conn).encode()
    return {
        "name": "journal.beancount",
        "base64": base64.b64encode(data).decode(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def take_bill(visit: Visit, body: Body) -> dict[str, Any]:
    """Take in a cloud's bill (FOCUS or the cloud's own columns, CSV or Parquet) and compare it."""
    visit.require_admin()
    check_keys(body, ("name", "base64"))
    text = body.get("base64")
    if not isinstance(text, str) or len(text) > MAX_FILE_BYTES * 4 // 3 + 4:
        raise BadInput(f"base64 must be the bill, of at most {MAX_FILE_BYTES >> 20} MiB")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput("base64 is not base64") from error
    return import_bill(
        visit.conn, parse_text(body, "name", "bill"), content, visit.actor, visit.at_us
    )


def show_days(visit: Visit, body: Body) -> dict[str, Any]:
    """Return each compared day: theirs, ours, drift, orphans, phantoms."""
    visit.require_admin()
    check_keys(body, ())
    return {"days_compared": list_days(visit.conn)}
