"""Terms that are accepted by version, grants that end, and requests for access."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

IS_OPEN = sa.text("decided_us IS NULL")


def upgrade() -> None:
    """Add the columns and the tables."""
    op.add_column(
        "dataset", sa.Column("terms_version", sa.Integer(), server_default="1", nullable=False)
    )
    op.add_column("dataset_grant", sa.Column("until_us", sa.BigInteger(), nullable=True))
    op.create_table(
        "dataset_acceptance",
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("accepted_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"], ["dataset.name"], name=op.f("fk_dataset_acceptance_dataset_dataset")
        ),
        sa.PrimaryKeyConstraint("dataset", "version", "owner", name=op.f("pk_dataset_acceptance")),
    )
    op.create_table(
        "dataset_request",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_us", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.Text(), server_default="", nullable=False),
        sa.Column("decided_by", sa.Text(), server_default="", nullable=False),
        sa.Column("decided_us", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "verdict IN ('', 'granted', 'refused')", name=op.f("ck_dataset_request_verdict")
        ),
        sa.ForeignKeyConstraint(
            ["dataset"], ["dataset.name"], name=op.f("fk_dataset_request_dataset_dataset")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_request")),
    )
    op.create_index(
        "uq_dataset_request_open",
        "dataset_request",
        ["dataset", "owner"],
        unique=True,
        sqlite_where=IS_OPEN,
        postgresql_where=IS_OPEN,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("dataset_request")
    op.drop_table("dataset_acceptance")
    op.drop_column("dataset_grant", "until_us")
    op.drop_column("dataset", "terms_version")
