"""Usage as metering leaves it, for tests of what bills it."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select

from nightingale_hub.clock import US_PER_S
from nightingale_hub.instances import get
from nightingale_hub.services.billing.posting import list_unrated, post_segments
from nightingale_hub.services.billing.prices import parse_rate
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.metering import segment
from tests.record import add_instance

SCENARIOS = Path(__file__).with_name("statements")


def add_segment(
    conn: Connection,
    instance_id: str,
    start_us: int,
    end_us: int | None,
    boot_id: str = "b",
    **columns: Any,
) -> None:
    """Write a segment of the instance's shape, `ready` but for *columns*."""
    row = get(conn, instance_id)
    shape = ("instance_type", "cpu", "gpu", "disk", "nano_usd_per_hour")
    values = {
        "instance_id": instance_id,
        "meter": "ready",
        "boot_id": boot_id,
        "start_us": start_us,
        "seen_us": end_us or start_us,
        "end_us": end_us,
        **{name: getattr(row, name) for name in shape},
    }
    conn.execute(insert(segment).values(values | columns))


def add_usage(
    conn: Connection, start_us: int, end_us: int | None, nano: int, owner: str = "alice", name=""
) -> str:
    """Write an instance with one `ready` segment and return the instance's id."""
    actual = "running" if end_us is None else "stopped"
    key = add_instance(conn, owner=owner, server_name=name, nano_usd_per_hour=nano, actual=actual)
    add_segment(conn, key, start_us, end_us)
    return key


def post_all(conn: Connection, at_us: int = 0) -> int:
    """Post what ended and return how many lines are new."""
    return sum(post_segments(conn, [row], at_us) for row in list_unrated(conn))


def count_lines(conn: Connection) -> int:
    """Return how many lines there are."""
    return conn.execute(select(func.count()).select_from(line_item)).scalar_one()


def parse_time(text: str) -> int:
    """Return `2026-11-23 10:00:00[.ffffff]`, UTC, in µs."""
    pattern = "%Y-%m-%d %H:%M:%S.%f" if "." in text else "%Y-%m-%d %H:%M:%S"
    moment = datetime.strptime(text, pattern).replace(tzinfo=UTC)
    return int(moment.replace(microsecond=0).timestamp()) * US_PER_S + moment.microsecond


def load_scenario(conn: Connection, text: str) -> tuple[str, str, list[str]]:
    """Write the usage of a scenario; return owner and month of its statement, and its lines."""
    usage, _, statement = text.partition("\nstatement ")
    for line in usage.splitlines():
        found = re.fullmatch(r"(\w+)/(\S+) +(\S+) USD/h +(.+) -> (.+)", line.strip())
        if found:
            owner, name, rate, start, end = found.groups()
            end_us = parse_time(end)
            add_usage(conn, parse_time(start), end_us, parse_rate(rate), owner, name)
    head, *lines = statement.strip().splitlines()
    owner, month = head.split()
    return owner, month, [" ".join(line.split()) for line in lines]
