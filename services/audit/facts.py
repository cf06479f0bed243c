"""What Prometheus is told of records, the log over them, and what was found."""

from sqlalchemy import Connection, func, select

from nightingale_hub.metrics import Fact, Rows
from nightingale_hub.tables.audit import audit_batch, audit_stream
from nightingale_hub.tables.log import finding, log_checkpoint, log_leaf


def _events(conn: Connection) -> Rows:
    return [(int(conn.scalar(select(func.coalesce(func.sum(audit_stream.c.last_seq), 0))) or 0),)]


def _unindexed(conn: Connection) -> Rows:
    return conn.execute(
        select(func.count()).select_from(audit_batch).where(audit_batch.c.is_indexed.is_(False))
    ).all()


def _signed(conn: Connection) -> Rows:
    at_us = conn.scalar(select(func.max(log_checkpoint.c.at_us)))
    return [(None if at_us is None else at_us / 1e6,)]


def _witnessed(conn: Connection) -> Rows:
    at_us = conn.scalar(
        select(func.max(log_checkpoint.c.at_us)).where(log_checkpoint.c.witnessed_us.is_not(None))
    )
    return [(None if at_us is None else at_us / 1e6,)]


def _leaves(conn: Connection) -> Rows:
    return conn.execute(
        select(func.count()).select_from(log_leaf).where(log_leaf.c.position.is_(None))
    ).all()


def _findings(conn: Connection) -> Rows:
    return conn.execute(
        select(finding.c.severity, func.count())
        .where(finding.c.state == "open")
        .group_by(finding.c.severity)
    ).all()


FACTS = (
    Fact("audit_events_total", "Events that are durable.", (), _events),
    Fact("audit_batches_unindexed", "Batches that no search finds yet.", (), _unindexed),
    Fact("log_checkpoint_timestamp_seconds", "When the log's head was last signed.", (), _signed),
    Fact(
        "log_witnessed_timestamp_seconds",
        "Of when the newest head is that every witness has.",
        (),
        _witnessed,
    ),
    Fact("log_leaves_waiting", "Leaves that have no place in the log yet.", (), _leaves),
    Fact("findings", "Findings that nobody has taken up.", ("severity",), _findings),
)
