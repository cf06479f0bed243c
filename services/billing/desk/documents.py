"""Invoices and credit notes, as the desk takes them."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from nightingale_hub.clock import month_bounds_us, to_datetime
from nightingale_hub.errors import BadInput
from nightingale_hub.services.billing import account, invoices
from nightingale_hub.services.billing.currency import DECIMALS
from nightingale_hub.services.billing.desk.visit import Visit
from nightingale_hub.services.billing.documents import sha256_hex
from nightingale_hub.services.billing.fields import (
    check_keys,
    parse_amount,
    parse_name,
    parse_text,
)
from nightingale_hub.services.billing.pdf import render

Body = Mapping[str, Any]


def list_documents(visit: Visit, body: Body) -> dict[str, Any]:
    """Return a customer's documents, newest first; for an admin everyone's."""
    check_keys(body, ("customer",))
    if visit.is_admin and "customer" not in body:
        return {"customer": None, "documents": invoices.list_documents(visit.conn)}
    customer_id = visit.customer(body)
    return {
        "customer": customer_id,
        "documents": invoices.list_documents(visit.conn, customer_id),
    }


def show_document(visit: Visit, body: Body) -> dict[str, Any]:
    """Return what a document says, and where it stands."""
    check_keys(body, ("number",))
    row = invoices.get_document(visit.conn, parse_name(body, "number"))
    visit.require_sight(row.customer)
    facts = {name: getattr(row, name) for name in invoices.FACTS}
    return {**facts, "content": json.loads(row.content)}


def show_pdf(visit: Visit, body: Body) -> dict[str, Any]:
    """Return a document's PDF as it was frozen, with its hash."""
    check_keys(body, ("number",))
    row = invoices.get_document(visit.conn, parse_name(body, "number"))
    visit.require_sight(row.customer)
    return _to_file(f"{row.number}.pdf", row.pdf)


def show_month(visit: Visit, body: Body) -> dict[str, Any]:
    """Return a customer's month: lines, what grants paid, what is owed, and its days."""
    check_keys(body, ("customer", "month"))
    return account.show_month(visit.conn, visit.customer(body), _month(body, visit))


def show_month_pdf(visit: Visit, body: Body) -> dict[str, Any]:
    """Return a customer's month as PDF."""
    check_keys(body, ("customer", "month"))
    customer_id, month = visit.customer(body), _month(body, visit)
    content = account.write_statement(visit.conn, customer_id, month, visit.issuer, visit.at_us)
    return _to_file(f"statement-{month}.pdf", render(content))


def draft_invoice(visit: Visit, body: Body) -> dict[str, Any]:
    """Return what a month's invoice would say now; nothing is written."""
    check_keys(body, ("customer", "month"))
    customer_id, month = visit.customer(body), _month(body, visit)
    return invoices.draft(visit.conn, customer_id, month, visit.issuer, visit.at_us)


def finalise_invoice(visit: Visit, body: Body) -> dict[str, Any]:
    """Freeze a month's invoice under the next number."""
    visit.require_admin()
    check_keys(body, ("customer", "month"))
    customer_id, month = visit.customer(body), _month(body, visit)
    number = invoices.finalise(
        visit.conn, customer_id, month, visit.issuer, visit.due_days, visit.actor, visit.at_us
    )
    return _facts(visit, number)


def credit_invoice(visit: Visit, body: Body) -> dict[str, Any]:
    """Take back all that is left of an invoice, or an amount of it, by a credit note."""
    visit.require_admin()
    check_keys(body, ("number", "amount", "reason"))
    number, reason = parse_name(body, "number"), parse_text(body, "reason")
    minor = None
    if "amount" in body:
        row = invoices.get_document(visit.conn, number, "invoice")
        minor, rest = divmod(parse_amount(body, "amount"), 10 ** (6 - DECIMALS[row.currency]))
        if rest:
            raise BadInput(
                f"amount has more decimals than {row.currency}: an invoice is in whole "
                "smallest units"
            )
    note = invoices.credit(
        visit.conn, number, minor, reason, visit.issuer, visit.actor, visit.at_us
    )
    return _facts(visit, note)


def pay_invoice(visit: Visit, body: Body) -> dict[str, Any]:
    """Mark an invoice as paid, by a payment's reference; the same one again changes nothing."""
    visit.require_admin()
    check_keys(body, ("number", "reference"))
    number = parse_name(body, "number")
    invoices.pay(visit.conn, number, parse_text(body, "reference"), visit.actor, visit.at_us)
    return _facts(visit, number)


def _to_file(name: str, data: bytes) -> dict[str, Any]:
    return {
        "name": name,
        "sha256": sha256_hex(data),
        "base64": base64.b64encode(data).decode(),
    }


def _facts(visit: Visit, number: str) -> dict[str, Any]:
    row = invoices.get_document(visit.conn, number)
    return {name: getattr(row, name) for name in invoices.FACTS}


def _month(body: Body, visit: Visit) -> str:
    text = parse_text(body, "month", to_datetime(visit.at_us).strftime("%Y-%m"))
    try:
        start_us, _ = month_bounds_us(text)
    except ValueError as error:
        raise BadInput(f"month {text[:40]!r} is not like 2026-11") from error
    return to_datetime(start_us).strftime("%Y-%m")
