"""Months of the index: on PostgreSQL each is a partition of its own, made before its first row."""

import re
from collections.abc import Iterable
from contextlib import suppress

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nightingale_hub.clock import month_bounds_us, now_us, to_datetime

PARTITION = re.compile(r"audit_event_[0-9]{4}_[0-9]{2}")
DAY_US = 24 * 3600 * 1_000_000
# A sender's clock may be wrong: what claims another time stands in the partition for the rest.
OLDEST_US = 400 * DAY_US
NEWEST_US = 2 * DAY_US


def ensure_months(conn: Connection, months: Iterable[str]) -> None:
    """Make the partition of each month that is near enough, where the engine has them."""
    if conn.dialect.name != "postgresql":
        return
    at_us = now_us()
    oldest, newest = format_month(at_us - OLDEST_US), format_month(at_us + NEWEST_US)
    for month in sorted(each for each in months if oldest <= each <= newest):
        name = f"audit_event_{month.replace('-', '_')}"
        if conn.exec_driver_sql("SELECT to_regclass(%s)", (name,)).scalar_one() is not None:
            continue
        start_us, end_us = month_bounds_us(month)
        # Where the rest holds rows of this month already, they and the new ones stay there.
        with suppress(DBAPIError), conn.begin_nested():
            conn.exec_driver_sql(
                f"CREATE TABLE {name} PARTITION OF audit_event "
                f"FOR VALUES FROM ({start_us}) TO ({end_us})"
            )


def drop_months(conn: Connection, before_us: int) -> None:
    """Drop the partitions of months before *before_us* from which the last row has gone."""
    if conn.dialect.name != "postgresql":
        return
    before = f"audit_event_{format_month(before_us).replace('-', '_')}"
    found = conn.exec_driver_sql(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'audit_event'::regclass ORDER BY c.relname"
    ).scalars()
    for name in [each for each in found if PARTITION.fullmatch(each) and each < before]:
        # Whoever reads now holds it, and others would wait behind us: the next move tries again.
        with suppress(DBAPIError), conn.begin_nested():
            conn.exec_driver_sql("SET LOCAL lock_timeout = '200ms'")
            conn.exec_driver_sql("LOCK TABLE audit_event IN ACCESS EXCLUSIVE MODE")
            # The name is made of digits alone.
            if conn.exec_driver_sql(f"SELECT 1 FROM {name} LIMIT 1").first() is None:  # noqa: S608
                conn.exec_driver_sql(f"DROP TABLE {name}")


def format_month(at_us: int) -> str:
    """Return the month of an instant: `2026-11`."""
    return to_datetime(at_us).strftime("%Y-%m")
