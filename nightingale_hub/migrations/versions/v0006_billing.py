"""Plans and customers, prices and lines in any currency, segments of one shape, proven facts."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    insert,
)

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Key = BigInteger().with_variant(Integer, "sqlite")

# Here already; named so that keys may refer to it.
instance = Table("instance", metadata, Column("id", Text, primary_key=True))

plan = Table(
    "plan",
    metadata,
    Column("name", Text, primary_key=True),
    Column("effective_us", BigInteger, primary_key=True),
    Column("basis", Text, nullable=False),
    Column("price", Text, nullable=False),
    Column("minimum_s", BigInteger, nullable=False),
    Column("markup_ppm", BigInteger, nullable=False),
    Column("free_micro_per_month", BigInteger, nullable=False),
    Column("bills_storage", Boolean, nullable=False),
    CheckConstraint("basis IN ('ready', 'allocated')", name="basis"),
    CheckConstraint("price IN ('shown', 'book')", name="price"),
    CheckConstraint("minimum_s >= 0 AND free_micro_per_month >= 0", name="amounts"),
    CheckConstraint("markup_ppm >= -1000000", name="markup"),
)
customer = Table(
    "customer",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    CheckConstraint("kind IN ('private', 'non_profit')", name="kind"),
)
customer_plan = Table(
    "customer_plan",
    metadata,
    Column("customer", Text, ForeignKey("customer.id"), primary_key=True),
    Column("from_us", BigInteger, primary_key=True),
    Column("plan", Text, nullable=False),
)
payer = Table(
    "payer",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("from_us", BigInteger, primary_key=True),
    Column("customer", Text, ForeignKey("customer.id"), nullable=False),
)
price = Table(
    "price",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("cloud", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("currency", Text, nullable=False, server_default="USD"),
    Column("nano_per_hour", BigInteger, nullable=False),
    Column("effective_us", BigInteger, nullable=False),
    Column("published_us", BigInteger, nullable=False, server_default="0"),
    Column("source", Text, nullable=False),
    UniqueConstraint("cloud", "region", "sku", "currency", "effective_us"),
    CheckConstraint("nano_per_hour >= 0", name="price"),
)
segment = Table(
    "segment",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("meter", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("part", Integer, nullable=False, server_default="0"),
    Column("start_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("end_us", BigInteger),
    Column("cause", Text, nullable=False, server_default=""),
    Column("instance_type", Text, nullable=False, server_default=""),
    Column("cpu", Text, nullable=False, server_default=""),
    Column("gpu", Text, nullable=False, server_default=""),
    Column("disk", Text, nullable=False, server_default=""),
    Column("nano_usd_per_hour", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("instance_id", "meter", "boot_id", "part"),
    CheckConstraint("meter IN ('allocated', 'ready', 'disk', 'address')", name="meter"),
    CheckConstraint("end_us IS NULL OR end_us >= start_us", name="order"),
    Index(None, "end_us"),
)
line_item = Table(
    "line_item",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("idem_key", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("segment_id", BigInteger, ForeignKey("segment.id"), nullable=False),
    Column("instance_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("seconds", BigInteger, nullable=False),
    Column("pieces", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("plan_us", BigInteger, nullable=False),
    Column("cause", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_micro", BigInteger, nullable=False),
    Index(None, "owner", "start_us"),
    Index(None, "customer", "start_us"),
    Index(None, "segment_id"),
)
balance = Table(
    "balance",
    metadata,
    Column("account", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("amount_micro", BigInteger, nullable=False),
)
fault = Table(
    "fault",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("cause", Text, nullable=False),
    Column("proof", Text, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    UniqueConstraint("instance_id", "cause", "start_us"),
    CheckConstraint("proof IN ('agent', 'provider')", name="proof"),
    CheckConstraint("end_us >= start_us", name="order"),
)
provider_stop = Table(
    "provider_stop",
    metadata,
    Column("instance_id", Text, ForeignKey("instance.id"), primary_key=True),
    Column("boot_id", Text, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
)
holding = Table(
    "holding",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("sku", Text, nullable=False),
    Column("from_us", BigInteger, nullable=False),
    Column("until_us", BigInteger),
    CheckConstraint("kind IN ('disk', 'address')", name="kind"),
    Index(None, "instance_id"),
)
clock_event = Table(
    "clock_event",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("at_us", BigInteger, nullable=False),
    Column("step_us", BigInteger, nullable=False),
)
clock_shift = Table(
    "clock_shift",
    metadata,
    Column("clock_event_id", BigInteger, ForeignKey("clock_event.id"), primary_key=True),
    Column("instance_id", Text, ForeignKey("instance.id"), primary_key=True),
    Column("known", Text, nullable=False),
)
clock_anchor = Table(
    "clock_anchor",
    metadata,
    Column("kernel_boot_id", Text, primary_key=True),
    Column("offset_us", BigInteger, nullable=False),
)

# Each was posted under the terms that there were: the shown price, from ready to the stop.
COPY = {
    "price": "INSERT INTO price (id, cloud, region, sku, nano_per_hour, effective_us, source) "
    "SELECT id, cloud, region, sku, nano_usd_per_hour, effective_us, source FROM old_price",
    "segment": "INSERT INTO segment (id, instance_id, meter, boot_id, start_us, seen_us, end_us, "
    "cause, instance_type, cpu, gpu, disk, nano_usd_per_hour) SELECT old_segment.id, instance_id, "
    "meter, old_segment.boot_id, start_us, seen_us, end_us, old_segment.cause, instance_type, cpu, "
    "gpu, disk, nano_usd_per_hour FROM old_segment JOIN instance ON instance.id = instance_id",
    "line_item": "INSERT INTO line_item (id, idem_key, kind, segment_id, instance_id, owner, "
    "customer, start_us, end_us, seconds, pieces, plan, plan_us, cause, currency, amount_micro) "
    "SELECT old_line_item.id, 'segment:' || segment_id, 'usage', segment_id, instance_id, owner, "
    "'user/' || owner, old_line_item.start_us, old_line_item.end_us, seconds, '[[' || seconds || "
    "',' || old_line_item.nano_usd_per_hour || ']]', 'standard', 0, '', 'USD', amount_micro_usd "
    "FROM old_line_item JOIN old_segment ON old_segment.id = segment_id",
}
STANDARD = {
    "name": "standard",
    "effective_us": 0,
    "basis": "ready",
    "price": "shown",
    "minimum_s": 0,
    "markup_ppm": 0,
    "free_micro_per_month": 0,
    "bills_storage": False,
}


def upgrade() -> None:
    """Make the tables anew that change their keys, with what is in them; create the others."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for name in COPY:
        op.execute(f"CREATE TABLE old_{name} AS SELECT * FROM {name}")  # noqa: S608 - our names
    for name in reversed(COPY):  # a line refers to its segment
        op.drop_table(name)
    metadata.create_all(
        op.get_bind(), [each for each in metadata.sorted_tables if each.name != "instance"]
    )
    for name, copy in COPY.items():
        op.execute(copy)
        if not is_sqlite:
            op.execute(
                f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), "  # noqa: S608 - our names
                f"coalesce(max(id), 0) + 1, false) FROM {name}"
            )
    op.drop_table("old_price")
    op.drop_table("old_line_item")
    op.drop_table("old_segment")
    op.execute(
        "INSERT INTO balance SELECT account, currency, sum(amount_micro) FROM entry "
        "GROUP BY account, currency"
    )
    op.execute(insert(plan).values(STANDARD))
    for name in ("line_item", "plan", "customer_plan", "payer", "fault", "provider_stop"):
        _ensure_append_only(name, is_sqlite)


def _ensure_append_only(name: str, is_sqlite: bool) -> None:
    if not is_sqlite:
        op.execute(
            f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_edit()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {name}_no_{verb.lower()} BEFORE {verb} ON {name} "
            f"BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END"
        )
