"""Who pays, and on which terms; billing alone writes here. Terms are appended, never changed."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Table,
    Text,
)

from nightingale_hub.tables.base import metadata

# Billing: a plan as data. The newest version not after a launch is the one it is billed by.
plan = Table(
    "plan",
    metadata,
    Column("name", Text, primary_key=True),
    Column("effective_us", BigInteger, primary_key=True),
    Column("basis", Text, nullable=False),  # ready | allocated: the meter that is paid by
    Column("price", Text, nullable=False),  # shown: as at the launch; book: as the book goes
    Column("minimum_s", BigInteger, nullable=False),  # once per launch
    Column("markup_ppm", BigInteger, nullable=False),  # over list, in millionths
    Column("free_micro_per_month", BigInteger, nullable=False),  # of the customer's currency
    Column("bills_storage", Boolean, nullable=False),  # disks and addresses, after the stop
    CheckConstraint("basis IN ('ready', 'allocated')", name="basis"),
    CheckConstraint("price IN ('shown', 'book')", name="price"),
    CheckConstraint("minimum_s >= 0 AND free_micro_per_month >= 0", name="amounts"),
    CheckConstraint("markup_ppm >= -1000000", name="markup"),
)

# Billing: who pays. Amounts of one customer are in one currency; nothing is ever exchanged.
customer = Table(
    "customer",
    metadata,
    Column("id", Text, primary_key=True),  # user/alice for whoever is in no organisation
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),  # private | non_profit
    Column("currency", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    CheckConstraint("kind IN ('private', 'non_profit')", name="kind"),
)

# Billing: the plan of a customer, from an instant on.
customer_plan = Table(
    "customer_plan",
    metadata,
    Column("customer", Text, ForeignKey("customer.id"), primary_key=True),
    Column("from_us", BigInteger, primary_key=True),
    Column("plan", Text, nullable=False),
)

# Billing: which customer pays for the launches of a hub user, from an instant on.
payer = Table(
    "payer",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("from_us", BigInteger, primary_key=True),
    Column("customer", Text, ForeignKey("customer.id"), nullable=False),
)
