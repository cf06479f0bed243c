"""Resizes, requests, quarantine, activity, and leases on the rows of instances."""

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Key = BigInteger().with_variant(Integer, "sqlite")
IS_OPEN: dict[str, Any] = {
    f"{each}_where": text("ended_us IS NULL") for each in ("sqlite", "postgresql")
}

# Here already; named so that keys may refer to it.
instance = Table("instance", metadata, Column("id", Text, primary_key=True))

shape = Table(
    "shape",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("effective_us", BigInteger, nullable=False),
    Column("instance_type", Text, nullable=False),
    Column("cpu", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("disk", Text, nullable=False),
    Column("nano_usd_per_hour", BigInteger, nullable=False),
    Column("cause", Text, nullable=False),
    UniqueConstraint("instance_id", "effective_us"),
)


resize = Table(
    "resize",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("instance_type", Text, nullable=False),
    Column("cpu", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("disk", Text, nullable=False),
    Column("nano_usd_per_hour", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("asked_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("outcome", Text, nullable=False, server_default=""),
    Index(None, "instance_id"),
    Index("uq_resize_open", "instance_id", unique=True, **IS_OPEN),
)


request = Table(
    "request",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False, server_default="{}"),
    Column("idem_key", Text, unique=True),
    Column("asked_us", BigInteger, nullable=False),
    Column("done_us", BigInteger),
    Column("outcome", Text, nullable=False, server_default=""),
    Index(None, "done_us"),
    CheckConstraint("kind IN ('stop', 'resize', 'quarantine', 'release', 'remove')", name="kind"),
)


quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("owner", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("ended_by", Text),
    Index("uq_quarantine_open", "owner", unique=True, **IS_OPEN),
)


activity = Table(
    "activity",
    metadata,
    Column("instance_id", Text, ForeignKey("instance.id"), primary_key=True),
    Column("told_us", BigInteger),
    Column("report", Text, nullable=False, server_default="{}"),
    Column("active_us", BigInteger),
    Column("why", Text, nullable=False, server_default=""),
    Column("keep_until_us", BigInteger),
    Column("warned", Integer, nullable=False, server_default="0"),
    Column("warned_us", BigInteger),
)


def upgrade() -> None:
    """Add the columns of an instance and the tables, and give each instance its first shape."""
    for column in (
        Column("cause", Text, nullable=False, server_default=""),
        Column("owner_groups", Text, nullable=False, server_default="[]"),
        Column("machine", Text),
        Column("lease_holder", Text),
        Column("lease_token", BigInteger, nullable=False, server_default="0"),
        Column("lease_until_us", BigInteger, nullable=False, server_default="0"),
    ):
        op.add_column("instance", column)
    _let_wanted_be_gone()
    _let_a_server_follow_what_is_gone()
    for table in (shape, resize, request, quarantine, activity):
        table.create(op.get_bind())
    op.execute(
        "INSERT INTO shape (instance_id, effective_us, instance_type, cpu, gpu, disk, "
        "nano_usd_per_hour, cause) SELECT id, created_us, instance_type, cpu, gpu, disk, "
        "nano_usd_per_hour, 'launch' FROM instance"
    )


def _let_wanted_be_gone() -> None:
    before, after = "('running', 'stopped')", "('running', 'stopped', 'gone')"
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE instance DROP CONSTRAINT ck_instance_wanted")
        op.execute(
            f"ALTER TABLE instance ADD CONSTRAINT ck_instance_wanted CHECK (wanted IN {after})"
        )
        return
    # SQLite's own way to change a check: the text of the schema, and its version, which has
    # every other connection read it anew.
    # ref: https://www.sqlite.org/lang_altertable.html#otheralter
    conn = op.get_bind()
    version = conn.exec_driver_sql("PRAGMA schema_version").scalar_one()
    conn.exec_driver_sql("PRAGMA writable_schema = ON")
    conn.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ?",
        (f"wanted IN {before}", f"wanted IN {after}", "instance"),
    )
    conn.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    conn.exec_driver_sql("PRAGMA writable_schema = OFF")


def _let_a_server_follow_what_is_gone() -> None:
    op.drop_index("uq_instance_live", "instance")
    is_live = text("actual NOT IN ('stopped', 'gone')")
    op.create_index(
        "uq_instance_live",
        "instance",
        ["owner", "server_name"],
        unique=True,
        sqlite_where=is_live,
        postgresql_where=is_live,
    )
