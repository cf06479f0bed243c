"""How long each instance was up, in µs since the epoch; metering alone writes here."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Table,
    Text,
    UniqueConstraint,
)

from nightingale_hub.tables.base import Key, metadata

# Metering. Half-open [start, end); `end_us` is NULL while it runs, `seen_us` is the checkpoint.
segment = Table(
    "segment",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("meter", Text, nullable=False),  # allocated | ready
    Column("boot_id", Text, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("end_us", BigInteger),
    Column("cause", Text, nullable=False, server_default=""),  # why it ended
    UniqueConstraint("instance_id", "meter", "boot_id"),
    CheckConstraint("meter IN ('allocated', 'ready')", name="meter"),
    CheckConstraint("end_us IS NULL OR end_us >= start_us", name="order"),
)
