"""What a server says that it served; parts of the index that left it for Parquet files."""

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

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Make `download` anew, to which nothing was ever written, and add `audit_part`."""
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
    op.create_table(
        "audit_part",
        Column("id", KEY, primary_key=True, autoincrement=True),
        Column("name", Text, nullable=False),
        Column("since_us", BigInteger, nullable=False),
        Column("until_us", BigInteger, nullable=False),
        Column("rows", BigInteger, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("sha256", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("at_us", BigInteger, nullable=False),
        UniqueConstraint("name", name="uq_audit_part_name"),
        CheckConstraint("state IN ('writing', 'cold', 'dropping')", name="ck_audit_part_state"),
    )
    op.create_index("ix_audit_part_since_us", "audit_part", ["since_us"])
