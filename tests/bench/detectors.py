"""How fast the detectors look, and how long a honeyfile that is read goes unnoticed.

The throughput is of CPU time of one core, over events of an honest loader and of a copier; the
alert is from the batch's arrival at a running audit service to the committed finding.
"""

import asyncio
import random
import tempfile
import time
from pathlib import Path

from sqlalchemy import insert, select

from nightingale_hub.database import Database
from nightingale_hub.datasets import Dataset, ensure_dataset
from nightingale_hub.services.audit.detect.detector import Detector
from nightingale_hub.services.audit.event import Event
from nightingale_hub.tables.decoys import decoy
from nightingale_hub.tables.log import finding
from tests.audit import AT_US, add_instance, audit_service, make_line
from tests.bench.frame import Figure, Report
from tests.scenarios import START, Person, World, epochs

FILES = 2000
BATCH = 1000
ALERT_WITHIN_S = 5.0


def run(quick: bool) -> Report:
    """Measure both."""
    report = Report("detectors")
    repetitions = 3 if quick else 10
    events = _make_events()
    rates = [_look(events) / 1000 for _ in range(repetitions)]
    report.figures.append(Figure("events looked at", "k/CPU-s", rates, at_least=60.0))
    alerts = asyncio.run(_alert(repetitions))
    report.figures.append(Figure("honeyfile alert", "s", alerts, at_most=ALERT_WITHIN_S))
    report.figures.append(Figure("slowest alert", "s", [max(alerts)], at_most=ALERT_WITHIN_S))
    report.events = len(events) * repetitions
    return report


def _make_events() -> list[Event]:
    world = World(random.Random(1), count=FILES)
    sessions, _ = epochs(Person(world, "alice", random.Random(1)), START, 4, "shuffled")
    thief = Person(world, "mallory", random.Random(2))
    events = [event for session in sessions for event in session]
    events += thief.run(world.paths, START, 20)
    return sorted(events, key=lambda event: event.ts)


def _look(events: list[Event]) -> float:
    """Return events a CPU-second, in batches as they come, with a tick behind each."""
    detector = Detector(World(random.Random(1), count=FILES))
    started = time.process_time()
    for start in range(0, len(events), BATCH):
        batch = events[start : start + BATCH]
        detector.feed(batch, "i-1:b-1", batch[-1].ts)
        detector.tick(batch[-1].ts)
    return len(events) / (time.process_time() - started)


async def _alert(repetitions: int) -> list[float]:
    seconds = []
    with tempfile.TemporaryDirectory(prefix="nightingale-bench-") as folder:
        database = Database(f"sqlite:///{folder}/hub.sqlite")
        database.upgrade()
        _plant(database, repetitions)
        async with audit_service(database, Path(folder) / "state") as audit:
            for number in range(repetitions):
                sender = add_instance(database, f"owner{number}")
                line = make_line(1, owner=sender.owner, ds="ct", path="a/7.dcm")
                started = time.perf_counter()
                await audit.send(sender, 1, [line])
                while not _is_told(database, f"user:{sender.owner}"):
                    await asyncio.sleep(0.02)
                seconds.append(time.perf_counter() - started)
        database.dispose()
    return seconds


def _plant(database: Database, repetitions: int) -> None:
    with database.write() as conn:
        ensure_dataset(conn, Dataset("ct", "CT", "", "", "/nowhere"))
        for number in range(repetitions):
            conn.execute(
                insert(decoy).values(
                    dataset="ct", owner=f"owner{number}", path="a/7.dcm", sibling="a/6.dcm",
                    size=9, mtime_ns=0, seed="s", is_probe=False, planted_us=AT_US,
                )
            )  # fmt: skip


def _is_told(database: Database, subject: str) -> bool:
    with database.read() as conn:
        query = select(finding.c.id).where(finding.c.subject == subject, finding.c.kind == "H1")
        return conn.execute(query).first() is not None
