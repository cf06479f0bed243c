"""How long each instance was up, in µs since the epoch.

Metering alone writes segments and the clock; what the clouds and agents prove is written by who
learns it.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from nightingale_hub.tables.base import Key, metadata

# Metering. Half-open [start, end); `end_us` is NULL while it runs, `seen_us` is the checkpoint.
# A segment has one boot and one shape: a resize closes one part and opens the next.
segment = Table(
    "segment",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("meter", Text, nullable=False),  # allocated | ready | disk | address
    Column("boot_id", Text, nullable=False),  # of a disk or an address: the cloud's name for it
    Column("part", Integer, nullable=False, server_default="0"),
    Column("start_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("end_us", BigInteger),
    Column("cause", Text, nullable=False, server_default=""),  # why it ended
    Column("instance_type", Text, nullable=False, server_default=""),
    Column("cpu", Text, nullable=False, server_default=""),
    Column("gpu", Text, nullable=False, server_default=""),
    Column("disk", Text, nullable=False, server_default=""),
    Column("nano_usd_per_hour", BigInteger, nullable=False, server_default="0"),  # list, as shown
    UniqueConstraint("instance_id", "meter", "boot_id", "part"),
    CheckConstraint("meter IN ('allocated', 'ready', 'disk', 'address')", name="meter"),
    CheckConstraint("end_us IS NULL OR end_us >= start_us", name="order"),
    Index(None, "end_us"),
)

# Whoever learns it: a fault of the platform that the agent or the cloud proves; it is credited.
fault = Table(
    "fault",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("cause", Text, nullable=False),
    Column("proof", Text, nullable=False),  # agent | provider
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("told_as", Text),  # by whoever tells it again and again; NULL: told once
    Column("is_open", Boolean, nullable=False, server_default=false()),  # it goes on past the end
    Index("uq_fault_told_as", "told_as", unique=True),
    UniqueConstraint("instance_id", "cause", "start_us"),
    CheckConstraint("proof IN ('agent', 'provider')", name="proof"),
    CheckConstraint("end_us >= start_us", name="order"),
)

# Whoever learns it: when the cloud itself says that a boot ended.
provider_stop = Table(
    "provider_stop",
    metadata,
    Column("instance_id", Text, ForeignKey("instance.id"), primary_key=True),
    Column("boot_id", Text, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
)

# Supervisor: a disk or an address, which the cloud bills also when its instance is stopped. A home
# passes to the next instance that uses it: a row for each, and for each size.
holding = Table(
    "holding",
    metadata,
    Column("kind", Text, primary_key=True),  # disk | address
    Column("resource_id", Text, primary_key=True),  # the cloud's name for it
    Column("from_us", BigInteger, primary_key=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("sku", Text, nullable=False),  # disk.M, address: what the price book calls it
    Column("until_us", BigInteger),
    CheckConstraint("kind IN ('disk', 'address')", name="kind"),
    Index(None, "instance_id"),
)

# Metering: the clock of this machine was set. Instances that lived through it are measured in
# the clock that they began with: `clock_shift` says which times of theirs were written before.
clock_event = Table(
    "clock_event",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("at_us", BigInteger, nullable=False),  # by the clock as it was
    Column("step_us", BigInteger, nullable=False),
)
clock_shift = Table(
    "clock_shift",
    metadata,
    Column("clock_event_id", BigInteger, ForeignKey("clock_event.id"), primary_key=True),
    Column("instance_id", Text, ForeignKey("instance.id"), primary_key=True),
    Column("known", Text, nullable=False),  # the record's columns that were written before it
)

# Metering: how far the wall clock was from the time since boot; the step of one that was down.
clock_anchor = Table(
    "clock_anchor",
    metadata,
    Column("kernel_boot_id", Text, primary_key=True),
    Column("offset_us", BigInteger, nullable=False),
)
