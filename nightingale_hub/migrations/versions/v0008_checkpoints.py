"""Signed heads of the log."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "log_checkpoint",
        Column("at_us", BigInteger, primary_key=True, autoincrement=False),
        Column("size", BigInteger, nullable=False),
        Column("nodes", Text, nullable=False),
        Column("note", Text, nullable=False),
        Column("witnessed_us", BigInteger),
    )
    op.create_index("ix_log_checkpoint_witnessed_us", "log_checkpoint", ["witnessed_us"])
