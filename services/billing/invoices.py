"""Invoices of private customers: drafted from posted lines, numbered and frozen, paid or credited.

A number is taken, the PDF made and the journal posted in one transaction: either there is the
whole invoice, or nothing and no gap. What is used after an invoice comes onto the next.
"""

import json
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from nightingale_hub.clock import month_bounds_us
from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.services.billing.burning import burn_grants
from nightingale_hub.services.billing.currency import DECIMALS
from nightingale_hub.services.billing.documents import (
    Head,
    State,
    check_credit,
    edge,
    encode_content,
    format_number,
    sha256_hex,
    write_content,
)
from nightingale_hub.services.billing.documents import Line as DocumentLine
from nightingale_hub.services.billing.due import (
    Due,
    check_complete,
    count_free_seconds,
    list_due,
)
from nightingale_hub.services.billing.ledger import Accounts, Entry, Journal, post
from nightingale_hub.services.billing.payer import lock_customer
from nightingale_hub.services.billing.pdf import render
from nightingale_hub.tables.customers import customer
from nightingale_hub.tables.documents import document, document_line, document_series
from nightingale_hub.terms import find_customer

DAY_US = 86_400 * 1_000_000
FACTS = (
    "number kind customer month currency total_minor pdf_sha256 corrects issued_us issued_by "
    "due_us state paid_us reference"
).split()


def draft(
    conn: Connection, customer_id: str, month: str, issuer: str, at_us: int
) -> dict[str, Any]:
    """Return what the invoice would say now; writes nothing. Raises `NotFound`, `BadInput`."""
    row = _get_private(conn, customer_id)
    dues = list_due(conn, customer_id, month_bounds_us(month)[1])
    head = Head("invoice", issuer, row.name, month, row.currency, at_us)
    return write_content(head, "draft", [each.line for each in dues], _free(conn, month, dues))


def finalise(
    conn: Connection,
    customer_id: str,
    month: str,
    issuer: str,
    due_days: int,
    actor: str,
    at_us: int,
) -> str:
    """Freeze the invoice of *month* under the next number and return that.

    Raises `BadInput` for a month that is not over or owes nothing, `Conflict` when it has one
    already or use of it is not posted yet; then nothing is changed and no number is used.
    """
    row = _get_private(conn, customer_id)
    pays = find_customer(conn, customer_id)
    assert pays is not None
    lock_customer(conn, pays, at_us)
    end_us = month_bounds_us(month)[1]
    if at_us < end_us:
        raise BadInput(f"{month} is not over; its invoice can be made from its end on")
    _refuse_second(conn, customer_id, month)
    check_complete(conn, customer_id, end_us)
    burn_grants(conn, customer_id, at_us)
    dues = list_due(conn, customer_id, end_us)
    total_micro = sum(each.line.amount_micro for each in dues)
    number = _take_number(conn, "invoice")
    due_us = at_us + due_days * DAY_US
    head = Head("invoice", issuer, row.name, month, row.currency, at_us, due_us)
    content = write_content(head, number, [each.line for each in dues], _free(conn, month, dues))
    if content["total_minor"] <= 0:
        raise BadInput(f"customer {customer_id} owes nothing for {month}, so there is no invoice")
    _store(conn, content, customer_id, actor)
    conn.execute(
        insert(document_line),
        [
            {"line_id": each.line_id, "number": number, "amount_micro": each.line.amount_micro}
            for each in dues
        ],
    )
    asked = _to_micro(content["total_minor"], row.currency)
    entries = (
        Entry(Accounts(customer_id).receivable, asked, row.currency),
        Entry(Accounts(customer_id).revenue, -asked, row.currency),
        Entry(Accounts(customer_id).unbilled, total_micro, row.currency),
        Entry(Accounts(customer_id).accrued, -total_micro, row.currency),
    )
    post(conn, Journal(f"invoice:{number}", f"Invoice {number}", entries), at_us)
    return number


def credit(
    conn: Connection,
    number: str,
    amount_minor: int | None,
    reason: str,
    issuer: str,
    actor: str,
    at_us: int,
) -> str:
    """Take back *amount_minor* (None: all that is left) of an invoice; return the note's number.

    Raises `NotFound`, `BadInput` for more than is left, `Conflict` for what is no open invoice.
    """
    row = get_document(conn, number, "invoice")
    left = row.total_minor - _credited(conn, number)
    amount = left if amount_minor is None else amount_minor
    if row.state in (State.PAID, State.CREDITED):
        raise Conflict(f"invoice {number} is {row.state}; what was paid is returned by hand")
    check_credit(row.total_minor, row.total_minor - left, amount, row.currency)
    note = _take_number(conn, "credit_note")
    micro = _to_micro(amount, row.currency)
    name = json.loads(row.content)["customer"]
    head = Head("credit_note", issuer, name, row.month, row.currency, at_us, None, number, reason)
    content = write_content(head, note, [DocumentLine(f"Taken back of {number}", micro)])
    _store(conn, content, row.customer, actor)
    entries = (
        Entry(Accounts(row.customer).revenue, micro, row.currency),
        Entry(Accounts(row.customer).receivable, -micro, row.currency),
    )
    post(conn, Journal(f"credit_note:{note}", f"Credit note {note} of {number}", entries), at_us)
    if amount == left:
        _go(conn, row, State.CREDITED, actor, at_us)
    return note


def pay(conn: Connection, number: str, reference: str, actor: str, at_us: int) -> bool:
    """Record that an invoice was paid; returns False when the same payment was recorded before.

    Raises `NotFound`, `Conflict` for an invoice that asks for nothing any more.
    """
    row = get_document(conn, number, "invoice")
    if row.state == State.PAID and row.reference == reference:
        return False
    left = row.total_minor - _credited(conn, number)
    micro = _to_micro(left, row.currency)
    _go(conn, row, State.PAID, actor, at_us, paid_us=at_us, reference=reference)
    entries = (
        Entry("cash", micro, row.currency),
        Entry(Accounts(row.customer).receivable, -micro, row.currency),
    )
    post(conn, Journal(f"payment:{number}", f"Payment of {number}: {reference}", entries), at_us)
    return True


def mark_overdue(conn: Connection, at_us: int) -> list[str]:
    """Mark each invoice that nobody paid in time; return their numbers."""
    rows = conn.execute(
        select(document).where(document.c.state == State.FINAL, document.c.due_us <= at_us)
    ).all()
    for row in rows:
        _go(conn, row, State.OVERDUE, "billing", at_us)
    return [row.number for row in rows]


def get_document(conn: Connection, number: str, kind: str | None = None) -> Row[Any]:
    """Return a document; raises `NotFound` for a number that none has."""
    row = conn.execute(
        select(document).where(document.c.number == number).with_for_update()
    ).one_or_none()
    if row is None or (kind is not None and row.kind != kind):
        raise NotFound(f"no {(kind or 'document').replace('_', ' ')} {number[:40]!r}")
    return row


def list_documents(conn: Connection, customer_id: str | None = None) -> list[dict[str, Any]]:
    """Return a customer's documents, or everyone's, newest first, without their content."""
    query = select(*(document.c[name] for name in FACTS)).order_by(
        document.c.issued_us.desc(), document.c.number.desc()
    )
    if customer_id is not None:
        query = query.where(document.c.customer == customer_id)
    return [dict(row._mapping) for row in conn.execute(query)]


def _get_private(conn: Connection, customer_id: str) -> Row[Any]:
    row = conn.execute(select(customer).where(customer.c.id == customer_id)).one_or_none()
    if row is None:
        raise NotFound(f"no customer {customer_id!r}")
    if row.kind != "private":
        raise BadInput(f"customer {customer_id} is a non-profit: it has statements, no invoices")
    return row


def _refuse_second(conn: Connection, customer_id: str, month: str) -> None:
    known = conn.execute(
        select(document.c.number).where(
            document.c.customer == customer_id,
            document.c.month == month,
            document.c.kind == "invoice",
        )
    ).scalar()
    if known is not None:
        raise Conflict(
            f"{month} of {customer_id} is on invoice {known}; correct that by a credit note"
        )


def _take_number(conn: Connection, kind: str) -> str:
    raised = conn.execute(
        update(document_series)
        .where(document_series.c.kind == kind)
        .values(last=document_series.c.last + 1)
    ).rowcount
    assert raised == 1, "each series is there from the first migration on"
    last = conn.execute(
        select(document_series.c.last).where(document_series.c.kind == kind)
    ).scalar_one()
    return format_number(kind, int(last))


def _store(conn: Connection, content: dict[str, Any], customer_id: str, actor: str) -> None:
    pdf = render(content)
    values = {
        "number": content["number"],
        "kind": content["kind"],
        "customer": customer_id,
        "month": content["month"],
        "currency": content["currency"],
        "total_minor": content["total_minor"],
        "corrects": content["corrects"] or None,
        "pdf_sha256": sha256_hex(pdf),
        "issued_by": actor,
    }
    text = encode_content(content)
    conn.execute(
        insert(document).values(
            content=text,
            pdf=pdf,
            issued_us=content["issued_us"],
            due_us=content["due_us"],
            state=State.FINAL,
            **values,
        )
    )
    leaf = {**values, "content_sha256": sha256_hex(text.encode())}
    append_leaf(conn, content["kind"], leaf, content["issued_us"])


def _go(
    conn: Connection, row: Row[Any], state: State, actor: str, at_us: int, **columns: Any
) -> None:
    taken = edge(State(row.state), state)
    conn.execute(
        update(document).where(document.c.number == row.number).values(state=state, **columns)
    )
    payload = {"document": row.number, "edge": taken, "by": actor}
    append_leaf(conn, "document_state", payload, at_us)


def _credited(conn: Connection, number: str) -> int:
    return int(
        conn.execute(
            select(func.coalesce(func.sum(document.c.total_minor), 0)).where(
                document.c.corrects == number
            )
        ).scalar_one()
    )


def _to_micro(minor: int, currency: str) -> int:
    return int(minor * 10 ** (6 - DECIMALS[currency]))


def _free(conn: Connection, month: str, dues: list[Due]) -> int:
    return count_free_seconds(conn, month, [each.line_id for each in dues])
