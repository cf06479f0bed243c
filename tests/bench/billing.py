"""How fast use becomes money: segments rated and posted, a month's statements, a live balance.

On SQLite, in a file on this machine's disk. A year of many instances is rated twice, by two raters
that share nothing, and their bytes are held against each other.
"""

import hashlib
import json
import random
import tempfile
import time
from pathlib import Path

from sqlalchemy import Connection

from nightingale_hub.bulk import insert_rows
from nightingale_hub.clock import US_PER_S
from nightingale_hub.database import Database
from nightingale_hub.services.billing.account import write_statement
from nightingale_hub.services.billing.biller import BATCH
from nightingale_hub.services.billing.ledger import Accounts, find_balance
from nightingale_hub.services.billing.posting import list_unrated, post_segments
from nightingale_hub.services.billing.rater import Rater
from nightingale_hub.services.billing.statement import summarize_cost
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import segment
from tests.bench.frame import Figure, Report

S = US_PER_S
NOV = 1_793_491_200 * S  # 2026-11-01
YEAR = 365 * 86_400 * S
OWNERS = 1_000
SEGMENTS, QUICK_SEGMENTS = 1_000_000, 20_000
INSTANCES, QUICK_INSTANCES = 1_000, 100


def run(quick: bool) -> Report:
    """Measure all four."""
    report = Report("billing")
    with tempfile.TemporaryDirectory(prefix="nightingale-bench-") as folder:
        database = Database(f"sqlite:///{Path(folder)}/hub.sqlite")
        database.upgrade()
        count = QUICK_SEGMENTS if quick else SEGMENTS
        with database.write() as conn:
            _add_usage(conn, OWNERS, count // OWNERS)
        _post(report, database, count)
        _write_statements(report, database, 50 if quick else OWNERS)
        _ask_balances(report, database)
        database.dispose()
    _rate_twice(report, QUICK_INSTANCES if quick else INSTANCES)
    return report


def _add_usage(conn: Connection, owners: int, each: int, length_us: int = 900 * S) -> None:
    """Write an instance for each owner, with so many ended segments of November."""
    rng = random.Random(1)
    shape = ("local-S", "S", "none", "S", 41_000_000)
    names = ("instance_type", "cpu", "gpu", "disk", "nano_usd_per_hour")
    rows, segments = [], []
    for owner in range(owners):
        key = f"i-{owner:012x}"
        rows.append((key, f"owner{owner}", "", "local", "here", *shape, "running", "running", NOV))
        start_us = NOV
        for number in range(each):
            end_us = start_us + rng.randrange(1, 2 * length_us)
            boot = f"{number:032x}"
            cause = "boot changed"
            segments.append((key, "ready", boot, start_us, end_us, end_us, cause, *shape))
            start_us = end_us
    columns = "id owner server_name cloud region".split()
    insert_rows(conn, instance, (*columns, *names, "wanted", "actual", "created_us"), rows)
    columns = "instance_id meter boot_id start_us seen_us end_us cause".split()
    insert_rows(conn, segment, (*columns, *names), segments)


def _post(report: Report, database: Database, count: int) -> None:
    """Rate and post every segment, batch by batch as the service does."""
    rates, after_id, posted = [], 0, 0
    while True:
        started = time.perf_counter()
        with database.read() as conn:
            rows = list_unrated(conn, after_id, BATCH)
        if not rows:
            break
        after_id = rows[-1].id
        posted += database.transact(lambda conn, rows=rows: post_segments(conn, rows, NOV))  # type: ignore[misc]
        rates.append(len(rows) / (time.perf_counter() - started) / 1000)
    report.figures.append(Figure("segments rated and posted", "k/s", rates, at_least=50.0))
    report.events, report.lost_events = count, count - posted


def _write_statements(report: Report, database: Database, count: int) -> None:
    started = time.perf_counter()
    for number in range(count):
        with database.read() as conn:
            write_statement(conn, f"user/owner{number}", "2026-11", "Nightingale", NOV + YEAR)
    took_s = (time.perf_counter() - started) * OWNERS / count
    report.figures.append(Figure("statements of 1,000 customers", "s", [took_s], at_most=60.0))


def _ask_balances(report: Report, database: Database) -> None:
    balances, costs = [], []
    for number in range(100):
        started = time.perf_counter()
        with database.read() as conn:
            find_balance(conn, Accounts(f"user/owner{number}").accrued)
        balances.append((time.perf_counter() - started) * 1000)
        started = time.perf_counter()
        with database.read() as conn:
            summarize_cost(conn, f"owner{number}", NOV + 5 * 86_400 * S)
        costs.append((time.perf_counter() - started) * 1000)
    report.figures.append(Figure("live balance", "ms", balances, at_most=5.0))
    report.figures.append(Figure("cost of a month, line by line", "ms", costs))


def _rate_twice(report: Report, instances: int) -> None:
    """Rate a year of *instances*, each with a boot a day, twice."""
    digests, took = [], []
    for _ in range(2):
        with tempfile.TemporaryDirectory(prefix="nightingale-bench-") as folder:
            database = Database(f"sqlite:///{Path(folder)}/hub.sqlite")
            database.upgrade()
            with database.write() as conn:
                _add_usage(conn, instances, 365, 86_400 * S)
            started = time.perf_counter()
            digest, after_id = hashlib.sha256(), 0
            with database.read() as conn:
                rater = Rater(conn)
                while rows := list_unrated(conn, after_id, 10_000):
                    after_id = rows[-1].id
                    for line in (line for row in rows for line in rater.make_lines(row)):
                        said = [line.key, line.start_us, line.end_us, line.pieces]
                        digest.update(json.dumps([*said, line.amount_micro]).encode())
            took.append(time.perf_counter() - started)
            database.dispose()
            digests.append(digest.hexdigest())
    if digests[0] != digests[1]:
        report.errors.append(f"a year rated twice differs: {digests}")
    report.figures.append(Figure(f"a year of {instances} instances rated", "s", took))
    report.notes.append(f"rated twice, the same bytes: sha256 {digests[0]}")
