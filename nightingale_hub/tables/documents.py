"""Invoices and credit notes, which the database freezes; billing alone writes here."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    text,
)

from nightingale_hub.tables.base import metadata

IS_INVOICE: dict[str, Any] = {
    f"{dialect}_where": text("kind = 'invoice'") for dialect in ("sqlite", "postgresql")
}

# Billing: the last number of each series. It is raised in the transaction that uses it, so a
# series has no gap.
document_series = Table(
    "document_series",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("last", BigInteger, nullable=False),
)

# Billing: what was asked of a customer, as it was sent. Only the state goes on.
document = Table(
    "document",
    metadata,
    Column("number", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # invoice | credit_note
    Column("customer", Text, ForeignKey("customer.id"), nullable=False),
    Column("month", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("total_minor", BigInteger, nullable=False),  # of a credit note: what it takes back
    Column("content", Text, nullable=False),  # JSON: all that it says
    Column("pdf", LargeBinary, nullable=False),
    Column("pdf_sha256", Text, nullable=False),
    Column("corrects", Text, ForeignKey("document.number")),
    Column("issued_us", BigInteger, nullable=False),
    Column("issued_by", Text, nullable=False),
    Column("due_us", BigInteger),
    Column("state", Text, nullable=False),  # final | overdue | paid | credited
    Column("paid_us", BigInteger),
    Column("reference", Text, nullable=False, server_default=""),  # of the payment
    CheckConstraint("kind IN ('invoice', 'credit_note')", name="kind"),
    CheckConstraint("(kind = 'credit_note') = (corrects IS NOT NULL)", name="corrects"),
    CheckConstraint("state IN ('final', 'overdue', 'paid', 'credited')", name="state"),
    Index("uq_document_month", "customer", "month", unique=True, **IS_INVOICE),
)

# Billing: which invoice asks for which line, so that none is asked for twice.
document_line = Table(
    "document_line",
    metadata,
    Column("line_id", BigInteger, ForeignKey("line_item.id"), primary_key=True),
    Column("number", Text, ForeignKey("document.number"), nullable=False),
    Column("amount_micro", BigInteger, nullable=False),  # what no grant paid of it
    Index(None, "number"),
)
