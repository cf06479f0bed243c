"""Terraform's states, who may write them, and what instances stand on; times are µs in UTC."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text

from nightingale_hub.tables.base import metadata

# State backend: the last versions of each state, encrypted with the state directory's key.
terraform_state = Table(
    "terraform_state",
    metadata,
    Column("path", Text, primary_key=True),  # `instance/i-0123456789ab`
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

# State backend: who holds a state. A lock belongs to a ticket, so that its owner can be known dead.
terraform_lock = Table(
    "terraform_lock",
    metadata,
    Column("path", Text, primary_key=True),
    Column("lock_id", Text, nullable=False),
    Column("info", Text, nullable=False),  # Terraform's own JSON, answered to whoever comes second
    Column("ticket_sha256", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

# Supervisor: what one run may present to the state backend, for one path; gone with the run.
terraform_ticket = Table(
    "terraform_ticket",
    metadata,
    Column("ticket_sha256", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("machine", Text, nullable=False),  # where the run is
    Column("created_us", BigInteger, nullable=False),
)

# Supervisor: a network or a home as it was last applied. It outlives the instances on it.
terraform_ground = Table(
    "terraform_ground",
    metadata,
    Column("path", Text, primary_key=True),  # `network/us-east-1`, `home/…`: its state's path
    Column("fingerprint", Text, nullable=False),  # of the module and its values
    Column("outputs", Text, nullable=False),  # JSON
    Column("applied_us", BigInteger, nullable=False),
)
