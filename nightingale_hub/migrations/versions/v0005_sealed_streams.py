"""Streams have a key and a chain, batches an order among all streams, senders can be revoked."""

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Text, text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; number the batches that are there as they came."""
    with op.batch_alter_table("audit_stream") as table:
        for name in ("public_key", "chain"):
            table.add_column(Column(name, Text))
        for name in ("seen_us", "ended_us"):
            table.add_column(Column(name, BigInteger))
    with op.batch_alter_table("audit_batch") as table:
        table.add_column(Column("number", BigInteger))
        for name in ("prev_chain", "chain", "root", "signature"):
            table.add_column(Column(name, Text))
    op.execute(
        text(
            "UPDATE audit_batch SET number = (SELECT count(*) FROM audit_batch AS other WHERE "
            "(other.file, other.position) <= (audit_batch.file, audit_batch.position))"
        )
    )
    with op.batch_alter_table("audit_batch") as table:
        table.alter_column("number", existing_type=BigInteger, nullable=False)
        table.create_unique_constraint("uq_audit_batch_number", ["number"])
    op.create_table(
        "audit_revocation",
        Column("instance_id", Text, ForeignKey("instance.id"), primary_key=True),
        Column("at_us", BigInteger, nullable=False),
        Column("by", Text, nullable=False),
        Column("reason", Text, nullable=False),
    )
