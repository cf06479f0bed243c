"""A server has one instance at most that is not gone, whoever asks at once."""

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Refuse a second live instance of one server."""
    is_live = text("actual <> 'stopped'")
    op.create_index(
        "uq_instance_live",
        "instance",
        ["owner", "server_name"],
        unique=True,
        sqlite_where=is_live,
        postgresql_where=is_live,
    )
