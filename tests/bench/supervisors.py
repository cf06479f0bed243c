"""What a launch costs beside what nobody can do without, and how many servers one meter can ask.

Our own time is a spawn's, from when it is asked for until it is ready, without Terraform and
without Jupyter's boot. By hand is the same server started from a shell.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Row

from nightingale_hub.clock import now_us
from nightingale_hub.instances import State
from nightingale_hub.offers import Size
from nightingale_hub.ports import find_free_ports
from nightingale_hub.probe import probe
from nightingale_hub.processes import Identity
from nightingale_hub.requests import Kind, Request, ask
from nightingale_hub.resizing import find_last
from nightingale_hub.services.metering.health import Watch
from tests.bench.frame import Figure, Report
from tests.bench.terraform import measure_terraform
from tests.client import SMALL, wait_for
from tests.hub import Hub, list_processes, read_command, running_hub

NONCE = "of every endpoint"
PORTS = 20
SPAWNS, QUICK_SPAWNS = 6, 2
ENDPOINTS, QUICK_ENDPOINTS = 10_000, 1_000
ROUNDS, QUICK_ROUNDS = 20, 4

# Answers each question on each connection; one process, so that the meter has a core of its own.
ANSWERER = """
import asyncio, sys
ANSWER = b"HTTP/1.1 200 OK\\r\\nX-Nightingale-Instance: %s\\r\\nContent-Length: 2\\r\\n\\r\\n{}"
class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(ANSWER * data.count(b"\\r\\n\\r\\n"))
async def main():
    loop = asyncio.get_running_loop()
    for port in sys.argv[1:]:
        await loop.create_server(Answer, "127.0.0.1", int(port), backlog=4096)
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def run(quick: bool) -> Report:
    """Measure spawns, polls, then Terraform through the broker."""
    report = Report("supervisors")
    _measure_spawns(report, QUICK_SPAWNS if quick else SPAWNS)
    _measure_polls(
        report,
        QUICK_ENDPOINTS if quick else ENDPOINTS,
        QUICK_ROUNDS if quick else ROUNDS,
    )
    measure_terraform(report, quick)
    return report


def _measure_spawns(report: Report, count: int) -> None:
    own_ms, more_s, total_s, hand_s, resize_s = [], [], [], [], []
    with running_hub() as hub:
        alice = hub.client("alice")
        for number in range(count + 1):
            alice.start(SMALL)
            row, answered_us = _wait_answered(hub)
            row = hub.wait_state("alice", "running")
            server = _find_server(row.id)
            spans = [_find_terraform(hub, row.id), (_started_us(server), answered_us)]
            by_hand_s = _start_by_hand(server)
            alice.wait_ready()
            resized_s = _resize(hub, row.id)
            alice.stop()
            hub.wait_state("alice", "stopped")
            alice.wait_stopped()
            if number == 0:
                continue  # the first warms up
            spawn_us = row.ready_us - row.created_us
            own_ms.append((spawn_us - _union_us(spans, row.created_us, row.ready_us)) / 1e3)
            total_s.append(spawn_us / 1e6)
            hand_s.append(by_hand_s)
            resize_s.append(resized_s)
            more_s.append(spawn_us / 1e6 - by_hand_s)
    report.figures += [
        Figure("own time in a local spawn", "ms", own_ms, at_most=150),
        Figure("local spawn over by hand", "s", more_s, at_most=1.0),
        Figure("local spawn", "s", total_s),
        Figure("jupyterhub-singleuser by hand", "s", hand_s),
        Figure("whole resize of a local server", "s", resize_s, at_most=15),
    ]


def _measure_polls(report: Report, endpoints: int, rounds: int) -> None:
    ports = find_free_ports(PORTS)
    command = [sys.executable, "-c", ANSWERER % NONCE, *map(str, ports)]
    answerer = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=_raise_limit)
    try:
        assert answerer.stdout is not None
        answerer.stdout.readline()
        asker = [sys.executable, "-m", "tests.bench.supervisors"]
        told = subprocess.run(
            [*asker, str(endpoints), str(rounds), *map(str, ports)],
            capture_output=True,
            text=True,
            timeout=60 + 3 * rounds,
            check=True,
        )
    finally:
        answerer.kill()
        answerer.wait()
        if answerer.stdout is not None:
            answerer.stdout.close()
    result = json.loads(told.stdout)
    report.figures += [
        Figure(f"p99 lateness of {endpoints:,} polls", "s", result["p99_s"], at_most=1.0),
        Figure("CPU of the meter", "cores", result["cores"], at_most=1.0),
    ]
    report.events, report.lost_events = result["polls"], result["missed"]


async def _ask_all(endpoints: int, rounds: int, ports: list[int]) -> dict[str, Any]:
    """Ask every endpoint once a second on one core; the first two rounds connect."""
    rows: list[Any] = [
        SimpleNamespace(
            id=f"i-{number}",
            actual=State.RUNNING,
            boot_id="b",
            host="127.0.0.1",
            port=ports[number % len(ports)],
            base_url="/",
            api_nonce=NONCE,
        )
        for number in range(endpoints)
    ]
    watch = Watch(now_us)
    p99_s, cores, missed = [], [], 0
    for number in range(rounds + 2):
        began_us, cpu_s = now_us(), time.process_time()
        watch.ask(rows)
        await asyncio.sleep(max(0.0, 1 - (now_us() - began_us) / 1e6))
        late_s = []
        for row in rows:
            health = watch.find(row.id)
            ok_us = None if health is None else health.last_ok_us
            late_s.append(9.0 if ok_us is None or ok_us < began_us else (ok_us - began_us) / 1e6)
        if number >= 2:
            missed += sum(each >= 1 for each in late_s)
            p99_s.append(sorted(late_s)[int(len(late_s) * 0.99)])
            cores.append(time.process_time() - cpu_s)
    await watch.stop()
    return {"p99_s": p99_s, "cores": cores, "missed": missed, "polls": endpoints * rounds}


def _wait_answered(hub: Hub) -> tuple[Row[Any], int]:
    """Return alice's instance and when its server first answered."""
    row = wait_for(
        lambda: (row := hub.find_instance("alice")) is not None and row.port and row,
        "it called home",
    )
    while not asyncio.run(probe(row.host, row.port, row.base_url, row.api_nonce, 1)):
        time.sleep(0.01)
    return row, now_us()


def _resize(hub: Hub, instance_id: str) -> float:
    """Ask for twice the CPUs, and return how long that took until the server was there again."""
    wish = Request(instance_id, Kind.RESIZE, "alice", "a benchmark", size=Size("M"))
    asked_us = now_us()
    hub.database.transact(lambda conn: ask(conn, wish, asked_us))

    def look() -> Row[Any] | None:
        with hub.database.read() as conn:
            row = find_last(conn, instance_id)
        return row if row is not None and row.ended_us is not None else None

    row: Row[Any] = wait_for(look, "the resize is over")
    assert row.phase == "done", row.outcome
    return float(row.ended_us - asked_us) / 1e6


def _find_server(instance_id: str) -> Identity:
    found: list[Identity] = wait_for(
        lambda: [
            each
            for each in list_processes(instance_id)
            if "jupyterhub-singleuser" in read_command(each)
        ],
        "its server runs",
    )
    return found[0]


def _find_terraform(hub: Hub, instance_id: str) -> tuple[int, int]:
    [run] = (hub.state / "terraform" / instance_id / "runs").glob("*-apply")
    times = [(run / name).stat().st_mtime_ns // 1000 for name in ("pid.json", "status.json")]
    return times[0], times[1]


def _started_us(process: Identity) -> int:
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    return now_us() - int((up_s - process.start_ticks / os.sysconf("SC_CLK_TCK")) * 1e6)


def _start_by_hand(server: Identity) -> float:
    """Start the same server from here, and return how long it took to answer."""
    folder = Path(f"/proc/{server.pid}")
    entries = (folder / "environ").read_text().split("\0")
    environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    command = [each for each in (folder / "cmdline").read_text().split("\0") if each]
    owner = folder.stat()
    [port] = find_free_ports(1)
    prefix = environment["JUPYTERHUB_SERVICE_PREFIX"]
    nonce = json.loads(command[-1].partition("=")[2])["headers"]["X-Nightingale-Instance"]
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, owner.st_uid, owner.st_gid)
        environment |= {
            "HOME": home,
            "JUPYTER_RUNTIME_DIR": f"{home}/runtime",
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}{prefix}",
        }
        began_s = time.monotonic()
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=owner.st_uid,
            group=owner.st_gid,
            extra_groups=[],
        )
        try:
            while not asyncio.run(probe("127.0.0.1", port, prefix, nonce, 1)):
                assert process.poll() is None and time.monotonic() - began_s < 60
                time.sleep(0.01)
            return time.monotonic() - began_s
        finally:
            process.kill()
            process.wait()


def _union_us(spans: list[tuple[int, int]], start_us: int, end_us: int) -> int:
    """Return how much of [start, end) the *spans* cover together."""
    covered, at_us = 0, start_us
    for low, high in sorted(spans):
        low, high = max(low, at_us), min(high, end_us)
        if high > low:
            covered, at_us = covered + high - low, high
    return covered


def _raise_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    count, times, *numbers = (int(each) for each in sys.argv[1:])
    _raise_limit()
    os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[0]])
    print(json.dumps(asyncio.run(_ask_all(count, times, numbers))))
