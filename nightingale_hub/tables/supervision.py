"""What is asked of an instance, and what became of it; times are µs since the epoch in UTC."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from nightingale_hub.tables.base import Key, metadata

IS_OPEN: dict[str, Any] = {
    f"{dialect}_where": text("ended_us IS NULL") for dialect in ("sqlite", "postgresql")
}

# Supervisor: each size that an instance had, from when. Appended in the transaction that changes
# the instance's own columns, so metering can cut its segments there, however late it looks.
shape = Table(
    "shape",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("effective_us", BigInteger, nullable=False),  # until the next one's
    Column("instance_type", Text, nullable=False),
    Column("cpu", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("disk", Text, nullable=False),
    Column("nano_usd_per_hour", BigInteger, nullable=False),
    Column("cause", Text, nullable=False),  # launch | resize | drift
    UniqueConstraint("instance_id", "effective_us"),
)

# Supervisor: each resize, written before anything is changed; at most one is open.
resize = Table(
    "resize",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("instance_type", Text, nullable=False),  # what is wanted
    Column("cpu", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("disk", Text, nullable=False),
    Column("nano_usd_per_hour", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("phase", Text, nullable=False),  # resizing.Phase
    Column("asked_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("outcome", Text, nullable=False, server_default=""),  # for its owner
    Index(None, "instance_id"),
    Index("uq_resize_open", "instance_id", unique=True, **IS_OPEN),
)

# Supervisor: what was tried in vain for a launch, so that its successor tries something else.
attempt = Table(
    "attempt",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("cloud", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("zone", Text, nullable=False),  # empty where the home stays and chooses it
    Column("instance_type", Text, nullable=False),
    Column("lack", Text, nullable=False),  # the cloud's own word
    Column("at_us", BigInteger, nullable=False),
    Index(None, "instance_id"),
)

# Anyone but the supervisor, who takes it up: what is to happen to an instance, by whom and why.
request = Table(
    "request",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("kind", Text, nullable=False),  # requests.Kind
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),  # for the instance's owner
    Column("detail", Text, nullable=False, server_default="{}"),  # JSON
    Column("idem_key", Text, unique=True),  # asked twice, it happens once
    Column("asked_us", BigInteger, nullable=False),
    Column("done_us", BigInteger),
    Column("outcome", Text, nullable=False, server_default=""),
    Index(None, "done_us"),
    CheckConstraint("kind IN ('stop', 'resize', 'quarantine', 'release', 'remove')", name="kind"),
)

# Supervisor: who may start nothing until it is released, and why.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("owner", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("ended_by", Text),
    Index("uq_quarantine_open", "owner", unique=True, **IS_OPEN),
)

# Supervisor: what the agent says of an instance's use, and what that led to.
activity = Table(
    "activity",
    metadata,
    Column("instance_id", Text, ForeignKey("instance.id"), primary_key=True),
    Column("told_us", BigInteger),  # the last report; NULL: none came yet
    Column("report", Text, nullable=False, server_default="{}"),  # JSON, as it came
    Column("active_us", BigInteger),  # last seen in use
    Column("why", Text, nullable=False, server_default=""),  # what it was in use for
    Column("keep_until_us", BigInteger),  # its owner asked to keep it so long
    Column("warned", Integer, nullable=False, server_default="0"),  # since it was last in use
    Column("warned_us", BigInteger),
)
