"""Incidents, and what follows from them; the audit service alone writes here."""

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Table, Text

from nightingale_hub.tables.base import Key, metadata

# Findings about one person that come close together, and the rung that they led to.
incident = Table(
    "incident",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("owner", Text, nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False),  # of its latest finding
    Column("severity", Text, nullable=False),  # the highest of its findings
    Column("rung", Text, nullable=False),  # note | notify | suspend | stop | disable
    Column("reason", Text, nullable=False),  # for its owner
    CheckConstraint("rung IN ('note', 'notify', 'suspend', 'stop', 'disable')", name="rung"),
    Index(None, "owner", "last_us"),
)
incident_finding = Table(
    "incident_finding",
    metadata,
    Column("finding_id", BigInteger, ForeignKey("finding.id"), primary_key=True),
    Column("incident_id", BigInteger, ForeignKey("incident.id"), nullable=False),
    Index(None, "incident_id"),
)
# Whose datasets are closed, and until when.
suspension = Table(
    "suspension",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("incident_id", BigInteger, ForeignKey("incident.id"), nullable=False),
    Column("owner", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),  # for its owner
    Index(None, "owner", "until_us"),
)
# What a person said that they would do, and an admin allowed for a time.
bypass = Table(
    "bypass",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("owner", Text, nullable=False),
    Column("rules", Text, nullable=False),  # `R1 R3`
    Column("since_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("granted_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "owner", "until_us"),
)
# Each sign-off of a finding; the last one holds.
review = Table(
    "review",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("finding_id", BigInteger, ForeignKey("finding.id"), nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("verdict", Text, nullable=False),  # justified | false alert | breach
    Column("note", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Index(None, "finding_id"),
)
