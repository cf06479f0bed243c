"""What people are told, and by which ways."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    Text,
)

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

Key = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Create the notices, the channels and the deliveries."""
    op.create_table(
        "notice",
        Column("id", Key, primary_key=True, autoincrement=True),
        Column("owner", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("body", Text, nullable=False),
        Column("idem_key", Text, nullable=False, unique=True),
        Column("at_us", BigInteger, nullable=False),
        Column("routed_us", BigInteger),
    )
    op.create_index("ix_notice_owner_id", "notice", ["owner", "id"])
    op.create_index("ix_notice_routed_us", "notice", ["routed_us"])
    op.create_table(
        "notice_channel",
        Column("id", Key, primary_key=True, autoincrement=True),
        Column("owner", Text, nullable=False),
        Column("way", Text, nullable=False),
        Column("label", Text, nullable=False),
        Column("target", LargeBinary, nullable=False),
        Column("kinds", Text, nullable=False),
        Column("created_us", BigInteger, nullable=False),
        CheckConstraint("way IN ('mail', 'slack', 'webhook')", name="ck_notice_channel_way"),
    )
    op.create_index("ix_notice_channel_owner", "notice_channel", ["owner"])
    op.create_table(
        "notice_delivery",
        Column("notice_id", BigInteger, ForeignKey("notice.id"), primary_key=True),
        Column(
            "channel_id",
            BigInteger,
            ForeignKey("notice_channel.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        Column("state", Text, nullable=False),
        Column("attempts", Integer, nullable=False, server_default="0"),
        Column("next_try_us", BigInteger, nullable=False),
        Column("outcome", Text, nullable=False, server_default=""),
        CheckConstraint(
            "state IN ('waiting', 'sent', 'failed', 'held')", name="ck_notice_delivery_state"
        ),
    )
    op.create_index(
        "ix_notice_delivery_state_next_try_us", "notice_delivery", ["state", "next_try_us"]
    )
