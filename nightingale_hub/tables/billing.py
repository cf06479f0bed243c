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
    Column("nano_usd_per_hour", BigInteger, nullable=False),
    Column("effective_us", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    UniqueConstraint("cloud", "region", "sku", "effective_us"),
    CheckConstraint("nano_usd_per_hour >= 0", name="price"),
)

# Billing: one line per rated segment, never edited.
line_item = Table(
    "line_item",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("segment_id", BigInteger, ForeignKey("segment.id"), nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("seconds", BigInteger, nullable=False),
    Column("nano_usd_per_hour", BigInteger, nullable=False),
    Column("amount_micro_usd", BigInteger, nullable=False),
    Index(None, "owner", "start_us"),
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
