"""Datasets, their terms, and who may mount what; the console alone writes here."""

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text
from sqlalchemy import text as sql_text

from nightingale_hub.tables.base import Key, metadata

# Console: datasets, and who was granted what ('*' is everyone who may log in).
dataset = Table(
    "dataset",
    metadata,
    Column("name", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("terms", Text, nullable=False),  # to be accepted, unless empty
    Column("path", Text, nullable=False),
    Column("policy", Text, nullable=False),  # strict | ranges | opens
    Column("fallback", Text),  # one of them, for an instance that cannot keep the policy
    Column("terms_version", Integer, nullable=False, server_default="1"),  # grows with each change
)
dataset_grant = Table(
    "dataset_grant",
    metadata,
    Column("dataset", Text, ForeignKey("dataset.name"), primary_key=True),
    Column("grantee", Text, primary_key=True),
    Column("granted_us", BigInteger, nullable=False),
    Column("until_us", BigInteger),  # NULL: until it is withdrawn
)

# Console: which terms a person accepted, word for word. Appended, never edited.
dataset_acceptance = Table(
    "dataset_acceptance",
    metadata,
    Column("dataset", Text, ForeignKey("dataset.name"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("terms", Text, nullable=False),
    Column("accepted_us", BigInteger, nullable=False),
)

# Console: who asked for what, why, and what its owner decided.
dataset_request = Table(
    "dataset_request",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("dataset", Text, ForeignKey("dataset.name"), nullable=False),
    Column("owner", Text, nullable=False),  # who asks
    Column("reason", Text, nullable=False),
    Column("asked_us", BigInteger, nullable=False),
    Column("verdict", Text, nullable=False, server_default=""),  # granted | refused
    Column("decided_by", Text, nullable=False, server_default=""),
    Column("decided_us", BigInteger),
    Column("note", Text, nullable=False, server_default=""),  # for who asked
    CheckConstraint("verdict IN ('', 'granted', 'refused')", name="verdict"),
    Index(
        "uq_dataset_request_open",
        "dataset",
        "owner",
        unique=True,
        sqlite_where=sql_text("decided_us IS NULL"),
        postgresql_where=sql_text("decided_us IS NULL"),
    ),
)
