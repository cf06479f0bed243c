"""What the audit log takes, beside rsyslog and syslog-ng on the same core.

Ours is durable: each line decoded and checked, its root, chain and signature verified, the frame
synced, its row committed, then acknowledged. The peers parse the same JSON into a file and do
none of that. The server runs on one core, who sends on the other.
"""

import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles

from nightingale_hub.database import Database
from nightingale_hub.ports import find_free_ports
from nightingale_hub.settings import NightingaleHub
from tests.audit import AT_US, Sender, add_instance, make_line, pack
from tests.bench import log_peers
from tests.bench.frame import Arm, Figure, Report, run_paired
from tests.bench.statistics import ratios

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
            seq, owner=sender.owner, ts=AT_US + seq * 1000 + rng.randrange(1000),
            off=131072 * rng.randrange(READ_AGAIN), len=rng.choice((131072, rng.randrange(131072))),
            dur=rng.randrange(20, 4000), fid=seq // READ_AGAIN, pid=rng.randrange(1000, 1008),
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
def running_server(place: Path, database: Database) -> Iterator[tuple[int, int]]:
    """Yield the port and the process of an audit service on its core."""
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
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(20)


def run(quick: bool) -> Report:
    """Measure ingest beside its peers."""
    report = Report("log", notes=[DURABILITY])
    os.sched_setaffinity(0, {OTHER_CORE})
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure_ingest(report, Path(folder), quick)
    finally:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    return report


DURABILITY = (
    "durability: audit syncs and commits before it acknowledges; rsyslog and syslog-ng write to "
    "the page cache and acknowledge nothing"
)


def read_cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_ingest(report: Report, place: Path, quick: bool) -> None:
    batches, repetitions = (3, 3) if quick else (12, 10)
    count = STREAMS * batches * BATCH_LINES
    database = Database(f"sqlite:///{place / 'hub.sqlite'}")
    database.upgrade()
    with ExitStack() as stack:
        server_port, pid = stack.enter_context(running_server(place, database))
        ingest = Ingest(server_port, database, batches)
        before_s = read_cpu_s(pid)
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
        used_s = read_cpu_s(pid) - before_s
    database.dispose()
    report.events += count * (repetitions + 1)
    rates = {name: [count / each for each in taken] for name, taken in seconds.items()}
    report.figures.append(Figure("audit, durable", "ev/s", rates["audit"], at_least=250_000))
    for name in sorted(rates.keys() - {"audit"}):
        report.figures.append(Figure(f"{name}, not durable", "ev/s", rates[name]))
        both = ratios(rates["audit"], rates[name])
        report.figures.append(Figure(f"audit / {name}", "ratio", both, at_least=3))
    of_cpu = count * (repetitions + 1) / used_s
    report.figures.append(Figure("audit, by CPU time", "ev/CPU-s", [of_cpu]))
    acked_ms = [each * 1000 for each in ingest.acked_s]
    report.figures.append(Figure("acknowledge p99", "ms", [quantiles(acked_ms, n=100)[98]]))
