"""Members, grants of credit, budgets with their holds, documents: frozen once they are final."""

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

revision = "0009"
down_revision = "0008"
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
IS_INVOICE: dict[str, Any] = {
    f"{dialect}_where": text("kind = 'invoice'") for dialect in ("sqlite", "postgresql")
}

# Here already; named so that keys may refer to them.
instance = Table("instance", metadata, Column("id", Text, primary_key=True))
customer = Table("customer", metadata, Column("id", Text, primary_key=True))
line_item = Table("line_item", metadata, Column("id", Key, primary_key=True))

member = Table(
    "member",
    metadata,
    Column("customer", Text, ForeignKey("customer.id"), primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("from_us", BigInteger, primary_key=True),
    Column("project", Text, nullable=False, server_default=""),
    Column("role", Text, nullable=False),
    Column("until_us", BigInteger),
    CheckConstraint("role IN ('manager', 'member')", name="role"),
    CheckConstraint("until_us IS NULL OR until_us >= from_us", name="order"),
    Index(None, "owner"),
)
credit_grant = Table(
    "credit_grant",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("customer", Text, ForeignKey("customer.id")),
    Column("source", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_micro", BigInteger, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    CheckConstraint("kind IN ('allowance', 'provider')", name="kind"),
    CheckConstraint("(kind = 'allowance') = (customer IS NOT NULL)", name="whose"),
    CheckConstraint("amount_micro > 0", name="amount"),
    CheckConstraint("end_us > start_us", name="window"),
    Index(None, "customer"),
)
burned = Table(
    "burned",
    metadata,
    Column("line_id", BigInteger, ForeignKey("line_item.id"), primary_key=True),
    Column("grant_id", Text, ForeignKey("credit_grant.id"), primary_key=True),
    Column("amount_micro", BigInteger, nullable=False),
    CheckConstraint("amount_micro > 0", name="amount"),
    Index(None, "grant_id"),
)
funded = Table(
    "funded",
    metadata,
    Column("line_id", BigInteger, ForeignKey("line_item.id"), primary_key=True),
    Column("revision", BigInteger, nullable=False),
)
budget = Table(
    "budget",
    metadata,
    Column("id", Text, primary_key=True),
    Column("customer", Text, ForeignKey("customer.id"), nullable=False),
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("limit_micro", BigInteger, nullable=False),
    Column("from_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("on_end", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    CheckConstraint("scope IN ('customer', 'project', 'user')", name="scope"),
    CheckConstraint("period IN ('month', 'window')", name="period"),
    CheckConstraint("on_end IN ('stop', 'degrade')", name="on_end"),
    CheckConstraint("limit_micro >= 0", name="limit"),
    CheckConstraint("until_us > from_us", name="window"),
    Index(None, "customer"),
)
hold = Table(
    "hold",
    metadata,
    Column("instance_id", Text, ForeignKey("instance.id"), primary_key=True),
    Column("customer", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("nano_per_hour", BigInteger, nullable=False),
    Column("seconds", BigInteger, nullable=False),
    Column("disk_micro", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("stop_us", BigInteger),
    CheckConstraint("state IN ('held', 'warned', 'degraded', 'stopped', 'released')", name="state"),
    CheckConstraint("seconds >= 0 AND disk_micro >= 0", name="amounts"),
    Index(None, "customer", "state"),
)
budget_alert = Table(
    "budget_alert",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("budget_id", Text, ForeignKey("budget.id"), nullable=False),
    Column("period_us", BigInteger, nullable=False),
    Column("percent", Integer, nullable=False),
    Column("spent_micro", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    UniqueConstraint("budget_id", "period_us", "percent"),
)
document_series = Table(
    "document_series",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("last", BigInteger, nullable=False),
)
document = Table(
    "document",
    metadata,
    Column("number", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("customer", Text, ForeignKey("customer.id"), nullable=False),
    Column("month", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("content", Text, nullable=False),
    Column("pdf", LargeBinary, nullable=False),
    Column("pdf_sha256", Text, nullable=False),
    Column("corrects", Text, ForeignKey("document.number")),
    Column("issued_us", BigInteger, nullable=False),
    Column("issued_by", Text, nullable=False),
    Column("due_us", BigInteger),
    Column("state", Text, nullable=False),
    Column("paid_us", BigInteger),
    Column("reference", Text, nullable=False, server_default=""),
    CheckConstraint("kind IN ('invoice', 'credit_note')", name="kind"),
    CheckConstraint("(kind = 'credit_note') = (corrects IS NOT NULL)", name="corrects"),
    CheckConstraint("state IN ('final', 'overdue', 'paid', 'credited')", name="state"),
    Index("uq_document_month", "customer", "month", unique=True, **IS_INVOICE),
)
document_line = Table(
    "document_line",
    metadata,
    Column("line_id", BigInteger, ForeignKey("line_item.id"), primary_key=True),
    Column("number", Text, ForeignKey("document.number"), nullable=False),
    Column("amount_micro", BigInteger, nullable=False),
    Index(None, "number"),
)

NEW = (
    member,
    credit_grant,
    burned,
    funded,
    budget,
    hold,
    budget_alert,
    document_series,
    document,
    document_line,
)
FROZEN = (
    "number kind customer month currency total_minor content pdf pdf_sha256 corrects issued_us "
    "issued_by due_us"
).split()


def upgrade() -> None:
    """Create the tables, begin each series, and refuse edits of what is final."""
    connection = op.get_bind()
    metadata.create_all(connection, tables=NEW)
    for kind in ("invoice", "credit_note"):
        op.execute(f"INSERT INTO document_series (kind, last) VALUES ('{kind}', 0)")  # noqa: S608
    if connection.dialect.name == "sqlite":
        refuse = "BEGIN SELECT RAISE(ABORT, 'a final document is frozen: write a credit note'); END"
        op.execute(f"CREATE TRIGGER document_no_delete BEFORE DELETE ON document {refuse}")
        op.execute(
            f"CREATE TRIGGER document_no_update BEFORE UPDATE OF {', '.join(FROZEN)} ON document "
            f"{refuse}"
        )
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER document_line_no_{verb.lower()} BEFORE {verb} ON document_line "
                f"{refuse}"
            )
        return
    op.execute(
        "CREATE FUNCTION refuse_thaw() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'a final document is frozen: write a credit note'; END $$"
    )
    op.execute(
        "CREATE TRIGGER document_no_delete BEFORE DELETE OR TRUNCATE ON document "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_thaw()"
    )
    op.execute(
        f"CREATE TRIGGER document_no_update BEFORE UPDATE OF {', '.join(FROZEN)} ON document "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_thaw()"
    )
    op.execute(
        "CREATE TRIGGER document_line_frozen BEFORE UPDATE OR DELETE OR TRUNCATE ON document_line "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_thaw()"
    )
