"""200 instances that read without a break for ten minutes: nothing is lost, nothing waits long.

Each sends 50 events a second in sealed batches of one second, as shippers do, over its own
connection to the real service. The sample is some instances for some seconds.
"""

import asyncio
import random
import tempfile
import time
from pathlib import Path
from statistics import quantiles

import httpx

from nightingale_hub.database import Database
from tests.audit import AuditClient, Sender, add_instance, audit_service, list_stored, make_lines

INSTANCES, SECONDS, EVENTS_PER_S = 200, 600, 50
SAMPLE_S = 4
ACK_P99_MS = 200.0


async def send_all(
    client: AuditClient, sender: Sender, seconds: int, offset_s: float, acked_ms: list[float]
) -> int:
    """Send one instance's batches, a second apart; return how often it was told to wait."""
    await asyncio.sleep(offset_s)
    waited = 0
    for second in range(seconds):
        begun = time.perf_counter()
        first = second * EVENTS_PER_S + 1
        lines = make_lines(first, first + EVENTS_PER_S - 1, owner=sender.owner)
        sent = time.perf_counter()
        while (reply := await client.send(sender, first, lines)).status_code != 200:
            assert reply.status_code in (429, 503), reply.text
            waited += 1
            await asyncio.sleep(float(reply.headers["Retry-After"]))
        acked_ms.append((time.perf_counter() - sent) * 1000)
        await asyncio.sleep(max(0.0, 1 - (time.perf_counter() - begun)))
    return waited


async def play(place: Path, instances: int, seconds: int, seed: int) -> tuple[str, bool]:
    database = Database(f"sqlite:///{place / 'hub.sqlite'}")
    database.upgrade()
    rng = random.Random(seed)
    senders = [add_instance(database, f"user{n}") for n in range(instances)]
    acked_ms: list[float] = []
    async with audit_service(database, place / "state") as audit:
        limits = httpx.Limits(max_connections=instances, max_keepalive_connections=instances)
        async with httpx.AsyncClient(
            base_url=audit.http.base_url, timeout=30, limits=limits
        ) as http:
            client = AuditClient(http, audit.segments)
            begun = time.perf_counter()
            waited = await asyncio.gather(
                *(send_all(client, each, seconds, rng.random(), acked_ms) for each in senders)
            )
            took_s = time.perf_counter() - begun
            for sender in senders:
                await audit.wait_indexed(sender, seconds * EVENTS_PER_S)
            lag_s = time.perf_counter() - begun - took_s
    expected = list(range(1, seconds * EVENTS_PER_S + 1))
    lost = [
        each.stream_id
        for each in senders
        if [seq for seq, _ in list_stored(database, each)] != expected
    ]
    database.dispose()
    p99_ms = quantiles(acked_ms, n=100)[98]
    events = instances * seconds * EVENTS_PER_S
    text = (
        f"# The audit log under load\n\n"
        f"`bin/soak log`: {instances} instances of {EVENTS_PER_S} events/s for {seconds} s, "
        f"seed {seed}; sender and service share this machine.\n\n"
        f"| | |\n|---|---|\n"
        f"| events acknowledged and searchable, each once | {events if not lost else 'NOT ALL'} |\n"
        f"| streams that lost or doubled a line | {len(lost)} |\n"
        f"| events/s | {events / took_s:,.0f} |\n"
        f"| acknowledge p99 | {p99_ms:.0f} ms (at most {ACK_P99_MS:.0f}) |\n"
        f"| told to come again | {sum(waited)} |\n"
        f"| searchable after the last | {lag_s:.1f} s |\n"
    )
    return text, not lost and p99_ms < ACK_P99_MS


def run(sample: int | None, seed: int) -> tuple[str, bool]:
    """Play it whole, or *sample* instances for some seconds, without judging how fast."""
    with tempfile.TemporaryDirectory() as folder:
        if sample is None:
            return asyncio.run(play(Path(folder), INSTANCES, SECONDS, seed))
        text, _ = asyncio.run(play(Path(folder), sample, SAMPLE_S, seed))
        return text, "NOT ALL" not in text
