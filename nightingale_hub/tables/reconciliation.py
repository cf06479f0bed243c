"""What the clouds say they bill us, held against what was metered; billing alone writes here."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text

from nightingale_hub.tables.base import Key, metadata

# Billing: each file that was taken in, once.
bill_import = Table(
    "bill_import",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("sha256", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("dialect", Text, nullable=False),  # focus | aws | azure | gcp
    Column("rows", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

# Billing: a cloud's charges, summed by resource, UTC day and kind of use; of the newest file that
# has that day of that cloud.
bill_charge = Table(
    "bill_charge",
    metadata,
    Column("cloud", Text, primary_key=True),
    Column("day_us", BigInteger, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # compute | disk | address
    Column("currency", Text, primary_key=True),
    Column("import_id", BigInteger, ForeignKey("bill_import.id"), nullable=False),
    Column("instance_id", Text, nullable=False),  # by its tag; empty: none
    Column("cost_micro", BigInteger, nullable=False),
    Column("seconds", BigInteger),  # where the file says how long; NULL: it does not
    Index(None, "import_id"),
)

# Billing: each day of a cloud, compared.
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
    Column("orphans", Integer, nullable=False),  # they bill it, we did not meter it
    Column("phantoms", Integer, nullable=False),  # we metered it, they do not bill it
    Column("drifts", Integer, nullable=False),  # both, but not the same
    Column("at_us", BigInteger, nullable=False),
)
