"""What runs in a cloud and belongs to nobody."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "orphan",
        Column("cloud_id", Text, primary_key=True),
        Column("cloud", Text, nullable=False),
        Column("region", Text, nullable=False),
        Column("instance_id", Text, nullable=False),
        Column("instance_type", Text, nullable=False),
        Column("why", Text, nullable=False),
        Column("seen_us", BigInteger, nullable=False),
        Column("removed_us", BigInteger),
    )
