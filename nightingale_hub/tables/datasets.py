"""Datasets and who was granted what; the console alone writes here."""

from sqlalchemy import BigInteger, Column, ForeignKey, Table, Text

from nightingale_hub.tables.base import metadata

# Console: datasets, and who was granted what ('*' is everyone who may log in).
dataset = Table(
    "dataset",
    metadata,
    Column("name", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("policy", Text, nullable=False),  # strict | ranges | opens
    Column("fallback", Text),  # one of them, for an instance that cannot keep the policy
)
dataset_grant = Table(
    "dataset_grant",
    metadata,
    Column("dataset", Text, ForeignKey("dataset.name"), primary_key=True),
    Column("grantee", Text, primary_key=True),
    Column("granted_us", BigInteger, nullable=False),
)
