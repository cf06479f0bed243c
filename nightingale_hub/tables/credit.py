"""Members of customers, grants of credit and what they paid; billing alone writes here."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Table,
    Text,
)

from nightingale_hub.tables.base import metadata

# Billing: which hub user belongs to which customer, on which project of it, since when.
# Who pays is `payer`; a member may be one of several customers.
member = Table(
    "member",
    metadata,
    Column("customer", Text, ForeignKey("customer.id"), primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("from_us", BigInteger, primary_key=True),
    Column("project", Text, nullable=False, server_default=""),
    Column("role", Text, nullable=False),  # manager (sees and sets all) | member (sees their own)
    Column("until_us", BigInteger),
    CheckConstraint("role IN ('manager', 'member')", name="role"),
    CheckConstraint("until_us IS NULL OR until_us >= from_us", name="order"),
    Index(None, "owner"),
)

# Billing: credit that pays for use in [start, end). An allowance is a customer's; a provider's
# credit pays the cloud's own bill and never a customer's line.
credit_grant = Table(
    "credit_grant",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # allowance | provider
    Column("customer", Text, ForeignKey("customer.id")),  # of an allowance
    Column("source", Text, nullable=False),  # who gave it
    Column("scope", Text, nullable=False),  # JSON: {"cloud": "aws", "project": "p1"}
    Column("currency", Text, nullable=False),
    Column("amount_micro", BigInteger, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    CheckConstraint("kind IN ('allowance', 'provider')", name="kind"),
    CheckConstraint("(kind = 'allowance') = (customer IS NOT NULL)", name="whose"),
    CheckConstraint("amount_micro > 0", name="amount"),
    CheckConstraint("end_us > start_us", name="window"),
    Index(None, "customer"),
)

# Billing: what each grant pays of each line as it stands; the ledger holds how it came to be.
burned = Table(
    "burned",
    metadata,
    Column("line_id", BigInteger, ForeignKey("line_item.id"), primary_key=True),
    Column("grant_id", Text, ForeignKey("credit_grant.id"), primary_key=True),
    Column("amount_micro", BigInteger, nullable=False),
    CheckConstraint("amount_micro > 0", name="amount"),
    Index(None, "grant_id"),
)

# Billing: the lines that grants were looked up for, and how often that changed their journal.
funded = Table(
    "funded",
    metadata,
    Column("line_id", BigInteger, ForeignKey("line_item.id"), primary_key=True),
    Column("revision", BigInteger, nullable=False),
)
