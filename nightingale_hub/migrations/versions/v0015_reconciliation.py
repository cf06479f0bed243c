"""The clouds' bills, and each day of theirs held against what was metered."""

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, Table, Text

revision = "0015"
down_revision = "0014"
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

bill_import = Table(
    "bill_import",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("sha256", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

bill_charge = Table(
    "bill_charge",
    metadata,
    Column("cloud", Text, primary_key=True),
    Column("day_us", BigInteger, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("import_id", BigInteger, ForeignKey("bill_import.id"), nullable=False),
    Column("instance_id", Text, nullable=False),
    Column("cost_micro", BigInteger, nullable=False),
    Column("seconds", BigInteger),
    Index(None, "import_id"),
)

bill_day = Table(
    "bill_day",
    metadata,
    Column("cloud", Text, primary_key=True),
    Column("day_us", BigInteger, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("theirs_micro", BigInteger, nullable=False),
    Column("ours_micro", BigInteger, nullable=False),
    Column("theirs_s", BigInteger, nullable=False),
    Column("ours_s", BigInteger, nullable=False),
    Column("orphans", Integer, nullable=False),
    Column("phantoms", Integer, nullable=False),
    Column("drifts", Integer, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)


def upgrade() -> None:
    """Create the three tables."""
    metadata.create_all(op.get_bind())
