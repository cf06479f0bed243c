"""Audit streams, their batches and the index; the audit service alone writes here."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    false,
    func,
)

from nightingale_hub.tables.base import metadata

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
audit_event = Table(
    "audit_event",
    metadata,
    Column("stream_id", Text, ForeignKey("audit_stream.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("action", Text, nullable=False),  # open | read | release | denied
    Column("dataset", Text, nullable=False),
    Column("path", Text, nullable=False),  # bytes that are not UTF-8 as \\xNN
    Column("offset", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),  # bytes served
    Column("duration_us", BigInteger, nullable=False),
    Column("file_id", BigInteger, nullable=False),  # joins open, reads and release
    Column("uid", BigInteger, nullable=False),
    Column("pid", BigInteger, nullable=False),  # the thread group
    Column("executable", Text, nullable=False),
    Column("errno", Integer, nullable=False),
    Index(None, "owner", "at_us"),
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
# A path may be longer than what PostgreSQL lets an index entry be.
Index(
    "ix_audit_event_dataset_path",
    audit_event.c.dataset,
    func.substr(audit_event.c.path, 1, 200),
)
