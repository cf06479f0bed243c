"""Terraform's states, their locks and tickets, and the ground that instances stand on."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Text

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the four tables."""
    op.create_table(
        "terraform_state",
        Column("path", Text, primary_key=True),
        Column("version", Integer, primary_key=True, autoincrement=False),
        Column("at_us", BigInteger, nullable=False),
        Column("content", LargeBinary, nullable=False),
    )
    op.create_table(
        "terraform_lock",
        Column("path", Text, primary_key=True),
        Column("lock_id", Text, nullable=False),
        Column("info", Text, nullable=False),
        Column("ticket_sha256", Text, nullable=False),
        Column("at_us", BigInteger, nullable=False),
    )
    op.create_table(
        "terraform_ticket",
        Column("ticket_sha256", Text, primary_key=True),
        Column("path", Text, nullable=False),
        Column("machine", Text, nullable=False),
        Column("created_us", BigInteger, nullable=False),
    )
    op.create_table(
        "terraform_ground",
        Column("path", Text, primary_key=True),
        Column("fingerprint", Text, nullable=False),
        Column("outputs", Text, nullable=False),
        Column("applied_us", BigInteger, nullable=False),
    )
