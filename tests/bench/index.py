"""How fast batches become rows that can be searched, what a row takes, and how long a look does.

On SQLite and PostgreSQL, hot, then moved to Parquet: the same point query over all of them, "reads
of this file by this person". Events are those of training runs over 20,000 files by eight people.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import func, select

from nightingale_hub.database import Database
from nightingale_hub.lease import take_lease
from nightingale_hub.service import Context
from nightingale_hub.services.audit.archive import Archive
from nightingale_hub.services.audit.batch import Batch, hash_lines
from nightingale_hub.services.audit.cold import Mover, Store
from nightingale_hub.services.audit.frame import encode
from nightingale_hub.services.audit.history import History
from nightingale_hub.services.audit.index import Index
from nightingale_hub.services.audit.search import Filters
from nightingale_hub.services.audit.segments import Segments
from nightingale_hub.services.audit.stream import open_stream, record
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.audit import audit_event, audit_part
from tests.audit import AT_US, Sender, add_instance, pack
from tests.bench.frame import Figure, Report
from tests.bench.log import BATCH_LINES, FILES, STREAMS, make_batch, make_path
from tests.postgres import running_postgres

LATER_US = AT_US + 300 * 86_400_000_000  # when every event is old


def run_sqlite(quick: bool) -> Report:
    """Measure the index in SQLite, and the cold parts made of it."""
    return run("sqlite", 100_000 if quick else 10_000_000)


def run_postgresql(quick: bool) -> Report:
    """Measure the index in PostgreSQL."""
    return run("postgresql", 100_000 if quick else 10_000_000)


def run(engine: str, count: int) -> Report:
    """Measure *count* events on *engine*."""
    report = Report(f"index-{engine}")
    with tempfile.TemporaryDirectory() as folder:
        measure_index(report, Path(folder), engine, count)
    return report


def measure_index(report: Report, place: Path, engine: str, count: int) -> None:
    with ExitStack() as stack:
        url = f"sqlite:///{place / 'hub.sqlite'}"
        if engine == "postgresql":
            url = stack.enter_context(running_postgres()).format(name="postgres")
        database = Database(url)
        stack.callback(database.dispose)
        database.upgrade()
        settings = NightingaleHub(state_dir=str(place / "state"), db_url=url)
        epoch = database.transact(lambda conn: take_lease(conn, "audit", "bench", AT_US))
        context = Context("audit", settings, database, epoch)
        segments = Segments(place / "state" / "audit" / "segments", epoch)
        senders = store(database, segments, count)
        before = measure_bytes(database, place)
        start = time.perf_counter()
        asyncio.run(Index(context, segments).step())
        took_s = time.perf_counter() - start
        with database.read() as conn:
            indexed = conn.execute(select(func.count()).select_from(audit_event)).scalar_one()
        report.events += count
        report.lost_events += count - indexed
        size = (measure_bytes(database, place) - before) / count
        limit = 160 if engine == "sqlite" else 250
        report.figures.append(Figure(f"index, {engine}", "ev/s", [count / took_s], at_least=60_000))
        report.figures.append(Figure(f"index, {engine}", "B/ev", [size], at_most=limit))
        store_of = Store(settings)
        history = History(Archive(store_of))
        hot_ms = [measure_query(database, history, senders, n) * 1000 for n in range(50)]
        report.figures.append(Figure(f"point query, {engine}", "ms", hot_ms, at_most=5))
        if engine == "sqlite":
            measure_cold(report, context, Mover(context, store_of, lambda: LATER_US))
            cold_ms = [measure_query(database, history, senders, n) * 1000 for n in range(50)]
            report.figures.append(Figure("point query, cold", "ms", cold_ms, at_most=300))


def measure_cold(report: Report, context: Context, mover: Mover) -> None:
    start = time.perf_counter()
    asyncio.run(mover.step())
    took_s = time.perf_counter() - start
    with context.db.read() as conn:
        sums = select(func.sum(audit_part.c.rows), func.sum(audit_part.c.size))
        rows, size = map(int, conn.execute(sums).one())
        left = conn.execute(select(func.count()).select_from(audit_event)).scalar_one()
    report.lost_events += report.events - rows - left
    report.figures.append(Figure("moved and verified", "ev/s", [rows / took_s]))
    report.figures.append(Figure("cold", "B/ev", [size / rows], at_most=65))


def store(database: Database, segments: Segments, count: int) -> list[Sender]:
    """Store *count* events of some streams as the writer does."""
    senders = [add_instance(database, f"user{n}") for n in range(STREAMS)]
    rng = random.Random(4)
    with database.write() as conn:
        for sender in senders:
            open_stream(conn, sender.stream_id, sender.owner, sender.signer.public_key, AT_US)
    for number in range(count // BATCH_LINES):
        sender = senders[number % STREAMS]
        first = number // STREAMS * BATCH_LINES + 1
        lines = make_batch(sender, first, rng)
        seal = sender.seal(first, lines)
        sender.chains[seal.last_seq] = seal.chain
        text = b"".join(line + b"\n" for line in lines)
        batch = Batch(
            sender.stream_id, sender.instance_id, sender.owner, first, seal.last_seq,
            hash_lines(text), pack(lines), seal, sender.signer.public_key, number + 1,
        )  # fmt: skip
        places = segments.append([encode(batch, AT_US)])
        with database.write() as conn:
            record(conn, [(batch, places[0])], AT_US)
    return senders


def measure_bytes(database: Database, place: Path) -> int:
    """Return how large the index is."""
    if database.dialect == "sqlite":
        with database.read() as conn:
            pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
            return int(pages) * int(conn.exec_driver_sql("PRAGMA page_size").scalar_one())
    with database.read() as conn:
        query = (
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c "
            "WHERE c.relkind = 'r' AND c.relname LIKE 'audit_%%' AND c.relname <> 'audit_batch'"
        )
        return int(conn.exec_driver_sql(query).scalar_one())


def measure_query(
    database: Database, history: History, senders: Sequence[Sender], number: int
) -> float:
    """Return the seconds that "reads of this file by this person" takes."""
    rng = random.Random(number)
    path = make_path(rng.randrange(FILES))
    filters = Filters(owner=rng.choice(senders).owner, dataset="dicom", path=path)
    start = time.perf_counter()
    with database.read() as conn:
        history.list_events(conn, filters, 100, None)
    return time.perf_counter() - start
