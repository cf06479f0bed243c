"""What every table stands on: names of constraints, keys, and the lease of each service."""

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows itself only where the key is exactly INTEGER.
Key = BigInteger().with_variant(Integer, "sqlite")

# Each service, at its start: the newest epoch is the one that may write.
service_lease = Table(
    "service_lease",
    metadata,
    Column("service", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
    Column("taken_us", BigInteger, nullable=False),
)
