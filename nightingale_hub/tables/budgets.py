"""Limits of spend, what is held under them, and who was warned; billing alone writes here."""

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
)

from nightingale_hub.tables.base import Key, metadata

# Billing: what may be spent at most: by a customer, one of its projects or one of its members,
# in each month or in the whole window.
budget = Table(
    "budget",
    metadata,
    Column("id", Text, primary_key=True),
    Column("customer", Text, ForeignKey("customer.id"), nullable=False),
    Column("scope", Text, nullable=False),  # customer | project | user
    Column("name", Text, nullable=False),  # of the project or the user; else empty
    Column("period", Text, nullable=False),  # month | window
    Column("limit_micro", BigInteger, nullable=False),
    Column("from_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("on_end", Text, nullable=False),  # stop | degrade (to a small CPU size)
    Column("created_us", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    CheckConstraint("scope IN ('customer', 'project', 'user')", name="scope"),
    CheckConstraint("period IN ('month', 'window')", name="period"),
    CheckConstraint("on_end IN ('stop', 'degrade')", name="on_end"),
    CheckConstraint("limit_micro >= 0", name="limit"),
    CheckConstraint("until_us > from_us", name="window"),
    Index(None, "customer"),
)

# Billing: the money that is kept for an instance: its cost for *seconds* from ready on, and for
# its disk after a stop. It is released when the instance has ended and all of it is posted.
hold = Table(
    "hold",
    metadata,
    Column("instance_id", Text, ForeignKey("instance.id"), primary_key=True),
    Column("customer", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("nano_per_hour", BigInteger, nullable=False),  # with the plan's markup
    Column("seconds", BigInteger, nullable=False),
    Column("disk_micro", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # held | warned | degraded | stopped | released
    Column("created_us", BigInteger, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("stop_us", BigInteger),  # when it will be stopped, once that is known
    CheckConstraint("state IN ('held', 'warned', 'degraded', 'stopped', 'released')", name="state"),
    CheckConstraint("seconds >= 0 AND disk_micro >= 0", name="amounts"),
    Index(None, "customer", "state"),
)

# Billing: each alert once per budget, period and mark; whoever delivers them reads here.
budget_alert = Table(
    "budget_alert",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("budget_id", Text, ForeignKey("budget.id"), nullable=False),
    Column("period_us", BigInteger, nullable=False),  # when the period began
    Column("percent", Integer, nullable=False),
    Column("spent_micro", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    UniqueConstraint("budget_id", "period_us", "percent"),
)
