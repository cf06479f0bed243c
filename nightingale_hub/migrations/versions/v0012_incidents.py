"""Findings become incidents, with what follows from them; manifests, honeyfiles and downloads."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
)

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _make_incidents()
    _make_reviews()
    _make_decoys()


def _make_incidents() -> None:
    op.create_table(
        "incident",
        Column("id", KEY, primary_key=True, autoincrement=True),
        Column("owner", Text, nullable=False),
        Column("opened_us", BigInteger, nullable=False),
        Column("last_us", BigInteger, nullable=False),
        Column("severity", Text, nullable=False),
        Column("rung", Text, nullable=False),
        Column("reason", Text, nullable=False),
        CheckConstraint(
            "rung IN ('note', 'notify', 'suspend', 'stop', 'disable')", name="ck_incident_rung"
        ),
    )
    op.create_index("ix_incident_owner", "incident", ["owner", "last_us"])
    op.create_table(
        "incident_finding",
        Column("finding_id", BigInteger, ForeignKey("finding.id"), primary_key=True),
        Column("incident_id", BigInteger, ForeignKey("incident.id"), nullable=False),
    )
    op.create_index("ix_incident_finding_incident_id", "incident_finding", ["incident_id"])
    op.create_table(
        "suspension",
        Column("id", KEY, primary_key=True, autoincrement=True),
        Column("incident_id", BigInteger, ForeignKey("incident.id"), nullable=False),
        Column("owner", Text, nullable=False),
        Column("since_us", BigInteger, nullable=False),
        Column("until_us", BigInteger, nullable=False),
        Column("reason", Text, nullable=False),
    )
    op.create_index("ix_suspension_owner", "suspension", ["owner", "until_us"])


def _make_reviews() -> None:
    op.create_table(
        "bypass",
        Column("id", KEY, primary_key=True, autoincrement=True),
        Column("owner", Text, nullable=False),
        Column("rules", Text, nullable=False),
        Column("since_us", BigInteger, nullable=False),
        Column("until_us", BigInteger, nullable=False),
        Column("granted_by", Text, nullable=False),
        Column("reason", Text, nullable=False),
    )
    op.create_index("ix_bypass_owner", "bypass", ["owner", "until_us"])
    op.create_table(
        "review",
        Column("id", KEY, primary_key=True, autoincrement=True),
        Column("finding_id", BigInteger, ForeignKey("finding.id"), nullable=False),
        Column("reviewer", Text, nullable=False),
        Column("verdict", Text, nullable=False),
        Column("note", Text, nullable=False),
        Column("at_us", BigInteger, nullable=False),
    )
    op.create_index("ix_review_finding_id", "review", ["finding_id"])


def _make_decoys() -> None:
    op.create_table(
        "manifest",
        Column("dataset", Text, ForeignKey("dataset.name"), nullable=False),
        Column("files", BigInteger, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("content", LargeBinary, nullable=False),
        Column("sha256", Text, nullable=False),
        Column("siblings", Text, nullable=False),
        Column("measured_us", BigInteger, nullable=False),
        PrimaryKeyConstraint("dataset"),
    )
    op.create_table(
        "decoy",
        Column("id", KEY, primary_key=True, autoincrement=True),
        Column("dataset", Text, ForeignKey("dataset.name"), nullable=False),
        Column("owner", Text, nullable=False),
        Column("path", Text, nullable=False),
        Column("sibling", Text, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("mtime_ns", BigInteger, nullable=False),
        Column("seed", Text, nullable=False),
        Column("is_probe", Boolean, nullable=False),
        Column("planted_us", BigInteger, nullable=False),
        UniqueConstraint("owner", "dataset", "path", name="uq_decoy_owner"),
    )
    op.create_table(
        "download",
        Column("id", KEY, primary_key=True, autoincrement=True),
        Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
        Column("owner", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("at_us", BigInteger, nullable=False),
        Column("boot_seq", Text, nullable=False),
        UniqueConstraint("instance_id", "boot_seq", name="uq_download_instance_id"),
    )
    op.create_index("ix_download_owner", "download", ["owner", "at_us"])
