"""The audit policy that a dataset is served by where its own cannot be kept."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; no dataset falls back until its owner says so."""
    op.add_column("dataset", Column("fallback", Text))
