"""The instance record and what the supervisor did for it; times are µs since the epoch in UTC."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from nightingale_hub.tables.base import Key, metadata

# Two hub processes that ask at once for one server make one instance.
IS_LIVE: dict[str, Any] = {
    f"{dialect}_where": text("actual NOT IN ('stopped', 'gone')")
    for dialect in ("sqlite", "postgresql")
}

# The only truth about an instance. The spawner inserts a row and sets `wanted`;
# all else is the supervisor's.
instance = Table(
    "instance",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("server_name", Text, nullable=False),
    Column("cloud", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("instance_type", Text, nullable=False),
    # What it has now: size letters per resource, and the rate that was shown. `shape` has the past.
    Column("cpu", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("disk", Text, nullable=False),
    Column("nano_usd_per_hour", BigInteger, nullable=False),
    Column("wanted", Text, nullable=False),  # running | stopped | gone: its home too
    Column("actual", Text, nullable=False),  # nightingale_hub.instances.State
    Column("reason", Text, nullable=False, server_default=""),  # why it stops, for its owner
    Column("cause", Text, nullable=False, server_default=""),  # instances.Cause, once it stops
    Column("nonce_sha256", Text),  # burned (set to NULL) by the one bootstrap
    Column("launch_secret", LargeBinary),  # the server's environment, encrypted; then NULL
    Column("credential_sha256", Text),  # of the agent's credential, for beats and batches
    Column("api_nonce", Text),  # what the instance's own /api must answer with
    Column("boot_id", Text),
    Column("host", Text),
    Column("port", Integer),
    Column("base_url", Text),  # the server's path, as the hub escapes it; NULL: unknown
    Column("created_us", BigInteger, nullable=False),
    Column("allocated_us", BigInteger),  # the cloud began to bill us
    Column("ready_us", BigInteger),  # first seen ready: billing starts
    Column("stop_accepted_us", BigInteger),  # stop accepted: billing ends
    Column("gone_us", BigInteger),  # the cloud agrees that it is gone
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_try_us", BigInteger, nullable=False, server_default="0"),
    Column("owner_groups", Text, nullable=False, server_default="[]"),  # JSON, at the launch
    # The one machine whose supervisors can work on it; NULL: any.
    Column("machine", Text),
    # Which supervisor works on it, until when, and how often that changed: the fencing token.
    Column("lease_holder", Text),
    Column("lease_token", BigInteger, nullable=False, server_default="0"),
    Column("lease_until_us", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("wanted IN ('running', 'stopped', 'gone')", name="wanted"),
    Index(None, "owner", "created_us"),
    Index(None, "actual"),
    Index("uq_instance_live", "owner", "server_name", unique=True, **IS_LIVE),
)

# Supervisor and spawner: what a person may read about an instance, in order.
progress = Table(
    "progress",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("edge", Text, nullable=False, server_default=""),  # `launching_to_booting`, or empty
    Column("message", Text, nullable=False),
    Index(None, "instance_id", "id"),
)

# Supervisor: each Terraform run, written before it starts.
terraform_run = Table(
    "terraform_run",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("action", Text, nullable=False),  # apply | destroy
    Column("directory", Text, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("exit_status", Integer),
    Index(None, "instance_id", "id"),
)
