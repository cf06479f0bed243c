"""Prices, lines and the ledger; billing alone writes here. Money is integers of the unit named."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Table,
    Text,
    UniqueConstraint,
)

from nightingale_hub.tables.base import Key, metadata

# Billing: the price book. The newest row not after an instant is the price at that instant.
price = Table(
    "price",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("cloud", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("sku", Text, nullable=False),  # cpu.S, gpu.none, disk.M; later an instance type
    Column("currency", Text, nullable=False, server_default="USD"),
    Column("nano_per_hour", BigInteger, nullable=False),  # of the currency
    Column("effective_us", BigInteger, nullable=False),
    Column("published_us", BigInteger, nullable=False, server_default="0"),  # not in force before
    Column("source", Text, nullable=False),
    UniqueConstraint("cloud", "region", "sku", "currency", "effective_us"),
    CheckConstraint("nano_per_hour >= 0", name="price"),
)

# Billing: rated lines, never edited. What a line is made of stands in it, so that it can be
# worked out again without anything else.
line_item = Table(
    "line_item",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("idem_key", Text, nullable=False, unique=True),  # its journal's, too
    Column("kind", Text, nullable=False),  # usage | storage | credit
    Column("segment_id", BigInteger, ForeignKey("segment.id"), nullable=False),
    Column("instance_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("seconds", BigInteger, nullable=False),
    Column("pieces", Text, nullable=False),  # JSON: [[seconds, nano per hour], …], in order
    Column("plan", Text, nullable=False),
    Column("plan_us", BigInteger, nullable=False),  # which version of the plan
    Column("cause", Text, nullable=False),  # of a credit: the fault; else empty
    Column("currency", Text, nullable=False),
    Column("amount_micro", BigInteger, nullable=False),  # a credit's is negative
    Index(None, "owner", "start_us"),
    Index(None, "customer", "start_us"),
    Index(None, "segment_id"),
)

# Billing: double entry; triggers forbid UPDATE and DELETE on both.
journal = Table(
    "journal",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("idem_key", Text, nullable=False, unique=True),
    Column("payload_sha256", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
)
entry = Table(
    "entry",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("journal_id", BigInteger, ForeignKey("journal.id"), nullable=False),
    Column("account", Text, nullable=False),
    Column("amount_micro", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Index(None, "account"),
    Index(None, "journal_id"),
)

# Billing: the sum of an account's entries, kept with each posting; it can be rebuilt from them.
balance = Table(
    "balance",
    metadata,
    Column("account", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("amount_micro", BigInteger, nullable=False),
)
