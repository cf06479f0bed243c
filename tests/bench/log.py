"""What the audit log takes, indexes and finds, beside rsyslog and syslog-ng on the same core.

Ours is durable: each line decoded and checked, its root, chain and signature verified, the frame
synced, its row committed, then acknowledged. The peers parse the same JSON into a file and do
none of that. The server runs on one core, who sends on the other.
"""

import asyncio
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles

from sqlalchemy import func, select

from nightingale_hub.database import Database
from nightingale_hub.lease import take_lease
from nightingale_hub.ports import find_free_ports
from nightingale_hub.service import Context
from nightingale_hub.services.audit.batch import Batch, hash_lines
from nightingale_hub.services.audit.frame import encode
from nightingale_hub.services.audit.index import Index
from nightingale_hub.services.audit.search import Filters, list_events
from nightingale_hub.services.audit.segments import Segments
from nightingale_hub.services.audit.stream import open_stream, record
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.audit import audit_event
from tests.audit import AT_US, Sender, add_instance, make_line, pack
from tests.bench import log_peers
from tests.bench.frame import Arm, Figure, Report, run_paired
from tests.bench.statistics import ratios
from tests.postgres import running_postgres

CORE, OTHER_CORE = 0, 1
STREAMS = 8
BATCH_LINES = 1000
FILES, READ_AGAIN = 20_000, 7
CEE = b"<13>1 2026-11-24T00:00:00Z hub audit - - - @cee: "


def make_path(number: int) -> str:
    """Return the path of a file of the dataset, of which there are `FILES`."""
    return f"CT/series-{number // 100:04d}/{number:06d}.dcm"


def make_batch(sender: Sender, first: int, rng: random.Random) -> list[bytes]:
    """Return a batch of reads, as a training run makes them."""
    return [
        make_line(
            seq, owner=sender.owner, ts=AT_US + seq * 1000, len=131072, fid=seq // READ_AGAIN,
            path=make_path(rng.randrange(FILES)),
        )
        for seq in range(first, first + BATCH_LINES)
    ]  # fmt: skip


class Ingest:
    """One audit service and its senders, each with its own connection and the next batches."""

    def __init__(self, port: int, database: Database, batches: int) -> None:
        self.port, self.batches = port, batches
        self.senders = [add_instance(database, f"user{n}") for n in range(STREAMS)]
        self.rng = random.Random(1)
        self.next_seq = 1
        self.acked_s: list[float] = []
        for sender in self.senders:
            reply = self._post(
                self._connect(), sender, "open", json.dumps(sender.announcement).encode(), {}
            )
            assert reply == 200, reply

    def __call__(self) -> float:
        """Send the next batches of every stream and return the seconds until all are durable."""
        work = [(sender, self._prepare(sender)) for sender in self.senders]
        self.next_seq += self.batches * BATCH_LINES
        threads = [threading.Thread(target=self._send, args=each) for each in work]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    def _prepare(self, sender: Sender) -> list[tuple[bytes, dict[str, str]]]:
        prepared = []
        for number in range(self.batches):
            first = self.next_seq + number * BATCH_LINES
            lines = make_batch(sender, first, self.rng)
            seal = sender.seal(first, lines)
            sender.chains[seal.last_seq] = seal.chain
            headers = {
                "Content-Encoding": "zstd",
                "X-First-Seq": str(first),
                "X-Last-Seq": str(seal.last_seq),
                "X-Prev-Chain": seal.prev_chain,
                "X-Chain": seal.chain,
                "X-Root": seal.root,
                "X-Signature": seal.signature,
            }
            prepared.append((pack(lines), headers))
        return prepared

    def _send(self, sender: Sender, prepared: list[tuple[bytes, dict[str, str]]]) -> None:
        connection = self._connect()
        for payload, headers in prepared:
            start = time.perf_counter()
            while (status := self._post(connection, sender, "batches", payload, headers)) != 200:
                assert status in (429, 503), status
                time.sleep(0.01)
            self.acked_s.append(time.perf_counter() - start)
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def _post(
        self,
        connection: http.client.HTTPConnection,
        sender: Sender,
        what: str,
        payload: bytes,
        headers: dict[str, str],
    ) -> int:
        path = f"/services/audit/api/streams/{sender.stream_id}/{what}"
        headers = {**headers, "Authorization": f"Bearer {sender.credential}"}
        connection.request("POST", path, payload, headers)
        response = connection.getresponse()
        response.read()
        return response.status


@contextmanager
def running_server(place: Path, database: Database) -> Iterator[int]:
    """Yield the port of an audit service on its core."""
    port = find_free_ports(1)[0]
    settings = NightingaleHub(state_dir=str(place / "state"), db_url=database.url)
    environment = settings.to_environment() | {
        "PATH": os.environ["PATH"],
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
        "JUPYTERHUB_API_TOKEN": "none",
    }
    command = ["taskset", "-c", str(CORE), sys.executable, "-m", "tests.bench.log_server"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                http.client.HTTPConnection("127.0.0.1", port, timeout=1).request("GET", "/")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def run(quick: bool) -> Report:
    """Measure ingest beside its peers, then the index and what it answers."""
    report = Report("log", notes=[DURABILITY])
    os.sched_setaffinity(0, {OTHER_CORE})
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure_ingest(report, Path(folder), quick)
        for engine in ("sqlite", "postgresql"):
            with tempfile.TemporaryDirectory() as folder:
                measure_index(report, Path(folder), engine, 100_000 if quick else 10_000_000)
    finally:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    return report


DURABILITY = (
    "durability: audit syncs and commits before it acknowledges; rsyslog and syslog-ng write to "
    "the page cache and acknowledge nothing"
)


def measure_ingest(report: Report, place: Path, quick: bool) -> None:
    batches, repetitions = (3, 3) if quick else (25, 20)
    count = STREAMS * batches * BATCH_LINES
    database = Database(f"sqlite:///{place / 'hub.sqlite'}")
    database.upgrade()
    with ExitStack() as stack:
        ingest = Ingest(stack.enter_context(running_server(place, database)), database, batches)
        arms: dict[str, Arm] = {"audit": ingest}
        rng = random.Random(2)
        lines = [
            line
            for at in range(1, count, BATCH_LINES)
            for line in make_batch(ingest.senders[0], at, rng)
        ]
        for name, peer, prefix in (
            ("rsyslog", log_peers.rsyslog, CEE),
            ("syslog-ng", log_peers.syslog_ng, b""),
        ):
            try:
                port, out = stack.enter_context(peer(place, CORE))
            except OSError as error:
                report.errors.append(f"{name}: {error}")
                continue
            arms[name] = lambda p=port, o=out, x=prefix: log_peers.feed(p, o, lines, x)  # type: ignore[misc]
        seconds = run_paired(arms, repetitions, random.Random(3))
    database.dispose()
    report.events += count * (repetitions + 1)
    rates = {name: [count / each for each in taken] for name, taken in seconds.items()}
    report.figures.append(Figure("audit, durable", "ev/s", rates["audit"], at_least=250_000))
    for name in sorted(rates.keys() - {"audit"}):
        report.figures.append(Figure(f"{name}, not durable", "ev/s", rates[name]))
        both = ratios(rates["audit"], rates[name])
        report.figures.append(Figure(f"audit / {name}", "ratio", both, at_least=3))
    acked_ms = [each * 1000 for each in ingest.acked_s]
    report.figures.append(Figure("acknowledge p99", "ms", [quantiles(acked_ms, n=100)[98]]))


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
        query_ms = [measure_query(database, senders, n) * 1000 for n in range(50)]
        report.figures.append(Figure(f"point query, {engine}", "ms", query_ms, at_most=5))


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


def measure_query(database: Database, senders: Sequence[Sender], number: int) -> float:
    """Return the seconds that "reads of this file by this person" takes."""
    rng = random.Random(number)
    path = make_path(rng.randrange(FILES))
    filters = Filters(owner=rng.choice(senders).owner, dataset="dicom", path=path)
    start = time.perf_counter()
    with database.read() as conn:
        list_events(conn, filters, 100, None)
    return time.perf_counter() - start
