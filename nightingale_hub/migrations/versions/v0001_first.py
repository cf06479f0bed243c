"""The first schema, as it was, and the triggers that make the ledger append-only."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    func,
)

revision = "0001"
down_revision = None
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

# SQLite numbers rows itself only where the key is exactly INTEGER.
Key = BigInteger().with_variant(Integer, "sqlite")

# Each service, at its start: the newest epoch is the one that may write.
service_lease = Table(
    "service_lease",
    metadata,
    Column("service", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
    Column("taken_us", BigInteger, nullable=False),
)

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
    Column("cpu", Text, nullable=False),  # size letters, per resource
    Column("gpu", Text, nullable=False),
    Column("disk", Text, nullable=False),
    Column("nano_usd_per_hour", BigInteger, nullable=False),  # as shown before the start
    Column("wanted", Text, nullable=False),  # running | stopped
    Column("actual", Text, nullable=False),  # nightingale_hub.instances.State
    Column("reason", Text, nullable=False, server_default=""),  # why it stops, for its owner
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
    CheckConstraint("wanted IN ('running', 'stopped')", name="wanted"),
    Index(None, "owner", "created_us"),
    Index(None, "actual"),
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

# Metering. Half-open [start, end); `end_us` is NULL while it runs, `seen_us` is the checkpoint.
segment = Table(
    "segment",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("instance_id", Text, ForeignKey("instance.id"), nullable=False),
    Column("meter", Text, nullable=False),  # allocated | ready
    Column("boot_id", Text, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("end_us", BigInteger),
    Column("cause", Text, nullable=False, server_default=""),  # why it ended
    UniqueConstraint("instance_id", "meter", "boot_id"),
    CheckConstraint("meter IN ('allocated', 'ready')", name="meter"),
    CheckConstraint("end_us IS NULL OR end_us >= start_us", name="order"),
)

# Billing: the price book. The newest row not after an instant is the price at that instant.
price = Table(
    "price",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("cloud", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("sku", Text, nullable=False),  # cpu.S, gpu.none, disk.M; later an instance type
    Column("nano_usd_per_hour", BigInteger, nullable=False),
    Column("effective_us", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    UniqueConstraint("cloud", "region", "sku", "effective_us"),
    CheckConstraint("nano_usd_per_hour >= 0", name="price"),
)

# Billing: one line per rated segment, never edited.
line_item = Table(
    "line_item",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("segment_id", BigInteger, ForeignKey("segment.id"), nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("seconds", BigInteger, nullable=False),
    Column("nano_usd_per_hour", BigInteger, nullable=False),
    Column("amount_micro_usd", BigInteger, nullable=False),
    Index(None, "owner", "start_us"),
)

# Billing: double entry; triggers forbid UPDATE and DELETE on both.
journal = Table(
    "journal",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("idem_key", Text, nullable=False, unique=True),
    Column("payload_sha256", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
)
entry = Table(
    "entry",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("journal_id", BigInteger, ForeignKey("journal.id"), nullable=False),
    Column("account", Text, nullable=False),
    Column("amount_micro", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Index(None, "account"),
    Index(None, "journal_id"),
)

# Console: datasets, and who was granted what ('*' is everyone who may log in).
dataset = Table(
    "dataset",
    metadata,
    Column("name", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("policy", Text, nullable=False),  # strict | ranges | opens
)
dataset_grant = Table(
    "dataset_grant",
    metadata,
    Column("dataset", Text, ForeignKey("dataset.name"), primary_key=True),
    Column("grantee", Text, primary_key=True),
    Column("granted_us", BigInteger, nullable=False),
)

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
# A path may be longer than what PostgreSQL lets an index entry be.
Index(
    "ix_audit_event_dataset_path",
    audit_event.c.dataset,
    func.substr(audit_event.c.path, 1, 200),
)

APPEND_ONLY = ("journal", "entry", "line_item")


def upgrade() -> None:
    """Create every table, and refuse edits of what is posted."""
    connection = op.get_bind()
    metadata.create_all(connection)
    if connection.dialect.name == "sqlite":
        for table in APPEND_ONLY:
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: post a reversal'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION refuse_edit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '% is append-only: post a reversal', TG_TABLE_NAME; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_edit()"
        )
