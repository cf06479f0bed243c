"""What was tried in vain for a launch: cloud, zone and type, and what the cloud said."""

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, Text

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

Key = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "attempt",
        Column("id", Key, primary_key=True, autoincrement=True),
        Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
        Column("cloud", Text, nullable=False),
        Column("region", Text, nullable=False),
        Column("zone", Text, nullable=False),
        Column("instance_type", Text, nullable=False),
        Column("lack", Text, nullable=False),
        Column("at_us", BigInteger, nullable=False),
    )
    op.create_index("ix_attempt_instance_id", "attempt", ["instance_id"])
