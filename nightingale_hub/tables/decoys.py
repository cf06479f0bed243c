"""What a dataset holds by its manifest, the honeyfiles among it, and what left for a browser."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from nightingale_hub.tables.base import Key, metadata

# Audit: what each dataset holds, measured anew each day. Honeyfiles are not in it.
manifest = Table(
    "manifest",
    metadata,
    Column("dataset", Text, ForeignKey("dataset.name"), primary_key=True),
    Column("files", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("content", LargeBinary, nullable=False),  # zstd of `size<TAB>path` lines, by path
    Column("sha256", Text, nullable=False),  # of those lines
    Column("siblings", Text, nullable=False),  # JSON: folders beside whose files one more fits
    Column("measured_us", BigInteger, nullable=False),
)
# Supervisor, before an instance is told of it: the honeyfiles that an owner sees. Secret.
decoy = Table(
    "decoy",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("dataset", Text, ForeignKey("dataset.name"), nullable=False),
    Column("owner", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("sibling", Text, nullable=False),  # the file that it is like
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("seed", Text, nullable=False),  # of its content
    Column("is_probe", Boolean, nullable=False),  # the agent reads it each day
    Column("planted_us", BigInteger, nullable=False),
    UniqueConstraint("owner", "dataset", "path"),
)
# Audit: what left for somebody's browser, as their own Jupyter tells it.
download = Table(
    "download",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("owner", Text, nullable=False),
    Column("run", Text, nullable=False),  # of the server; told twice, counted once
    Column("number", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),  # a path, a kernel, a port; empty when there were many
    Column("requests", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("at_us", BigInteger, nullable=False),
    UniqueConstraint("instance_id", "run", "number"),
    CheckConstraint("kind IN ('file', 'output', 'proxied', 'page')", name="kind"),
    Index(None, "owner", "at_us"),
)
