"""Leaves of the tamper-evident log, whose database refuses every edit, and findings."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Integer,
    Text,
)

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Key = BigInteger().with_variant(Integer, "sqlite")
# A leaf's position is set once; nothing else of it ever changes.
IS_EDIT = (
    "OLD.position IS NOT NULL OR NEW.position IS NULL OR NEW.id <> OLD.id "
    "OR NEW.kind <> OLD.kind OR NEW.payload <> OLD.payload OR NEW.sha256 <> OLD.sha256 "
    "OR NEW.at_us <> OLD.at_us"
)


def upgrade() -> None:
    """Create both tables and the triggers."""
    op.create_table(
        "log_leaf",
        Column("id", Key, primary_key=True, autoincrement=True),
        Column("kind", Text, nullable=False),
        Column("payload", Text, nullable=False),
        Column("sha256", Text, nullable=False),
        Column("at_us", BigInteger, nullable=False),
        Column("position", BigInteger, unique=True),
    )
    op.create_table(
        "finding",
        Column("id", Key, primary_key=True, autoincrement=True),
        Column("key", Text, nullable=False, unique=True),
        Column("kind", Text, nullable=False),
        Column("severity", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("evidence", Text, nullable=False),
        Column("at_us", BigInteger, nullable=False),
        Column("state", Text, nullable=False),
        CheckConstraint("severity IN ('critical', 'high', 'medium', 'low')", name="severity"),
        CheckConstraint("state IN ('open', 'acknowledged', 'closed')", name="state"),
    )
    op.create_index("ix_finding_state", "finding", ["state", "at_us"])
    op.create_index("ix_finding_subject", "finding", ["subject", "at_us"])
    if op.get_bind().dialect.name == "sqlite":
        _protect_on_sqlite()
    else:
        _protect_on_postgresql()


def _protect_on_sqlite() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, 'log_leaf is append-only'); END"
    op.execute(f"CREATE TRIGGER log_leaf_no_delete BEFORE DELETE ON log_leaf {refuse}")
    op.execute(
        f"CREATE TRIGGER log_leaf_no_update BEFORE UPDATE ON log_leaf WHEN {IS_EDIT} {refuse}"
    )


def _protect_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_leaf_edit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'log_leaf is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER log_leaf_no_delete BEFORE DELETE OR TRUNCATE ON log_leaf "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_leaf_edit()"
    )
    op.execute(
        "CREATE TRIGGER log_leaf_no_update BEFORE UPDATE ON log_leaf "
        f"FOR EACH ROW WHEN ({IS_EDIT}) EXECUTE FUNCTION refuse_leaf_edit()"
    )
