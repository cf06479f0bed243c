"""Faults that go on while they are told, and disks that pass from one instance to the next."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    MetaData,
    Table,
    Text,
    false,
)

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Table("instance", metadata, Column("id", Text, primary_key=True))
holding = Table(
    "holding",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    Column("from_us", BigInteger, primary_key=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("sku", Text, nullable=False),
    Column("until_us", BigInteger),
    CheckConstraint("kind IN ('disk', 'address')", name="kind"),
    Index(None, "instance_id"),
)

# Of a fault only the end of one that is open may change, and only grow.
GROWS = (
    "OLD.is_open AND NEW.end_us >= OLD.end_us AND NEW.id = OLD.id AND NEW.cause = OLD.cause AND "
    "NEW.instance_id = OLD.instance_id AND NEW.proof = OLD.proof AND NEW.start_us = OLD.start_us "
    "AND NEW.told_as = OLD.told_as"
)


def upgrade() -> None:
    """Change both; no release wrote a holding before, so none is carried over."""
    op.add_column("fault", Column("told_as", Text))
    op.add_column("fault", Column("is_open", Boolean, nullable=False, server_default=false()))
    op.create_index("uq_fault_told_as", "fault", ["told_as"], unique=True)
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER fault_no_update")
        op.execute(
            f"CREATE TRIGGER fault_no_update BEFORE UPDATE ON fault WHEN ({GROWS}) IS NOT TRUE "
            "BEGIN SELECT RAISE(ABORT, 'fault is append-only'); END"
        )
    else:
        op.execute("DROP TRIGGER fault_append_only ON fault")
        op.execute(
            "CREATE TRIGGER fault_append_only BEFORE DELETE OR TRUNCATE ON fault "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_edit()"
        )
        op.execute(
            f"CREATE TRIGGER fault_no_update BEFORE UPDATE ON fault FOR EACH ROW "
            f"WHEN (({GROWS}) IS NOT TRUE) EXECUTE FUNCTION refuse_edit()"
        )
    op.drop_table("holding")
    holding.create(op.get_bind())
