"""What a server says that it served: by its run, with what it was and how many requests."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    Text,
    UniqueConstraint,
)

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Make the table anew: nothing was ever written to it."""
    op.drop_table("download")
    op.create_table(
        "download",
        Column("id", KEY, primary_key=True, autoincrement=True),
        Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
        Column("owner", Text, nullable=False),
        Column("run", Text, nullable=False),
        Column("number", BigInteger, nullable=False),
        Column("kind", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("requests", BigInteger, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("at_us", BigInteger, nullable=False),
        UniqueConstraint("instance_id", "run", "number", name="uq_download_instance_id_run_number"),
        CheckConstraint("kind IN ('file', 'output', 'proxied', 'page')", name="ck_download_kind"),
    )
    op.create_index("ix_download_owner_at_us", "download", ["owner", "at_us"])
