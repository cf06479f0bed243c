"""The tamper-evident log and what was found: anyone appends, the audit service alone orders.

Triggers forbid every change of a leaf but one: its position in the log, set once.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Table,
    Text,
    UniqueConstraint,
)

from nightingale_hub.tables.base import Key, metadata

# Anyone, in the transaction of what the leaf stands for, through nightingale_hub/log_leaf.py.
log_leaf = Table(
    "log_leaf",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("payload", Text, nullable=False),  # canonical JSON
    Column("sha256", Text, nullable=False),  # of the payload
    Column("at_us", BigInteger, nullable=False),
    Column("position", BigInteger),  # from 0; NULL until the audit service has ordered it
    UniqueConstraint("position"),
)

# Audit: the signed heads of the log, and the tree that each was made from.
log_checkpoint = Table(
    "log_checkpoint",
    metadata,
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("nodes", Text, nullable=False),  # hex, one after the other: what the root is made of
    Column("note", Text, nullable=False),
    Column("witnessed_us", BigInteger),  # every witness has it
    Index(None, "witnessed_us"),
)

# Anyone, through nightingale_hub/findings.py; each has its leaf, and each change of its state too.
finding = Table(
    "finding",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False, unique=True),  # one thing is found once
    Column("kind", Text, nullable=False),
    Column("severity", Text, nullable=False),  # critical | high | medium | low
    Column("subject", Text, nullable=False),  # whom or what it is about
    Column("evidence", Text, nullable=False),  # a JSON object
    Column("at_us", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # open | acknowledged | closed
    CheckConstraint("severity IN ('critical', 'high', 'medium', 'low')", name="severity"),
    CheckConstraint("state IN ('open', 'acknowledged', 'closed')", name="state"),
    Index(None, "state", "at_us"),
    Index(None, "subject", "at_us"),
)
