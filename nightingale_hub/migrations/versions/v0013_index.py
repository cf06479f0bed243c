"""The index of read records in numbers, with names once, and in months on PostgreSQL."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    false,
    text,
    update,
)
from sqlalchemy.sql import column, table

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

Key = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Replace the index by an empty one, which fills up from the segment files."""
    op.drop_table("audit_event")
    op.create_table(
        "audit_reader",
        Column("id", Key, primary_key=True, autoincrement=True),
        Column("owner", Text, nullable=False, unique=True),
    )
    op.create_table(
        "audit_source",
        Column("id", Key, primary_key=True, autoincrement=True),
        Column("stream_id", Text, ForeignKey("audit_stream.id"), nullable=False, unique=True),
    )
    op.create_table(
        "audit_file",
        Column("id", Key, primary_key=True, autoincrement=True),
        Column("key", LargeBinary, nullable=False, unique=True),
        Column("dataset", Text, nullable=False),
        Column("path", Text, nullable=False),
    )
    op.create_index("ix_audit_file_path", "audit_file", [text("substr(path, 1, 200)")])
    op.create_table(
        "audit_process",
        Column("id", Key, primary_key=True, autoincrement=True),
        Column("key", LargeBinary, nullable=False, unique=True),
        Column("source", Integer, ForeignKey("audit_source.id"), nullable=False),
        Column("uid", BigInteger, nullable=False),
        Column("pid", BigInteger, nullable=False),
        Column("executable", Text, nullable=False),
    )
    op.create_index("ix_audit_process_source", "audit_process", ["source", "pid"])
    _create_events()
    batches = table("audit_batch", column("is_indexed"))
    op.execute(update(batches).values(is_indexed=false()))


def _create_events() -> None:
    op.create_table(
        "audit_event",
        Column("source", Integer, primary_key=True, autoincrement=False),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("at_us", BigInteger, primary_key=True, autoincrement=False),
        Column("reader", Integer, nullable=False),
        Column("file", Integer, nullable=False),
        Column("process", Integer, nullable=False),
        Column("action", SmallInteger, nullable=False),
        Column("errno", SmallInteger, nullable=False),
        Column("start", BigInteger, nullable=False),
        Column("length", BigInteger, nullable=False),
        Column("duration_us", BigInteger, nullable=False),
        Column("handle", BigInteger, nullable=False),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (at_us)",
    )
    for columns in (["reader", "at_us"], ["file", "at_us"], ["at_us"]):
        op.create_index(f"ix_audit_event_{columns[0]}", "audit_event", columns)
    if op.get_bind().dialect.name == "postgresql":
        # For what claims to be of a month that no partition was made for.
        op.execute("CREATE TABLE audit_event_other PARTITION OF audit_event DEFAULT")
