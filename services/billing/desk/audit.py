"""Explaining a line, and the clouds' bills, as the desk takes them."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from nightingale_hub.errors import BadInput, NotFound
from nightingale_hub.services.billing.bills import MAX_FILE_BYTES
from nightingale_hub.services.billing.desk.visit import Visit
from nightingale_hub.services.billing.explain import explain_line
from nightingale_hub.services.billing.fields import check_keys, parse_count, parse_text
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
