"""What runs in a cloud and belongs to nobody; times are µs since the epoch in UTC."""

from sqlalchemy import BigInteger, Column, Table, Text

from nightingale_hub.tables.base import metadata

# Supervisor: instances with our tag that no record stands for. Seen, left alone for a while,
# then removed.
orphan = Table(
    "orphan",
    metadata,
    Column("cloud_id", Text, primary_key=True),
    Column("cloud", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("instance_id", Text, nullable=False),  # its tag
    Column("instance_type", Text, nullable=False),
    Column("why", Text, nullable=False),  # for admins
    Column("seen_us", BigInteger, nullable=False),  # in quarantine since
    Column("removed_us", BigInteger),
)
