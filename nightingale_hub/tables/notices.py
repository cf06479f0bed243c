"""What people are told, and by which ways: anyone adds a notice, the console alone delivers it."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from nightingale_hub.tables.base import Key, metadata

# Anyone, in the transaction of what it tells, through nightingale_hub/notices.py.
notice = Table(
    "notice",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("owner", Text, nullable=False),  # whom it tells
    Column("kind", Text, nullable=False),  # notices.Kind
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("idem_key", Text, nullable=False, unique=True),  # told once
    Column("at_us", BigInteger, nullable=False),
    Column("routed_us", BigInteger),  # its deliveries are written down
    Index(None, "owner", "id"),
    Index(None, "routed_us"),
)

# Console: by which ways a person wants to be told, of what.
notice_channel = Table(
    "notice_channel",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("owner", Text, nullable=False),
    Column("way", Text, nullable=False),  # channels.WAYS
    Column("label", Text, nullable=False),  # the target without what is secret in it
    Column("target", LargeBinary, nullable=False),  # encrypted
    Column("kinds", Text, nullable=False),  # words of notices.Kind
    Column("created_us", BigInteger, nullable=False),
    CheckConstraint("way IN ('mail', 'slack', 'webhook')", name="way"),
    Index(None, "owner"),
)

# Console: one row per notice and channel.
notice_delivery = Table(
    "notice_delivery",
    metadata,
    Column("notice_id", BigInteger, ForeignKey("notice.id"), primary_key=True),
    Column(
        "channel_id",
        BigInteger,
        ForeignKey("notice_channel.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("state", Text, nullable=False),  # waiting | sent | failed | held
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_try_us", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False, server_default=""),  # for the channel's owner
    CheckConstraint("state IN ('waiting', 'sent', 'failed', 'held')", name="state"),
    Index(None, "state", "next_try_us"),
)
