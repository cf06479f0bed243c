"""Audit streams, their batches and the index; the audit service alone writes here."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    false,
    func,
)

from nightingale_hub.tables.base import Key, metadata

# Audit: one stream per instance boot; batches are contiguous in it; the segment files are
# the truth and `audit_event` an index that can be rebuilt from them.
audit_stream = Table(
    "audit_stream",
    metadata,
    Column("id", Text, primary_key=True),  # <instance id>:<boot id>
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("owner", Text, nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),  # highest contiguous, durable
    Column("public_key", Text),  # Ed25519, hex; with the chain behind `last_seq`
    Column("chain", Text),
    Column("seen_us", BigInteger),  # the last batch came
    Column("ended_us", BigInteger),  # its end has a leaf; NULL while more may come
)
audit_batch = Table(
    "audit_batch",
    metadata,
    Column("stream_id", Text, ForeignKey("audit_stream.id"), primary_key=True),
    Column("first_seq", BigInteger, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),  # of the decompressed lines
    Column("file", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("is_indexed", Boolean, nullable=False, server_default=false()),
    Column("number", BigInteger, nullable=False, unique=True),  # in which they became durable
    Column("prev_chain", Text),
    Column("chain", Text),
    Column("root", Text),
    Column("signature", Text),
    Index(None, "is_indexed"),
)

# Whose batches are refused from now on, whatever credential they have.
audit_revocation = Table(
    "audit_revocation",
    metadata,
    Column("instance_id", Text, ForeignKey("instance.id"), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

# The index: names once, and a row of numbers per line. All of it can be made anew from the
# segment files; only the indexer writes here.
audit_reader = Table(
    "audit_reader",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("owner", Text, nullable=False, unique=True),
)
audit_source = Table(
    "audit_source",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("stream_id", Text, ForeignKey("audit_stream.id"), nullable=False, unique=True),
)
audit_file = Table(
    "audit_file",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("key", LargeBinary, nullable=False, unique=True),  # SHA-256 of dataset, NUL, path
    Column("dataset", Text, nullable=False),
    Column("path", Text, nullable=False),  # bytes that are not UTF-8 as \\xNN
)
# A path may be longer than what PostgreSQL lets an index entry be.
Index("ix_audit_file_path", func.substr(audit_file.c.path, 1, 200))
audit_process = Table(
    "audit_process",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("key", LargeBinary, nullable=False, unique=True),  # SHA-256 of what follows
    Column("source", Integer, ForeignKey("audit_source.id"), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("pid", BigInteger, nullable=False),  # the thread group
    Column("executable", Text, nullable=False),
    Index(None, "source", "pid"),
)
# What left the hot index: a Parquet file each, which counts only once its state is `cold`.
audit_part = Table(
    "audit_part",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),
    Column("since_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),  # exclusive
    Column("rows", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("sha256", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),  # of the move
    CheckConstraint("state IN ('writing', 'cold', 'dropping')", name="state"),
    Index(None, "since_us"),
)
# On PostgreSQL a month is a partition. References stand unchecked: the indexer made them first.
audit_event = Table(
    "audit_event",
    metadata,
    Column("source", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("reader", Integer, nullable=False),
    Column("file", Integer, nullable=False),
    Column("process", Integer, nullable=False),
    Column("action", SmallInteger, nullable=False),  # open | read | release | denied, from 0
    Column("errno", SmallInteger, nullable=False),
    Column("start", BigInteger, nullable=False),  # first byte served
    Column("length", BigInteger, nullable=False),  # bytes served
    Column("duration_us", BigInteger, nullable=False),
    Column("handle", BigInteger, nullable=False),  # joins open, reads and release
    Index(None, "reader", "at_us"),
    Index(None, "file", "at_us"),
    Index(None, "at_us"),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (at_us)",
)
