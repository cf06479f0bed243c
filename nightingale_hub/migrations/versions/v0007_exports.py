"""Exports remember how far they have come."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the cursor of each export."""
    counts = ("batch_number", "finding_id", "sent", "refused")
    op.create_table(
        "audit_export",
        Column("name", Text, primary_key=True),
        *(Column(name, BigInteger, nullable=False, server_default="0") for name in counts),
        Column("delivered_us", BigInteger),
        Column("error", Text, nullable=False, server_default=""),
        Column("error_us", BigInteger),
    )
